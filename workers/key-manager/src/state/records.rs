//! What the records hold. Their ids are made here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use sealift_encrypted_batch::{Grant, GrantId};
use sealift_evidence::Assurance;
use sealift_kbs_protocol::{
    Name,
    command::{InstallKind, Register},
    erasure::Erasure,
};
use sealift_signed_document::{Digest, Envelope, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{database::Table, vault::Record};

/// Names of the key manager's own keys in [`Table::Keys`], each as PKCS#8.
pub(crate) const IDENTITY_KEY: &str = "identity";
pub(crate) const LOG_KEY: &str = "log";
pub(crate) const TLS_KEY: &str = "tls";

/// What the key manager was created with; fixed for good.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Founding {
    pub(crate) mode: Assurance,
}

impl Founding {
    pub(crate) const ID: &str = "founding";
}

impl Record for Founding {
    const TABLE: Table = Table::Settings;
}

/// The last change of one owner and model.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sequence {
    pub(crate) last: u64,
}

impl Sequence {
    pub(crate) fn id(root: &VerifyingKey, model: &Name) -> String {
        format!("sequence/{}/{model}", root.thumbprint())
    }
}

impl Record for Sequence {
    const TABLE: Table = Table::Settings;
}

/// A model and whose it is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    pub(crate) root: VerifyingKey,
    /// The highest serial that was registered.
    pub(crate) newest: u64,
    /// The lowest serial that is released.
    pub(crate) floor: u64,
    /// Where each channel points.
    pub(crate) channels: BTreeMap<Name, u64>,
}

impl Model {
    /// A model without versions, whose name its owner has just claimed.
    pub(crate) fn claimed_by(root: VerifyingKey) -> Self {
        Self {
            root,
            newest: 0,
            floor: 0,
            channels: BTreeMap::new(),
        }
    }

    /// Where a channel points.
    pub(crate) fn channel(&self, name: &str) -> Option<u64> {
        self.channels.get(&name.parse::<Name>().ok()?).copied()
    }
}

impl Record for Model {
    const TABLE: Table = Table::Models;
}

/// How far a version has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum VersionState {
    Staged,
    Active,
    Withdrawn,
    /// The keys are gone; what is left keeps the name and the serial from being used again.
    Erased,
}

/// A version, with the rules that its owner signed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    pub(crate) register: Register,
    /// SHA-256 of the register document.
    pub(crate) register_sha256: Digest,
    pub(crate) root: VerifyingKey,
    pub(crate) state: VersionState,
    /// What its last rotation replaced of what was registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rotated: Option<Rotated>,
}

/// The revision that a version was rotated to.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotated {
    pub(crate) revision: u64,
    pub(crate) manifest_sha256: Digest,
}

impl Version {
    pub(crate) fn id(model: &Name, version: &Name) -> String {
        format!("{model}/{version}")
    }

    /// How often it was rotated.
    pub(crate) fn revision(&self) -> u64 {
        self.rotated.map_or(0, |rotated| rotated.revision)
    }

    /// The only manifest that is attested and released.
    pub(crate) fn manifest_sha256(&self) -> Digest {
        self.rotated
            .map_or(self.register.manifest_sha256, |rotated| {
                rotated.manifest_sha256
            })
    }
}

impl Record for Version {
    const TABLE: Table = Table::Versions;
}

/// The id of the KEK that a version may be rotated to, for the version with the id `version`. No
/// resource path leads to it: names have no `/`.
pub(crate) fn next_kek_id(version: &str) -> String {
    format!("{version}/next")
}

/// Data keys that were wrapped under the next KEK, and are not released yet.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PendingRotation {
    pub(crate) revision: u64,
    pub(crate) keys_sha256: Digest,
}

impl PendingRotation {
    pub(crate) fn id(model: &Name, version: &Name) -> String {
        format!("rotation/{model}/{version}")
    }
}

impl Record for PendingRotation {
    const TABLE: Table = Table::Settings;
}

/// An erasure: to be signed for once the state key was changed, then with its receipt.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErasureRecord {
    pub(crate) erasure: Erasure,
    /// `erasure.v1`.
    pub(crate) receipt: Option<Envelope>,
}

impl ErasureRecord {
    /// What the ids of all erasures start with.
    pub(crate) const PREFIX: &'static str = "erasure/";

    pub(crate) fn id(model: &Name, version: &Name) -> String {
        format!("{}{model}/{version}", Self::PREFIX)
    }
}

