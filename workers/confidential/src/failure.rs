//! Why a partition was not scored, as operators see it.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use sealift_attester::AttesterError;
use sealift_encrypted_batch::{BatchError, PartitionError, ResultsError};
use sealift_signed_document::DocumentError;
use serde::{Deserialize, Serialize};

use crate::{
    chain::Chain, model::ComputeError, phase::Phase, session::SessionError, store::ObjectError,
};

/// Why a partition was not scored. No variant holds anything of a row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    private_interfaces,
    reason = "causes are for the log; callers read code and message"
)]
pub enum ScoreFailure {
    /// Not a dispatch.
    #[error("the request is not a dispatch: {0}")]
    Malformed(&'static str),
    /// There is nothing at this path.
    #[error("there is nothing at this path")]
    NotFound,
    /// No model in memory.
    #[error("the guest is {}, not serving; ask for its status", .0.name())]
    ModelNotReady(Phase),
    /// Another partition is being scored, or too many reports are being signed.
    #[error("the guest is busy; try again later")]
    Busy,
    /// Not signed by this user, or not well formed.
    #[error("the batch is not accepted under the user's key")]
    WrongBatch(#[source] BatchError),
    /// For another model.
    #[error("the batch is for another model than this guest's")]
    OtherModel,
    /// The batch has no such partition.
    #[error("the batch has no such partition")]
    NoSuchPartition(#[source] BatchError),
    /// The store has no such file.
    #[error("the partition's file is not in the store; upload it")]
    PartitionMissing(#[source] ObjectError),
    /// The store has another file than the user sealed.
    #[error("the store's file is not the partition that the user signed for")]
    SwappedPartition(#[source] PartitionError),
    /// What the user sealed gives no rows.
    #[error("the partition gives no rows; the user must seal the batch again")]
    UnreadablePartition(#[source] PartitionError),
    /// The rows were not computed.
    #[error("the partition was not computed")]
    Compute(#[source] ComputeError),
    /// The key manager refuses.
    #[error("refused by the key manager; its audit log says why")]
    RefusedByKeyManager(#[source] Box<SessionError>),
    /// The key manager does not answer.
    #[error("no answer from the key manager; try again later")]
    KeyManagerUnavailable(#[source] Box<SessionError>),
    /// Something else than the key manager answers.
    #[error("the key manager's answer is not trusted")]
    KeyManagerUntrusted(#[source] Box<SessionError>),
    /// No report for a new session.
    #[error("the platform gives no evidence")]
    NoEvidence(#[source] Box<SessionError>),
    /// No report for an operator.
    #[error("the platform gives no evidence")]
    NoReport(#[source] AttesterError),
    /// The results were not made.
    #[error("no result file can be made as the batch asks")]
    Results(#[source] ResultsError),
    /// The store does not answer.
    #[error("the store did not answer; try again later")]
    StoreUnavailable(#[source] ObjectError),
    /// Other bytes under the address of the results.
    #[error("the store has other bytes under the address of the results; remove them")]
    StoreConflict(#[source] ObjectError),
    /// The receipt was not signed.
    #[error("the receipt was not made")]
    Receipt(#[source] DocumentError),
    /// The work was not done to its end.
    #[error("the guest was interrupted; try again later")]
    Interrupted,
}

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the variants of `ScoreFailure` say it")]
pub enum FailureCode {
    Malformed,
    NotFound,
    ModelNotReady,
    Busy,
    WrongBatch,
    NoSuchPartition,
    PartitionMissing,
    SwappedPartition,
    UnreadablePartition,
    ComputeFailed,
    RefusedByKeyManager,
    KeyManagerUnavailable,
    KeyManagerUntrusted,
    NoEvidence,
    ResultsNotMade,
    StoreUnavailable,
    StoreConflict,
    Interrupted,
}

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureBody {
    /// What went wrong.
    pub code: FailureCode,
    /// Whether the same request may succeed later without anybody doing anything.
    pub retryable: bool,
    /// Fact and remedy, for people.
    pub message: String,
}

impl ScoreFailure {
    /// The code of this failure.
    pub fn code(&self) -> FailureCode {
        match self {
            Self::Malformed(_) => FailureCode::Malformed,
            Self::NotFound => FailureCode::NotFound,
            Self::ModelNotReady(_) => FailureCode::ModelNotReady,
            Self::Busy => FailureCode::Busy,
            Self::WrongBatch(_) | Self::OtherModel => FailureCode::WrongBatch,
            Self::NoSuchPartition(_) => FailureCode::NoSuchPartition,
            Self::PartitionMissing(_) => FailureCode::PartitionMissing,
            Self::SwappedPartition(_) => FailureCode::SwappedPartition,
            Self::UnreadablePartition(_) => FailureCode::UnreadablePartition,
            Self::Compute(_) | Self::Receipt(_) => FailureCode::ComputeFailed,
            Self::RefusedByKeyManager(_) => FailureCode::RefusedByKeyManager,
            Self::KeyManagerUnavailable(_) => FailureCode::KeyManagerUnavailable,
            Self::KeyManagerUntrusted(_) => FailureCode::KeyManagerUntrusted,
            Self::NoEvidence(_) | Self::NoReport(_) => FailureCode::NoEvidence,
            Self::Results(_) => FailureCode::ResultsNotMade,
            Self::StoreUnavailable(_) => FailureCode::StoreUnavailable,
            Self::StoreConflict(_) => FailureCode::StoreConflict,
            Self::Interrupted => FailureCode::Interrupted,
        }
    }

    /// Whether the same request may succeed later without anybody doing anything.
    pub fn retryable(&self) -> bool {
        match self {
            Self::ModelNotReady(phase) => !matches!(phase, Phase::Failed(_)),
            Self::Busy
            | Self::KeyManagerUnavailable(_)
            | Self::StoreUnavailable(_)
            | Self::Interrupted => true,
            _ => false,
        }
    }

    fn status(&self) -> StatusCode {
        match self.code() {
            FailureCode::Malformed => StatusCode::BAD_REQUEST,
            FailureCode::NotFound => StatusCode::NOT_FOUND,
            FailureCode::RefusedByKeyManager => StatusCode::FORBIDDEN,
            FailureCode::StoreConflict => StatusCode::CONFLICT,
            FailureCode::WrongBatch
            | FailureCode::NoSuchPartition
            | FailureCode::PartitionMissing
            | FailureCode::SwappedPartition
            | FailureCode::UnreadablePartition
            | FailureCode::ResultsNotMade => StatusCode::UNPROCESSABLE_ENTITY,
            FailureCode::ComputeFailed => StatusCode::INTERNAL_SERVER_ERROR,
            FailureCode::KeyManagerUntrusted => StatusCode::BAD_GATEWAY,
            FailureCode::ModelNotReady
            | FailureCode::Busy
            | FailureCode::KeyManagerUnavailable
            | FailureCode::NoEvidence
            | FailureCode::StoreUnavailable
            | FailureCode::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<ObjectError> for ScoreFailure {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Missing(_) => Self::PartitionMissing(error),
            ObjectError::Conflict(_) | ObjectError::Length { .. } => Self::StoreConflict(error),
            ObjectError::Store { .. } => Self::StoreUnavailable(error),
        }
    }
}

impl From<PartitionError> for ScoreFailure {
    fn from(error: PartitionError) -> Self {
        match error {
            PartitionError::Batch(source) => Self::NoSuchPartition(source),
            PartitionError::Length { .. }
            | PartitionError::OtherFile(_)
            | PartitionError::OtherHeader(_)
            | PartitionError::Mac(_) => Self::SwappedPartition(error),
            _ => Self::UnreadablePartition(error),
        }
    }
}

impl From<ComputeError> for ScoreFailure {
    fn from(error: ComputeError) -> Self {
        Self::Compute(error)
    }
}

impl IntoResponse for ScoreFailure {
    fn into_response(self) -> Response {
        let body = FailureBody {
            code: self.code(),
            retryable: self.retryable(),
            message: self.to_string(),
        };
        tracing::info!(
            code = ?body.code,
            error = %Chain(&self),
            "request not fulfilled"
        );
        (self.status(), Json(body)).into_response()
    }
}
