//! What can go wrong between a guest and its key manager.

use http::StatusCode;
use sealift_pinned_tls::ClientError;
use sealift_signed_document::DocumentError;

use crate::{
    PublicError, SessionGrantError,
    call::{BadAnswer, Op},
    channel::ChannelError,
    jwe::JweError,
};

/// Why a guest did not get what it asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestClientError {
    /// No answer.
    #[error("no answer from the key manager")]
    Transport(#[source] ClientError),
    /// No attested session, or it has ended.
    #[error("the key manager knows no attested session of this guest; attest again")]
    NotAttested,
    /// It said no. Its audit log says why.
    #[error("the key manager refused ({status}); its audit log says why")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
    },
    /// It refused a call inside the session. Its audit log says why.
    #[error("the key manager refused `{}`; its audit log says why", op.name())]
    CallRefused {
        /// The operation.
        op: Op,
    },
    /// Not an answer of the protocol.
    #[error("the key manager's answer is not one of the KBS protocol 0.4.0")]
    BadHandshake,
    /// The resource does not open.
    #[error("the key manager's answer is not encrypted to this guest")]
    Jwe(#[source] JweError),
    /// The session is not for this guest, or not from the pinned key manager.
    #[error("the session is not accepted")]
    Session(#[source] SessionGrantError),
    /// A message of the session does not fit.
    #[error("the session's channel is broken; attest again")]
    Channel(#[source] ChannelError),
    /// The answer is malformed.
    #[error("the key manager's answer is malformed")]
    Answer(#[source] BadAnswer),
    /// The key is no key.
    #[error("the model key does not have 32 bytes")]
    BadKey,
    /// A document could not be made or does not verify.
    #[error("a document of this exchange is not accepted")]
    Document(#[source] DocumentError),
    /// The certificate is for other keys or another session.
    #[error("the guest certificate names other keys or another session")]
    OtherCertificate,
}

impl GuestClientError {
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

    /// Whether a new handshake can help.
    pub fn wants_attestation(&self) -> bool {
        matches!(self, Self::NotAttested | Self::Channel(_))
    }
}
