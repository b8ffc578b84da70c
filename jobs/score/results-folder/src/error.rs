//! What is missing or false in a results folder.

use std::{io, path::PathBuf};

use sealift_encrypted_batch::{BatchError, FolderError, ReceiptError};
use sealift_kbs_protocol::{checkpoint::CheckpointError, evidence::KeyManagerRefusal};
use sealift_signed_document::{Digest, DocumentError};
use sealift_verifier::Refusal;

/// Why results are not verified. Each variant names the link of the chain that is missing or
/// false.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResultsFolderError {
    /// A file that is not there or cannot be read.
    #[error("`{}` cannot be read; is this the results folder of a finished run?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("`{}` cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// Larger than any receipts are.
    #[error("`{}` is larger than the {} bytes that are read", path.display(), crate::MAX_RECEIPTS_FILE_BYTES)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not the form.
    #[error("`{}` does not hold receipts; a member is missing, unknown or of another kind", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The receipts have no JSON form.
    #[error("the receipts cannot be written as JSON")]
    Unwritable(#[source] serde_json::Error),
    /// The user's own batch folder.
    #[error("the batch cannot be read")]
    BatchFolder(#[source] FolderError),
    /// Not this user's batch.
    #[error("the batch is not the user's")]
    Batch(#[source] BatchError),
    /// The key manager that signed is not one that the user trusts.
    #[error("the key manager's evidence is not accepted")]
    KeyManager(#[source] Box<KeyManagerRefusal<Refusal>>),
    /// A key manager that was never unlocked has nothing that could sign.
    #[error("the key manager's evidence names no identity key")]
    NoIdentity,
    /// The log key has no word of the key manager's identity.
    #[error("the log key is not signed by the key manager's identity")]
    LogKey(#[source] DocumentError),
    /// The log key of another key manager.
    #[error("the log key is not that of the key manager that signed the run receipt")]
    OtherLogKey,
    /// The run receipt names a checkpoint that the log did not sign.
    #[error("the checkpoint in the run receipt is not signed by the key manager's log")]
    Checkpoint(#[source] CheckpointError),
    /// A guest's certificate that the key manager did not sign.
    #[error("guest certificate {guest_certificate} is not signed by the key manager's identity")]
    GuestCertificate {
        /// SHA-256 of its envelope.
        guest_certificate: Digest,
        /// What is wrong.
        #[source]
        source: DocumentError,
    },
    /// A session grant that the key manager did not sign.
    #[error(
        "the session grant of guest certificate {guest_certificate} is not signed by the key manager's identity"
    )]
    SessionGrant {
        /// SHA-256 of the certificate's envelope.
        guest_certificate: Digest,
        /// What is wrong.
        #[source]
        source: DocumentError,
    },
    /// A certificate beside another guest's session grant.
    #[error("guest certificate {guest_certificate} does not belong to the session grant beside it")]
    OtherSession {
        /// SHA-256 of the certificate's envelope.
        guest_certificate: Digest,
    },
    /// The log did not hold a guest's certificate when it counted the receipts.
    #[error(
        "guest certificate {guest_certificate} is younger than the checkpoint in the run receipt"
    )]
    CertificateAfterCheckpoint {
        /// SHA-256 of the certificate's envelope.
        guest_certificate: Digest,
    },
    /// A receipt is missing, superseded or false.
    #[error("the receipts do not stand for the batch")]
    Receipts(#[source] ReceiptError),
    /// A result file that is not the receipted one.
    #[error("`{}` is not the file that the receipt of partition {partition} stands for", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// The partition.
        partition: u32,
    },
}
