//! `manifest.json`: what a model version is.

pub(crate) mod check;

use std::fmt;

use sealift_encrypted_batch::OutputPolicy;
use sealift_fhe_layer::LayerMeta;
use sealift_signed_document::{
    Digest, DocumentError, SecretBytes, VerifyingKey, canonical_json, named_hash, parse_canonical,
};
use serde::{Deserialize, Serialize};

use crate::{
    dtype::Dtype,
    limits::MANIFEST_BYTES_MAX,
    name::{FileName, Name},
};

pub use check::ManifestProblem;

/// The manifest's name in a version's folder.
pub const MANIFEST_FILE: &str = "manifest.json";

/// What a model version is: canonical JSON (RFC 8785), signed as a part of the folder.
///
/// A value of this type is only what somebody wrote; [`crate::VerifiedManifest`] is one that the
/// owner signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this document and of the files it names.
    pub format: ManifestFormat,
    /// The model's name.
    pub model: Name,
    /// The version's name.
    pub version: Name,
    /// The version's number; it only rises per model.
    pub serial: u64,
    /// How often the version's KEK was changed since it was sealed.
    pub revision: u64,
    /// When it was sealed, in Unix seconds.
    pub created: u64,
    /// The Ed25519 key that signs the headers of tensor files.
    pub header_key: VerifyingKey,
    /// Every tensor, file by file in the order of their bodies.
    pub tensors: Vec<ManifestTensor>,
    /// Every file but this one and the signature, by name.
    pub files: Vec<ManifestFile>,
    /// The facts of every `fhe` layer, by name.
    pub fhe: Vec<LayerMeta>,
    /// The plain model that was sealed.
    pub source: SourceDigest,
    /// The public model that it was trained from, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseModel>,
    /// The layer whose outputs are the model's answers.
    pub output_head: OutputHead,
    /// How much of an answer leaves for the model user, at the most.
    pub output_policy: OutputPolicy,
    /// SHA-256 of the protection plan that was followed.
    pub plan_sha256: Digest,
    /// SHA-256 of `protection-report.json`.
    pub report_sha256: Digest,
    /// The program that sealed, with its version.
    pub tool: String,
}

/// The form of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManifestFormat {
    /// This one.
    #[serde(rename = "sealift.model.v1")]
    V1,
}

/// How a tensor is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// Published as it is.
    Plain,
    /// Encrypted under a key that an attested guest receives.
    Sealed,
    /// Evaluated while encrypted; no guest receives the key.
    Fhe,
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Sealed => "sealed",
            Self::Fhe => "fhe",
        })
    }
}

/// One tensor of a version, as its file holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestTensor {
    /// Its name, unique in the version; `<layer>.body` for an `fhe` layer.
    pub name: String,
    /// Type of the elements; U8 for an `fhe` body.
    pub dtype: Dtype,
    /// Its shape; [d_in, d_out, limbs] for an `fhe` body.
    pub shape: Vec<u64>,
    /// How it is protected.
    pub protection: Protection,
    /// The file that holds it.
    pub file: FileName,
    /// What the plan says it is for, such as `weight` or `head`.
    pub role: Name,
    /// The layer group whose FHE keys encrypt it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// For `plain` and `fhe`: the root of RFC 6962 over the SHA-256 of each chunk of 2 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks_root: Option<Digest>,
}

/// One file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Its name in the folder.
    pub name: FileName,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// What it is.
    pub role: FileRole,
}

/// What a file of a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// `plain` and `sealed` tensors.
    Weights,
    /// `fhe` tensors.
    Fhe,
    /// A small file that everyone may read.
    Public,
    /// The protection report.
    Report,
}

/// Which plain model was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceDigest {
    /// H("source", salt ‖ sha256) with a salt that stays with the owner, so that nobody can
    /// confirm a guess of the plain model.
    Salted(Digest),
    /// The SHA-256 itself: whoever can guess the plain model can confirm the guess.
    Sha256(Digest),
}

impl SourceDigest {
    /// The published form of `sha256` under `salt`.
    pub fn salted(salt: &SecretBytes<32>, sha256: &Digest) -> Self {
        let mut preimage = zeroize::Zeroizing::new([0; 64]);
        preimage[..32].copy_from_slice(salt.expose());
        preimage[32..].copy_from_slice(sha256.as_bytes());
        Self::Salted(named_hash("source", preimage.as_slice()))
    }
}

/// The public model that a version was trained from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseModel {
    /// The name by which it is known, such as `sentence-transformers/all-MiniLM-L6-v2`.
    pub name: String,
    /// SHA-256 of its safetensors file, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// The layer whose outputs are the model's answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputHead {
    /// Its name, such as `classifier`.
    pub layer: String,
    /// How its weights are protected.
    pub protection: Protection,
    /// Scores per answer.
    pub outputs: u64,
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Beyond [`MANIFEST_BYTES_MAX`].
    #[error("the manifest has {0} bytes, more than the limit of 64 MiB")]
    TooLarge(u64),
    /// Not the canonical JSON of a manifest.
    #[error("manifest.json is not the canonical JSON of a manifest")]
    Form(#[source] DocumentError),
    /// It contradicts itself.
    #[error("manifest.json contradicts itself")]
    Problem(#[source] ManifestProblem),
}

impl Manifest {
    /// Parses canonical JSON and checks that the manifest does not contradict itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge(bytes.len() as u64));
        }
        let manifest: Self = parse_canonical(bytes).map_err(ManifestError::Form)?;
        manifest.check().map_err(ManifestError::Problem)?;
        Ok(manifest)
    }

    /// The canonical JSON of a manifest that does not contradict itself.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        self.check().map_err(ManifestError::Problem)?;
        canonical_json(self).map_err(ManifestError::Form)
    }

    /// The file of this name.
    pub fn file(&self, name: &str) -> Option<&ManifestFile> {
        self.files.iter().find(|file| file.name.as_str() == name)
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&ManifestTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The tensors of one file, in the order of their bodies.
    pub fn tensors_of<'a>(
        &'a self,
        file: &'a FileName,
    ) -> impl Iterator<Item = &'a ManifestTensor> {
        self.tensors
            .iter()
            .filter(move |tensor| tensor.file == *file)
    }

    /// The KBS resource of the version's KEK: `<model>/<version>/kek`.
    pub fn kek_resource(&self) -> String {
        format!("{}/{}/kek", self.model, self.version)
    }
}

#[cfg(test)]
mod tests;
