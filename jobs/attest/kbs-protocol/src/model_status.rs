//! What a key manager knows of one model, said to its owner.
//!
//! An owner asks before every change, because numbers of changes and versions only rise and an
//! attempt that was lost may have arrived.

use sealift_signed_document::{Digest, Document, Envelope, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::{Name, Nonce};

/// Path of [`ModelStatusRequest`].
pub const MODEL_STATUS_PATH: &str = "/sealift/v1/model-status";

/// `POST /sealift/v1/model-status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelStatusRequest {
    /// Fresh, so that an old answer is no answer.
    pub nonce: Nonce,
    /// Whose changes.
    pub owner_root: VerifyingKey,
    /// Of which model.
    pub model: Name,
}

/// Answer to [`ModelStatusRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelStatusAnswer {
    /// `model-status.v1`.
    pub status: Envelope,
}

/// `model-status.v1`, signed by the key manager's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelStatus {
    /// The asker's.
    pub nonce: Nonce,
    /// Whose changes.
    pub owner_root: VerifyingKey,
    /// Of which model.
    pub model: Name,
    /// The last change of this owner and model; 0 before the first.
    pub seq: u64,
    /// The highest serial that was registered; 0 before the first.
    pub newest: u64,
    /// The lowest serial that is released.
    pub floor: u64,
    /// Every version, by name.
    pub versions: Vec<VersionStatus>,
    /// Envelopes of this owner's templates and reference values that are known, by digest.
    pub installed: Vec<Digest>,
}

impl Document for ModelStatus {
    const TYPE: &'static str = "model-status.v1";
}

/// What a key manager knows of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionStatus {
    /// The version.
    pub version: Name,
    /// Its serial.
    pub serial: u64,
    /// How often it was rotated.
    pub revision: u64,
    /// The manifest of that revision.
    pub manifest_sha256: Digest,
    /// How far it has come.
    pub state: VersionState,
}

/// How far a version has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionState {
    /// Its keys are kept; it may not be used yet.
    Staged,
    /// Guests may receive its key.
    Active,
    /// Its key is released no more.
    Withdrawn,
    /// Its keys are destroyed.
    Erased,
}
