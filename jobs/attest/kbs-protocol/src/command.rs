//! What an owner tells a key manager, and what the key manager answers.
//!
//! Every change is a document signed by admin keys that owner roots delegated. It names the key
//! manager and rises by one per owner and model, so that none can be replayed, held back without
//! being noticed, or shown to another key manager.

use sealift_encrypted_batch::{Budget, OutputPolicy};
use sealift_evidence::Assurance;
use sealift_signed_document::{
    Digest, Document, Envelope, KeyId,
    hpke_box::{BoxPublic, SealedBox},
};
use serde::{Deserialize, Serialize};

use crate::{Name, Nonce};

/// Path that a push nonce is asked from, before [`Register`].
pub const PUSH_NONCE_PATH: &str = "/sealift/v1/push-nonce";
/// Path of [`RegisterMessage`].
pub const REGISTER_PATH: &str = "/sealift/v1/register";
/// Path of every other change.
pub const COMMAND_PATH: &str = "/sealift/v1/command";
/// Path that a grant's acknowledgement is read from again: `?grant=<id>`.
pub const GRANT_ACK_PATH: &str = "/sealift/v1/grant-ack";

/// Most approvals of one change: more roots than any configuration names.
pub const MAX_APPROVALS: usize = 16;

/// `register.v1`: a model version and the rules for its keys. The keys travel beside it, encrypted
/// to the boot key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The key manager.
    pub km_id: KeyId,
    /// Its boot key, from evidence that the owner appraised.
    pub boot_key: BoxPublic,
    /// A nonce that this key manager gave for one push.
    pub push_nonce: Nonce,
    /// One more than the last change of this owner and model; 1 for the first.
    pub seq: u64,
    /// The model.
    pub model: Name,
    /// The version.
    pub version: Name,
    /// Rises with every version of the model.
    pub serial: u64,
    /// SHA-256 of the version's manifest.
    pub manifest_sha256: Digest,
    /// The init-data template that guests of this version are rendered from.
    pub template_sha256: Digest,
    /// The reference values that their evidence is appraised against.
    pub reference_values_sha256: Digest,
    /// The most that an answer of this version may say.
    pub output_policy: OutputPolicy,
    /// How much may be answered.
    pub budgets: Budgets,
    /// The weakest attestation that receives keys.
    pub min_assurance: Assurance,
    /// How many guests may hold the key, and how long.
    pub lease: Lease,
    /// SHA-256 of the key bundle's bytes.
    pub bundle_sha256: Digest,
}

impl Document for Register {
    const TYPE: &'static str = "register.v1";
}

/// Limits on what a version answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// For each user key.
    pub per_user: Budget,
    /// For all users together.
    pub per_version: Budget,
}

/// How many guests may hold a version's key at one time, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Guests at one time.
    pub guests: u32,
    /// Seconds after which a guest must attest again.
    pub seconds: u64,
}

/// `activate.v1`: the published version was verified in its store and may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// The key manager.
    pub km_id: KeyId,
    /// One more than the last change of this owner and model.
    pub seq: u64,
    /// Unix seconds from which the document no longer counts.
    pub not_after: u64,
    /// The model.
    pub model: Name,
    /// The version.
    pub version: Name,
    /// Its manifest, as registered.
    pub manifest_sha256: Digest,
}

impl Document for Activate {
    const TYPE: &'static str = "activate.v1";
}

/// `withdraw.v1`: the version's key is released no longer. Guests that hold it keep it until
/// their session ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    /// The key manager.
    pub km_id: KeyId,
    /// One more than the last change of this owner and model.
    pub seq: u64,
    /// Unix seconds from which the document no longer counts.
    pub not_after: u64,
    /// The model.
    pub model: Name,
    /// The version.
    pub version: Name,
}

impl Document for Withdraw {
    const TYPE: &'static str = "withdraw.v1";
}

/// `floor.v1`: no version of the model below this serial is released any more. Only rises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The key manager.
    pub km_id: KeyId,
    /// One more than the last change of this owner and model.
    pub seq: u64,
    /// Unix seconds from which the document no longer counts.
    pub not_after: u64,
    /// The model.
    pub model: Name,
    /// The lowest serial that is still released.
    pub serial: u64,
}