impl Record for ErasureRecord {
    const TABLE: Table = Table::Settings;
}

/// The id of an encrypted layer's secret.
pub(crate) fn fhe_bundle_id(model: &Name, version: &Name, layer: &str) -> String {
    format!("{model}/{version}/{layer}")
}

/// A template or reference values, signed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Installed {
    pub(crate) kind: InstallKind,
    pub(crate) root: VerifyingKey,
    pub(crate) document: Envelope,
    /// The key that signed it, accepted when it was installed.
    pub(crate) signer: VerifyingKey,
}

impl Installed {
    pub(crate) fn id(root: &VerifyingKey, document: &Digest) -> String {
        format!("{}/{document}", root.thumbprint())
    }
}

impl Record for Installed {
    const TABLE: Table = Table::Installed;
}

/// Guests that hold a version's key.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leases {
    /// End of the lease (Unix seconds) by the thumbprint of the guest's key.
    pub(crate) holders: BTreeMap<String, u64>,
}

impl Record for Leases {
    const TABLE: Table = Table::Leases;
}

/// A grant and what was answered for it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantRecord {
    pub(crate) grant: Grant,
    pub(crate) root: VerifyingKey,
    /// `grant-ack.v1`.
    pub(crate) ack: Envelope,
}

impl GrantRecord {
    pub(crate) fn id(grant: GrantId) -> String {
        grant.to_string()
    }
}

impl Record for GrantRecord {
    const TABLE: Table = Table::Grants;
}

/// A user's batch.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRecord {
    pub(crate) document: Envelope,
    pub(crate) grant: GrantId,
    /// Refused from now on.
    pub(crate) quarantined: bool,
}

impl Record for BatchRecord {
    const TABLE: Table = Table::Batches;
}

/// How often a partition was unwrapped.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attempts {
    pub(crate) unwrapped: u32,
}

impl Attempts {
    pub(crate) fn id(batch: &Digest, partition: u32) -> String {
        format!("{batch}/{partition}")
    }
}

impl Record for Attempts {
    const TABLE: Table = Table::Attempts;
}

/// What was answered under one limit.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spent {
    pub(crate) rows: u64,
    pub(crate) answer_bits: u64,
}

impl Spent {
    pub(crate) fn of_grant(grant: GrantId) -> String {
        format!("grant/{grant}")
    }

    pub(crate) fn of_user(model: &Name, version: &Name, user: &VerifyingKey) -> String {
        format!("user/{model}/{version}/{}", user.thumbprint())
    }

    pub(crate) fn of_version(model: &Name, version: &Name) -> String {
        format!("version/{model}/{version}")
    }
}

impl Record for Spent {
    const TABLE: Table = Table::Budgets;
}

/// What was decrypted of a partition under one serial.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FheRows {
    /// H("fhe-row", …) of every row that was charged.
    pub(crate) charged: BTreeSet<Digest>,
    /// SHA-256 of every result file that was made.
    pub(crate) outputs: BTreeSet<Digest>,
}

impl FheRows {
    pub(crate) fn id(batch: &Digest, serial: u64, partition: u32) -> String {
        format!("{batch}/{serial}/{partition}")
    }
}

impl Record for FheRows {
    const TABLE: Table = Table::FheRows;
}

/// A guest that sent rows which no honest evaluation gives.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuarantinedGuest {
    /// Where it stands in the log.
    pub(crate) log_index: u64,
}

impl QuarantinedGuest {
    pub(crate) fn id(tee_pubkey: &Digest) -> String {
        format!("quarantine/{tee_pubkey}")
    }
}

impl Record for QuarantinedGuest {
    const TABLE: Table = Table::Settings;
}

/// The receipt that counts for a partition and serial.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commit {
    pub(crate) receipt: Envelope,
    pub(crate) run: String,
    pub(crate) partition: u32,
    pub(crate) log_index: u64,
}

impl Commit {
    pub(crate) fn id(batch: &Digest, serial: u64, partition: u32) -> String {
        format!("{}{partition}", Self::prefix(batch, serial))
    }

    /// What the ids of all receipts of a batch under one serial start with.
    pub(crate) fn prefix(batch: &Digest, serial: u64) -> String {
        format!("{batch}/{serial}/")
    }
}

impl Record for Commit {
    const TABLE: Table = Table::Commits;
}
