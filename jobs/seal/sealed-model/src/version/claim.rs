//! What a version says of itself, for people who look at it before or without verifying.

use sealift_signed_document::Digest;

use super::{FetchedVersion, PinnedVersion, VerifiedManifest, VersionError};
use crate::{
    container::read::CheckedHeader, manifest::Manifest, opened::tensor_files,
    publish_key::PublishVerifyingKey, signature::claimed_signer,
};

/// What a fetched version says of itself. Nothing in it is verified: whoever wrote the folder
/// wrote this.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClaimedVersion {
    /// What `manifest.json` says; well-formed and without contradictions, no more.
    pub manifest: Manifest,
    /// SHA-256 of `manifest.json`.
    pub manifest_sha256: Digest,
    /// The publish key that `model.sig` names: SHA-256 (hex) of its PEM text, as
    /// [`PublishVerifyingKey::hint`] says it.
    pub signer: String,
}

impl ClaimedVersion {
    /// Pins what the version claims under a publish key that the caller trusts.
    ///
    /// [`FetchedVersion::verify`] then shows that this owner published exactly these files; it
    /// cannot show that they are the version that the caller wanted. For that, compare `model`,
    /// `version`, `serial` or `manifest_sha256` with what is wanted.
    pub fn pinned_under(&self, publish_key: PublishVerifyingKey) -> PinnedVersion {
        PinnedVersion {
            publish_key,
            manifest_sha256: self.manifest_sha256,
            model: self.manifest.model.clone(),
            version: self.manifest.version.clone(),
            serial: self.manifest.serial,
        }
    }
}

impl FetchedVersion {
    /// What the version says of itself, unverified.
    pub fn claim(&self) -> Result<ClaimedVersion, VersionError> {
        Ok(ClaimedVersion {
            manifest: Manifest::parse(&self.manifest).map_err(VersionError::Manifest)?,
            manifest_sha256: Digest::of(&self.manifest),
            signer: claimed_signer(&self.signature).map_err(VersionError::Signature)?,
        })
    }
}

impl VerifiedManifest {
    /// Checks the header of every tensor file as opening would, except for what needs the KEK:
    /// signature, byte form, and agreement of every word with the manifest. Returns how many
    /// were checked.
    pub fn check_headers(&self) -> Result<usize, VersionError> {
        let mut checked = 0;
        for file in tensor_files(&self.manifest) {
            let content = self.open_file(file)?;
            CheckedHeader::read(content.as_ref(), &self.manifest, file).map_err(|source| {
                VersionError::Container {
                    file: file.name.clone(),
                    source,
                }
            })?;
            checked += 1;
        }
        Ok(checked)
    }
}
