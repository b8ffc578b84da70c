//! The document that makes a version exist.

use std::collections::BTreeSet;

use sealift_sealed_model::{
    FileName, Name,
    limits::{FILE_BYTES_MAX, FILES_MAX, JSON_INTEGER_MAX},
};
use sealift_signed_document::{Digest, DocumentError, canonical_json, parse_canonical};
use serde::{Deserialize, Serialize};

use crate::pieces::HEADER_PIECE_BYTES_MAX;

/// Largest version document in bytes: some 120 for each piece of a 30 TB model.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// Which pieces make which files of one version: canonical JSON (RFC 8785).
///
/// It is no more than a table of contents. Whoever can write to the store can write it, so
/// nothing is believed for its sake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionDocument {
    /// The form of this document.
    pub format: DocumentFormat,
    /// The model's name.
    pub model: Name,
    /// The version's name.
    pub version: Name,
    /// The version's number.
    pub serial: u64,
    /// How often the version was rotated before this document was written; left out when never.
    #[serde(default, skip_serializing_if = "is_first")]
    pub revision: u64,
    /// SHA-256 of `manifest.json`.
    pub manifest_sha256: Digest,
    /// Every file, the manifest and the signature included, by ascending name.
    pub files: Vec<StoredFile>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_first(revision: &u64) -> bool {
    *revision == 0
}

/// The form of a version document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DocumentFormat {
    /// This one.
    #[serde(rename = "sealift.version.v1")]
    V1,
}

/// One file of a version in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFile {
    /// Its name.
    pub name: FileName,
    /// Its pieces, in order.
    pub pieces: Vec<Piece>,
}

/// A piece of a file: a blob of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Its SHA-256, which is its address.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
}

/// Why a version document was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VersionDocumentError {
    /// Beyond 64 MiB.
    #[error("it has {0} bytes, more than the limit of 64 MiB")]
    TooLarge(u64),
    /// Not the canonical JSON of a version document.
    #[error("it is not the canonical JSON of a version document")]
    Form(#[source] DocumentError),
    /// Of another model, version or revision.
    #[error("it is the document of `{model}` version `{version}`, revision {revision}")]
    Other {
        /// The model it names.
        model: Name,
        /// The version it names.
        version: Name,
        /// The revision it names.
        revision: u64,
    },
    /// Too many files, not by ascending name, or one twice.
    #[error("its files are too many or not listed once each by ascending name")]
    Files,
    /// A piece that is empty or larger than any that is written.
    #[error("it has a piece of {0} bytes, which none has")]
    PieceBytes(u64),
    /// A file beyond 2^48 bytes.
    #[error("its file `{0}` is larger than 2^48 bytes")]
    FileTooLarge(FileName),
    /// A serial or revision that canonical JSON cannot hold.
    #[error("its serial or revision is above 2^53 - 1")]
    Serial,
}

impl VersionDocument {
    /// Parses the document that claims to be of a model, version and revision.
    pub fn parse(
        bytes: &[u8],
        (model, version, revision): (&Name, &Name, u64),
    ) -> Result<Self, VersionDocumentError> {
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(VersionDocumentError::TooLarge(bytes.len() as u64));
        }
        let document: Self = parse_canonical(bytes).map_err(VersionDocumentError::Form)?;
        document.check()?;
        let named = (&document.model, &document.version, document.revision);
        if named != (model, version, revision) {
            let Self {
                model,
                version,
                revision,
                ..
            } = document;
            return Err(VersionDocumentError::Other {
                model,
                version,
                revision,
            });
        }
        Ok(document)
    }

    /// The document's canonical JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, VersionDocumentError> {
        self.check()?;
        canonical_json(self).map_err(VersionDocumentError::Form)
    }

    /// The digests of all pieces, each once.
    pub fn blobs(&self) -> BTreeSet<Digest> {
        self.files
            .iter()
            .flat_map(|file| &file.pieces)
            .map(|piece| piece.sha256)
            .collect()
    }

    fn check(&self) -> Result<(), VersionDocumentError> {
        // The manifest and the signature stand beside the files that the manifest lists.
        if self.files.len() > FILES_MAX + 2 || !self.files.is_sorted_by(|a, b| a.name < b.name) {
            return Err(VersionDocumentError::Files);
        }
        if self.serial.max(self.revision) > JSON_INTEGER_MAX {
            return Err(VersionDocumentError::Serial);
        }
        self.files.iter().try_for_each(StoredFile::check)
    }
}

impl StoredFile {
    /// The file's length.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    fn check(&self) -> Result<(), VersionDocumentError> {
        let mut total = 0_u64;
        for piece in &self.pieces {
            if piece.bytes == 0 || piece.bytes > HEADER_PIECE_BYTES_MAX {
                return Err(VersionDocumentError::PieceBytes(piece.bytes));
            }
            total = total
                .checked_add(piece.bytes)
                .filter(|&total| total <= FILE_BYTES_MAX)
                .ok_or_else(|| VersionDocumentError::FileTooLarge(self.name.clone()))?;
        }
        Ok(())
    }
}
