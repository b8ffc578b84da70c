//! What an engine needs of a store, whatever database is under it.

use std::{collections::BTreeSet, sync::Arc};

use sealift_definition::plan::Plan;
use sealift_run::{
    AttemptId, Outcome, RunId, RunStatus, Worker,
    message::{Assignment, Progress},
};
use tokio::sync::broadcast;

use crate::{Notice, Reader, StateFolder, StoreError};

/// Kinds that a worker hosts.
pub type Kinds = Arc<BTreeSet<String>>;

/// What a heartbeat tells a worker about an attempt it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Go on.
    Held,
    /// Stop at a safe point.
    Interrupted,
}

/// A store of runs and the queue over them.
///
/// Every method that changes something returns once it is durable. A worker's writes are
/// conditional on the fence in its [`AttemptId`]: a claim that is void is refused with
/// [`StoreError::NotHeld`] and changes nothing.
pub trait RunStore: Clone + Send + Sync + 'static {
    /// Makes a run and lets its first jobs be claimed.
    fn submit(&self, plan: Plan) -> impl Future<Output = Result<RunId, StoreError>> + Send;

    /// As [`Self::submit`], under an identifier of [`new_run_id`](crate::new_run_id): for a caller
    /// that keeps something under that name before the run exists.
    ///
    /// # Errors
    /// [`StoreError::RunExists`] among others.
    fn submit_as(
        &self,
        run: RunId,
        plan: Plan,
    ) -> impl Future<Output = Result<RunId, StoreError>> + Send;

    /// Lets an unsettled run be worked on by this store's engine, folding its log.
    ///
    /// A stopped run tries its failed undo again. A run that is worked on already is left alone.
    fn resume(&self, run: &RunId) -> impl Future<Output = Result<RunStatus, StoreError>> + Send;

    /// Begins to unwind a run that is worked on.
    fn cancel(&self, run: &RunId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes a worker known and voids every claim of an earlier start of it.
    fn register(&self, worker: &Worker) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Waits for a task of one of these kinds and claims it.
    ///
    /// Dropping the future gives up the wait; a claim that was made meanwhile is released.
    fn claim(
        &self,
        worker: &Worker,
        kinds: &Kinds,
    ) -> impl Future<Output = Result<Assignment, StoreError>> + Send;

    /// Renews the lease of a claim.
    fn heartbeat(
        &self,
        worker: &Worker,
        attempt: &AttemptId,
        progress: Option<Progress>,
    ) -> impl Future<Output = Result<Hold, StoreError>> + Send;

    /// Keeps a line of an attempt.
    fn log(
        &self,
        worker: &Worker,
        attempt: &AttemptId,
        line: String,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends a claim with its outcome.
    fn finish(
        &self,
        worker: &Worker,
        attempt: &AttemptId,
        outcome: Outcome,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets a worker and releases every claim it has.
    fn leave(&self, worker: &Worker) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What is stored from now on.
    fn notices(&self) -> broadcast::Receiver<Notice>;

    /// How long a claim lives without a heartbeat, in milliseconds.
    fn lease_ms(&self) -> u64;

    /// The folder that the store's engine works in.
    fn folder(&self) -> &StateFolder;

    /// Looks at what is stored.
    fn reader(&self) -> &Reader;

    /// Stores what was asked before, then ends.
    fn close(&self) -> impl Future<Output = ()> + Send;
}
