//! What sealing is asked for, and what it answers.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf};

use sealift_encrypted_batch::OutputPolicy;
use sealift_signed_document::{Digest, SecretBytes, SigningKey};

use super::plan::{FheTensor, ProtectionPlan};
use crate::{
    container::ChunkSize,
    manifest::{BaseModel, Manifest, OutputHead},
    name::{FileName, Name},
    publish_key::PublishKey,
    source::SourceModel,
};

/// What is sealed, and how.
pub struct SealRequest<'a> {
    /// The plain model.
    pub source: &'a SourceModel,
    /// How each of its tensors is protected.
    pub plan: &'a ProtectionPlan,
    /// The encrypted layers that stand for the `fhe` tensors.
    pub fhe: Vec<FheTensor>,
    /// Small files that everyone may read: `config.json`, `tokenizer.json` …
    pub public_files: BTreeMap<FileName, Vec<u8>>,
    /// The protection report's bytes.
    pub report: &'a [u8],
    /// What the manifest says of the version.
    pub facts: VersionFacts,
    /// The owner's signing keys.
    pub keys: SealingKeys<'a>,
    /// Choices with defaults.
    pub options: SealOptions,
}

/// What the caller knows of the version.
#[derive(Clone, Debug)]
pub struct VersionFacts {
    /// The model's name.
    pub model: Name,
    /// The version's name.
    pub version: Name,
    /// The version's number; it only rises per model.
    pub serial: u64,
    /// Now, in Unix seconds.
    pub created: u64,
    /// The public model that it was trained from, where it is known.
    pub base: Option<BaseModel>,
    /// The layer whose outputs are the model's answers.
    pub output_head: OutputHead,
    /// How much of an answer leaves for the model user, at the most.
    pub output_policy: OutputPolicy,
    /// SHA-256 of the protection plan.
    pub plan_sha256: Digest,
    /// The program that seals, with its version.
    pub tool: String,
}

/// The owner's two signing keys.
#[derive(Clone, Copy)]
pub struct SealingKeys<'a> {
    /// Signs the folder (P-256).
    pub publish: &'a PublishKey,
    /// Signs the headers of tensor files (Ed25519).
    pub header: &'a SigningKey,
}

/// Choices with defaults.
#[derive(Clone, Copy, Debug)]
pub struct SealOptions {
    /// Bytes that are encrypted together.
    pub chunk: ChunkSize,
    /// Threads that read, encrypt and write chunks; memory is a chunk for each. The form of the
    /// files does not depend on it.
    pub threads: NonZeroUsize,
    /// Accept weights that are NaN or infinite.
    pub allow_non_finite: bool,
    /// Publish the plain model's SHA-256 as it is, by which a guess of the model is confirmed.
    pub dangerous_publish_source_digest: bool,
}

impl Default for SealOptions {
    /// Chunks of 2 MiB on one thread, weights that are numbers, a salted source digest.
    fn default() -> Self {
        Self {
            chunk: ChunkSize::default(),
            threads: NonZeroUsize::MIN,
            allow_non_finite: false,
            dangerous_publish_source_digest: false,
        }
    }
}

/// How far sealing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealProgress {
    /// Plain bytes that were sealed.
    pub done_bytes: u64,
    /// Plain bytes in all.
    pub total_bytes: u64,
}

/// A version that was sealed, with the key that opens it.
pub struct SealedVersion {
    /// The key-encryption key, drawn for this version: it goes to the key manager.
    pub kek: SecretBytes<32>,
    /// The salt of the source digest; it stays with the owner.
    pub source_salt: SecretBytes<32>,
    /// What was published.
    pub manifest: Manifest,
    /// SHA-256 of `manifest.json`.
    pub manifest_sha256: Digest,
    /// Where the folder is.
    pub folder: PathBuf,
}
