//! What the writer is asked.

use sealift_definition::plan::Plan;
use sealift_run::{
    AttemptId, Outcome, RunId, RunStatus, Worker,
    message::{Assignment, Progress},
};
use tokio::sync::oneshot;

use crate::{Hold, Kinds, StoreError};

/// Where an answer goes, once it is durable.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// One message to the writer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Do something and answer once it is durable.
    Ask(Ask),
    /// Store what was asked before, then end.
    Close(oneshot::Sender<()>),
}

/// Something to do in the next transaction.
#[derive(Debug)]
pub(crate) enum Ask {
    Submit {
        /// Its identifier, if the caller has chosen one.
        run: Option<RunId>,
        plan: Box<Plan>,
        reply: Reply<RunId>,
    },
    Resume {
        run: RunId,
        reply: Reply<RunStatus>,
    },
    Cancel {
        run: RunId,
        reply: Reply<()>,
    },
    Register {
        worker: Worker,
        reply: Reply<()>,
    },
    Claim {
        worker: Worker,
        kinds: Kinds,
        reply: Reply<Assignment>,
    },
    Heartbeat {
        worker: Worker,
        attempt: AttemptId,
        progress: Option<Progress>,
        reply: Reply<Hold>,
    },
    Log {
        worker: Worker,
        attempt: AttemptId,
        line: String,
        reply: Reply<()>,
    },
    Finish {
        worker: Worker,
        attempt: AttemptId,
        outcome: Outcome,
        reply: Reply<()>,
    },
    Leave {
        worker: Worker,
        reply: Reply<()>,
    },
}

impl Ask {
    /// Answers that it was not done.
    pub(crate) fn refuse(self, error: StoreError) {
        // Whoever has stopped waiting for an answer needs none.
        match self {
            Self::Submit { reply, .. } => drop(reply.send(Err(error))),
            Self::Resume { reply, .. } => drop(reply.send(Err(error))),
            Self::Claim { reply, .. } => drop(reply.send(Err(error))),
            Self::Heartbeat { reply, .. } => drop(reply.send(Err(error))),
            Self::Cancel { reply, .. }
            | Self::Register { reply, .. }
            | Self::Log { reply, .. }
            | Self::Finish { reply, .. }
            | Self::Leave { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// A claim that nobody waited for any more when it had become durable.
pub(crate) type Abandoned = (Worker, AttemptId);

/// An answer that waits for its transaction.
pub(crate) struct Staged(Box<dyn FnOnce(Result<(), StoreError>) -> Option<Abandoned> + Send>);

impl Staged {
    pub(crate) fn answer<T: Send + 'static>(
        reply: Reply<T>,
        answer: Result<T, StoreError>,
    ) -> Self {
        Self(Box::new(move |committed| {
            drop(reply.send(committed.and(answer)));
            None
        }))
    }

    pub(crate) fn claim(reply: Reply<Assignment>, worker: Worker, assignment: Assignment) -> Self {
        Self(Box::new(move |committed| {
            let attempt = assignment.attempt.clone();
            let durable = committed.is_ok();
            let gone = reply.send(committed.map(|()| assignment)).is_err();
            (durable && gone).then_some((worker, attempt))
        }))
    }

    pub(crate) fn deliver(self, committed: Result<(), StoreError>) -> Option<Abandoned> {
        (self.0)(committed)
    }
}
