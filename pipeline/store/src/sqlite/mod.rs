//! The store of a single machine: one SQLite file, one writer, group commit.

mod consequence;
mod dispatch;
mod open;
mod request;
mod resume;
mod rows;
mod transaction;
mod writer;

use std::{fmt, sync::Arc};

use sealift_definition::plan::Plan;
use sealift_run::{
    AttemptId, Outcome, RunId, RunStatus, Worker,
    message::{Assignment, Progress},
};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{Hold, Kinds, Notice, Reader, RunStore, StateFolder, StoreError};
use request::{Ask, Reply, Request};

pub(crate) use open::read_only_pool;

/// Requests waiting for the writer: more than any group commit takes, so that callers, not
/// memory, wait.
const QUEUE: usize = 1_024;

/// Notices a slow watcher may fall behind before it misses some.
const NOTICES: usize = 4_096;

/// What survives what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Every commit survives a power loss (`synchronous = FULL`).
    #[default]
    Full,
    /// Every commit survives a crash of the process; a power loss may take the last ones back
    /// (`synchronous = NORMAL`).
    Normal,
}

/// How a [`SqliteStore`] works.
#[derive(Clone)]
pub struct StoreOptions {
    /// What survives what.
    pub durability: Durability,
    /// How long a claim lives without a heartbeat, in milliseconds.
    pub lease_ms: u64,
    /// The clock, in Unix milliseconds.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl StoreOptions {
    /// How long a claim lives without a heartbeat unless told otherwise: three heartbeats may be
    /// lost on a machine whose cores are all busy.
    pub const LEASE_MS: u64 = 15_000;

    /// Full durability and [`LEASE_MS`](Self::LEASE_MS), over the clock `now_ms` (Unix
    /// milliseconds).
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            durability: Durability::default(),
            lease_ms: Self::LEASE_MS,
            now_ms: Arc::new(now_ms),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("durability", &self.durability)
            .field("lease_ms", &self.lease_ms)
            .finish_non_exhaustive()
    }
}

/// The store of a single machine. Clones share one writer.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    requests: mpsc::Sender<Request>,
    notices: broadcast::Sender<Notice>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: Arc<StateFolder>,
    reader: Reader,
    lease_ms: u64,
}

impl SqliteStore {
    /// Opens the database in `folder`, making it if it is not there, and starts its writer.
    ///
    /// No run is worked on until it is submitted or resumed.
    ///
    /// # Errors
    /// [`StoreError::Database`] or [`StoreError::NewerSchema`].
    pub async fn open(folder: StateFolder, options: StoreOptions) -> Result<Self, StoreError> {
        let database = open::writer_connection(&folder, options.durability).await?;
        let reader = Reader::open(folder.path()).await?;
        let folder = Arc::new(folder);
        let shared = Shared {
            folder: Arc::clone(&folder),
            reader,
            lease_ms: options.lease_ms,
        };
        let (requests, inbox) = mpsc::channel(QUEUE);
        let (notices, _) = broadcast::channel(NOTICES);
        let writer = writer::Writer::new(database, folder, options, notices.clone());
        tokio::spawn(writer.run(inbox));
        Ok(Self {
            requests,
            notices,
            shared: Arc::new(shared),
        })
    }

    async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask + Send) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(Request::Ask(ask(reply))).await;
        sent.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl RunStore for SqliteStore {
    async fn submit(&self, plan: Plan) -> Result<RunId, StoreError> {
        self.ask(|reply| Ask::Submit {
            run: None,
            plan: Box::new(plan),
            reply,
        })
        .await
    }

    async fn submit_as(&self, run: RunId, plan: Plan) -> Result<RunId, StoreError> {
        self.ask(|reply| Ask::Submit {
            run: Some(run),
            plan: Box::new(plan),
            reply,
        })
        .await
    }

    async fn resume(&self, run: &RunId) -> Result<RunStatus, StoreError> {
        self.ask(|reply| Ask::Resume {
            run: run.clone(),
            reply,
        })
        .await
    }

    async fn cancel(&self, run: &RunId) -> Result<(), StoreError> {
        self.ask(|reply| Ask::Cancel {
            run: run.clone(),
            reply,
        })
        .await
    }

    async fn register(&self, worker: &Worker) -> Result<(), StoreError> {
        self.ask(|reply| Ask::Register {
            worker: worker.clone(),
            reply,
        })
        .await
    }

    async fn claim(&self, worker: &Worker, kinds: &Kinds) -> Result<Assignment, StoreError> {
        let (worker, kinds) = (worker.clone(), Arc::clone(kinds));
        self.ask(|reply| Ask::Claim {
            worker,
            kinds,
            reply,
        })
        .await
    }

    async fn heartbeat(
        &self,
        worker: &Worker,
        attempt: &AttemptId,
        progress: Option<Progress>,
    ) -> Result<Hold, StoreError> {
        let (worker, attempt) = (worker.clone(), attempt.clone());
        self.ask(|reply| Ask::Heartbeat {
            worker,
            attempt,
            progress,
            reply,
        })
        .await
    }

    async fn log(
        &self,
        worker: &Worker,
        attempt: &AttemptId,
        line: String,
    ) -> Result<(), StoreError> {
        let (worker, attempt) = (worker.clone(), attempt.clone());
        self.ask(|reply| Ask::Log {
            worker,
            attempt,
            line,
            reply,
        })
        .await
    }

    async fn finish(
        &self,
        worker: &Worker,
        attempt: &AttemptId,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        let (worker, attempt) = (worker.clone(), attempt.clone());
        self.ask(|reply| Ask::Finish {
            worker,
            attempt,
            outcome,
            reply,
        })
        .await
    }

    async fn leave(&self, worker: &Worker) -> Result<(), StoreError> {
        self.ask(|reply| Ask::Leave {
            worker: worker.clone(),
            reply,
        })
        .await
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn lease_ms(&self) -> u64 {
        self.shared.lease_ms
    }

    fn folder(&self) -> &StateFolder {
        &self.shared.folder
    }

    fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.requests.send(Request::Close(reply)).await.is_ok() {
            // An error means that the writer has ended already, which is what was asked.
            drop(done.await);
        }
    }
}
