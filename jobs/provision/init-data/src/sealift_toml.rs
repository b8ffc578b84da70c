//! The entry `sealift.toml`: which model version a guest is for, and whom it asks for keys.

use sealift_signed_document::{Digest, KeyId, VerifyingKey};
use serde::Deserialize;

use crate::{InitData, InitDataError};

/// The entry's name.
pub const SEALIFT_ENTRY: &str = "sealift.toml";

/// What a guest is told about itself. No run: a warm guest serves many runs of one version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealiftToml {
    /// The model's name: one lower-case KBS path segment.
    pub model: String,
    /// The version's name: one lower-case KBS path segment.
    pub version: String,
    /// The version's place in the order of versions.
    pub serial: u64,
    /// The manifest that the guest must find in the store.
    pub manifest_sha256: Digest,
    /// The identity that must sign what the key manager sends.
    pub km_id: KeyId,
    /// Where the key manager listens.
    pub km_url: String,
    /// SHA-256 of the SubjectPublicKeyInfo of its TLS key.
    pub km_tls_sha256: Digest,
    /// The model owner's root key, which certifies the signers of the model.
    pub owner_root: VerifyingKey,
    /// Where the model version is read from.
    pub store_url: String,
    /// The signed template that this init-data is rendered from.
    pub template_sha256: Digest,
}

impl SealiftToml {
    /// Reads the entry of `init_data`.
    pub fn of(init_data: &InitData) -> Result<Self, InitDataError> {
        let name = SEALIFT_ENTRY;
        let text = init_data
            .entries()
            .get(name)
            .ok_or(InitDataError::NoEntry { name })?;
        toml::from_str(text).map_err(|error| InitDataError::Entry {
            name,
            source: Box::new(error),
        })
    }
}
