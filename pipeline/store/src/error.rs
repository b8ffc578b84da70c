//! Why a store did not do what it was asked.

use std::sync::Arc;

use sealift_definition::plan::PlanError;
use sealift_run::{AttemptId, IllegalTransition, RunId, RunStatus, Worker};

use crate::FolderError;

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The state folder cannot be used.
    #[error(transparent)]
    Folder(Arc<FolderError>),
    /// The database did not do it. Nothing of what was asked is stored.
    #[error("could not {operation} in the engine's database")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// SQLite's answer.
        source: Arc<sqlx::Error>,
    },
    /// The database was written by a later release.
    #[error(
        "the engine's database has schema {found}, this release knows {known}; use the release that wrote it"
    )]
    NewerSchema {
        /// What the file says.
        found: i64,
        /// What this release writes.
        known: i64,
    },
    /// A row is not what this release writes.
    #[error("run {run} has an unreadable {what}; restore the state folder from a backup")]
    Corrupt {
        /// The run.
        run: String,
        /// Which part.
        what: &'static str,
    },
    /// The log of a run does not fold.
    #[error("the log of run {run} does not fold; restore the state folder from a backup")]
    Unfoldable {
        /// The run.
        run: RunId,
        /// The first event that cannot have happened.
        source: IllegalTransition,
    },
    /// The plan cannot be kept.
    #[error("the plan cannot be kept")]
    Plan(#[source] Arc<PlanError>),
    /// There is no such run.
    #[error("there is no run {0}; `sealift runs` lists them")]
    UnknownRun(RunId),
    /// There is one already.
    #[error("there is a run {0} already; submit this one under a new name")]
    RunExists(RunId),
    /// The run is over.
    #[error("run {run} is {status} already")]
    Settled {
        /// The run.
        run: RunId,
        /// How it ended.
        status: RunStatus,
    },
    /// The run is not being worked on.
    #[error("no engine works on run {0}; resume it first")]
    Inactive(RunId),
    /// The run's state does not allow it.
    #[error("the run does not allow it")]
    Refused(#[source] IllegalTransition),
    /// The attempt is not, or no longer, the worker's.
    #[error("worker {worker} does not hold {attempt}")]
    NotHeld {
        /// The attempt.
        attempt: AttemptId,
        /// The worker.
        worker: Worker,
    },
    /// The worker is not registered, or another start of it is.
    #[error("worker {0} is not registered")]
    UnknownWorker(Worker),
    /// The store has ended.
    #[error("the store has ended; the cause was logged when it did")]
    Closed,
}

impl StoreError {
    pub(crate) fn database(operation: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Database {
            operation,
            source: Arc::new(source),
        }
    }
}

impl From<FolderError> for StoreError {
    fn from(error: FolderError) -> Self {
        Self::Folder(Arc::new(error))
    }
}