impl Document for Floor {
    const TYPE: &'static str = "floor.v1";
}

/// `channel.v1`: the serial that a channel of the model points at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The key manager.
    pub km_id: KeyId,
    /// One more than the last change of this owner and model.
    pub seq: u64,
    /// Unix seconds from which the document no longer counts.
    pub not_after: u64,
    /// The model.
    pub model: Name,
    /// The channel, as in `stable`.
    pub channel: Name,
    /// The serial it points at from now on.
    pub serial: u64,
}

impl Document for Channel {
    const TYPE: &'static str = "channel.v1";
}

/// `install.v1`: makes a template or reference values known, so that versions can name them. The
/// installed document travels beside it with a signature of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// The key manager.
    pub km_id: KeyId,
    /// One more than the last change of this owner and model.
    pub seq: u64,
    /// Unix seconds from which the document no longer counts.
    pub not_after: u64,
    /// The model.
    pub model: Name,
    /// What kind of document.
    pub content: InstallKind,
    /// SHA-256 of the installed document's envelope.
    pub document_sha256: Digest,
}

impl Document for Install {
    const TYPE: &'static str = "install.v1";
}

/// What can be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstallKind {
    /// `init-template.v1`.
    InitTemplate,
    /// `reference-values.v1`.
    ReferenceValues,
}

/// One admin's signature under a change, with the root's word for that admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The change.
    pub document: Envelope,
    /// `delegation.v1` of the key that signed it.
    pub delegation: Envelope,
}

/// Answer of [`PUSH_NONCE_PATH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushNonce {
    /// Good for one register, of whomever.
    pub push_nonce: Nonce,
}

/// `POST /sealift/v1/register`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterMessage {
    /// The change, once per admin that the configuration demands; the first one's root claims.
    pub approvals: Vec<Approval>,
    /// The key bundle, encrypted to the boot key; its associated data is the digest of the first
    /// approval's document.
    pub keys: SealedBox,
}

/// `POST /sealift/v1/command`: a change that carries no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandMessage {
    /// What kind of change.
    pub kind: CommandKind,
    /// The change, once per admin that the configuration demands.
    pub approvals: Vec<Approval>,
    /// The installed document with its own delegation, for [`CommandKind::Install`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Approval>,
}

/// Kinds of changes that carry no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandKind {
    /// [`Activate`].
    Activate,
    /// [`Channel`].
    Channel,
    /// [`crate::erasure::Erase`].
    Erase,
    /// [`Floor`].
    Floor,
    /// `grant.v1`.
    Grant,
    /// [`Install`].
    Install,
    /// [`crate::rotation::Rotate`].
    Rotate,
    /// [`Withdraw`].
    Withdraw,
}

/// Answer to every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// `km-ack.v1`.
    pub ack: Envelope,
    /// `grant-ack.v1`, for a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_ack: Option<Envelope>,
}

/// `km-ack.v1`, signed by the key manager's identity: the change is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmAck {
    /// The key manager.
    pub km_id: KeyId,
    /// SHA-256 of the first approval's document.
    pub document_sha256: Digest,
    /// What the key manager did.
    pub outcome: AckOutcome,
    /// Where it stands in the log.
    pub log_index: u64,
    /// Log time, Unix seconds.
    pub time: u64,
}

impl Document for KmAck {
    const TYPE: &'static str = "km-ack.v1";
}

/// What a key manager did on a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckOutcome {
    /// The version may be used.
    Activated,
    /// The channel points at the serial.
    ChannelSet,
    /// The version's keys are deleted; older copies of the records hold them until the state key
    /// is changed.
    Erased,
    /// The floor is the serial.
    FloorRaised,
    /// The grant is known and has a recipient.
    Granted,
    /// The document is known.
    Installed,
    /// Every record is encrypted under another state key.
    Rekeyed,
    /// The version's data keys are wrapped under a KEK that nobody receives yet.
    Rewrapped,
    /// The version is the next revision, under another KEK.
    Rotated,
    /// The version's keys are kept; it may not be used yet.
    Staged,
    /// The key manager is open.
    Unlocked,
    /// The version's keys are released no more.
    Withdrawn,
}
