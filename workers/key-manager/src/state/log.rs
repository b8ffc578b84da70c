//! Entries of the audit log: who was given what, under which rules, and what was refused. No
//! rows, no keys.

use std::collections::BTreeMap;

use sealift_signed_document::{Digest, DocumentError, canonical_json};
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryType {
    /// A version may be used.
    Activated,
    /// A guest was attested.
    Attested,
    /// A batch document was taken.
    BatchRegistered,
    /// A guest's own keys were certified.
    Certified,
    /// A channel points at another serial.
    ChannelSet,
    /// A version's keys were deleted.
    Erased,
    /// Rows of an encrypted layer were reserved, before they were decrypted.
    FheReserved,
    /// A result file was made from decrypted rows.
    FheResult,
    /// A floor was raised.
    FloorRaised,
    /// A user was granted the use of a model.
    Granted,
    /// A template or reference values are known.
    Installed,
    /// A model key was released.
    KeyReleased,
    /// A guest, batch or both are refused from now on.
    Quarantined,
    /// A receipt counts.
    ReceiptCommitted,
    /// A receipt came too late to count.
    ReceiptSuperseded,
    /// Something was refused.
    Refused,
    /// Every record is encrypted under another state key.
    Rekeyed,
    /// A version's data keys were wrapped under the KEK of its next revision.
    Rewrapped,
    /// A version is its next revision, under another KEK.
    Rotated,
    /// A run's receipts were signed for.
    RunReceipted,
    /// A session was granted.
    SessionGranted,
    /// A version's keys are kept.
    Staged,
    /// The key manager was opened.
    Unlocked,
    /// A file key was unwrapped.
    Unwrapped,
    /// A version's key is released no more.
    Withdrawn,
}

/// What is written of an event; place, time and seal are added when it is appended.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: EntryType,
    pub(crate) subjects: BTreeMap<&'static str, String>,
    /// The register document under whose rules it was decided.
    pub(crate) policy: Option<Digest>,
    /// Why it was refused; none when it was done.
    pub(crate) refusal: Option<String>,
}

impl Event {
    pub(crate) fn new<const N: usize>(
        kind: EntryType,
        subjects: [(&'static str, String); N],
    ) -> Self {
        Self {
            kind,
            subjects: BTreeMap::from(subjects),
            policy: None,
            refusal: None,
        }
    }

    pub(crate) fn under(self, policy: Digest) -> Self {
        Self {
            policy: Some(policy),
            ..self
        }
    }
}

/// A leaf of the log, in canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    /// Place in the log, from 0.
    pub seq: u64,
    /// Log time, Unix seconds; never below that of the entry before.
    pub time: u64,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EntryType,
    /// Digests and names of what it happened to.
    pub subjects: BTreeMap<String, String>,
    /// SHA-256 of the register document under whose rules it was decided.
    pub policy: Option<Digest>,
    /// `allowed`, or why it was refused.
    pub decision: String,
    /// Seal over all records as they are with this entry; only the key manager can check it.
    pub state: Digest,
}

const ALLOWED: &str = "allowed";

impl LogEntry {
    pub(crate) fn new(event: Event, seq: u64, time: u64, state: Digest) -> Self {
        let own = |(name, value): (&str, String)| (name.to_owned(), value);
        Self {
            seq,
            time,
            kind: event.kind,
            subjects: event.subjects.into_iter().map(own).collect(),
            policy: event.policy,
            decision: event.refusal.unwrap_or_else(|| ALLOWED.to_owned()),
            state,
        }
    }

    pub(crate) fn to_leaf(&self) -> Result<String, DocumentError> {
        canonical_json(self).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}
