//! The trait that every kind of work implements.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{JobContext, JobError, UndoError};

/// One kind of work: what a definition names, a worker hosts and the run log remembers.
pub trait Job: Send + Sync {
    /// Names this kind in definitions and in the run log, with its version (`seal@1`), so
    /// renaming it is a format change.
    const KIND: &'static str;

    /// Whether running it leaves something outside the run's own artifacts.
    ///
    /// Results of effectful kinds are never taken from a cache. The default is the careful one.
    const EFFECTFUL: bool = true;

    /// What one job is told, as the definition and the run log hold it. Never a secret.
    type Input: Serialize + DeserializeOwned + JsonSchema + Send + Sync;

    /// What one job leaves for the jobs after it. Never a secret.
    type Output: Serialize + DeserializeOwned + JsonSchema + Send + Sync;

    /// Does the work.
    ///
    /// Runs again whenever a worker is lost before its result is recorded, so doing it twice
    /// must leave the world as doing it once does. Guard effects with [`JobContext::fence`].
    fn run(
        &self,
        input: &Self::Input,
        context: &JobContext,
    ) -> impl Future<Output = Result<Self::Output, JobError>> + Send;

    /// Takes back what `run` left behind.
    ///
    /// `output` is there if `run` is known to have succeeded. Without it, `run` got anywhere
    /// from nowhere to the end, so finding nothing to take back is success.
    fn undo(
        &self,
        input: &Self::Input,
        output: Option<&Self::Output>,
        context: &JobContext,
    ) -> impl Future<Output = Result<(), UndoError>> + Send;
}
