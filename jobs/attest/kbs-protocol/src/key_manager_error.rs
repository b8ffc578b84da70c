//! What can go wrong between an owner, witness or user and a key manager.

use http::StatusCode;
use sealift_pinned_tls::ClientError;
use sealift_signed_document::DocumentError;
use sealift_wrapped_key::WrappedKeysError;

use crate::{KeyBundleError, PublicError, checkpoint::CheckpointError};

/// Why a key manager did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyManagerClientError {
    /// No answer.
    #[error("no answer from the key manager")]
    Transport(#[source] ClientError),
    /// It said no. Its audit log says why.
    #[error("the key manager refused ({status}); its audit log says why")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
    },
    /// Its evidence or configuration is not accepted.
    #[error("the key manager is not trusted")]
    Untrusted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It is locked, so it has no identity to name in a document.
    #[error("the key manager is locked; its witness must unlock it first")]
    Locked,
    /// It was restarted, or another one answers now.
    #[error("another boot of a key manager answers than the one that was appraised; appraise it")]
    OtherBoot,
    /// A document could not be made or does not verify.
    #[error("a document of this exchange is not accepted")]
    Document(#[source] DocumentError),
    /// An acknowledgement of something else.
    #[error("the acknowledgement is not for the document that was sent")]
    OtherAcknowledgement,
    /// The key bundle has no byte form.
    #[error("the key bundle cannot be sent")]
    Bundle(#[source] KeyBundleError),
    /// The answer is no list of wrapped keys.
    #[error("the key manager did not answer with wrapped keys")]
    WrappedKeys(#[source] WrappedKeysError),
    /// The checkpoint does not verify.
    #[error("the checkpoint is not accepted")]
    Checkpoint(#[source] CheckpointError),
    /// The log is not a continuation of what was seen before: a fork or a rollback.
    #[error("the log does not continue the last witnessed one; do not cosign it")]
    Forked,
}

impl KeyManagerClientError {
    /// Whether asking again later can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport(error) => error.is_transient(),
            Self::Refused { status } => {
                PublicError::from_status(*status) == Some(PublicError::Unavailable)
            }
            _ => false,
        }
    }
}
