//! The engine's queue as apalis sees it: a stream of tasks that this worker holds already.
//!
//! Claiming, leases, outcomes and retries are the engine's, in one transaction with the state of
//! the run; apalis runs what was claimed. So the backend is ephemeral and has no middleware.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, builder::TaskBuilder, task_id::TaskId},
    worker::context::WorkerContext,
};
use sealift_run::{AttemptId, message::Assignment};
use tokio::sync::mpsc;
use tower_layer::Identity;

/// Assignments as they come from the engine; it ends when the engine drains.
#[derive(Debug)]
pub(crate) struct EngineQueue {
    assignments: mpsc::Receiver<Assignment>,
}

impl EngineQueue {
    pub(crate) fn new(assignments: mpsc::Receiver<Assignment>) -> Self {
        Self { assignments }
    }
}

impl Backend for EngineQueue {
    type Task = Task<Assignment>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        self.assignments
            .poll_recv(cx)
            .map(|next| next.map(|assigned| Ok(named(assigned))))
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        self.assignments.close();
        Poll::Ready(Ok(()))
    }
}

/// apalis's spans need a name for each task.
fn named(assigned: Assignment) -> Task<Assignment> {
    let name = assigned.attempt.to_string();
    TaskBuilder::new(assigned)
        .task_id(TaskId::from_string(name))
        .build()
}

impl BackendConfig for EngineQueue {
    type Args = Assignment;
    type Id = AttemptId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
