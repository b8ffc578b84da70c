//! What one event changes and asks for, or why it cannot happen.

use std::collections::BTreeSet;

use crate::{Action, PlanFault, RunStatus, TaskId, TaskStatus};

/// What the engine has to do after an event, besides keeping it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The task may be claimed from `run_at_ms` on.
    Offer {
        /// The task.
        task: TaskId,
        /// What for.
        action: Action,
        /// Unix milliseconds.
        run_at_ms: u64,
    },
    /// The task may not be claimed any more.
    Withdraw {
        /// The task.
        task: TaskId,
    },
    /// Whoever holds the task is asked to stop at a safe point.
    Interrupt {
        /// The task.
        task: TaskId,
        /// The fence of the claim.
        fence: u64,
    },
    /// The run is over.
    Settle {
        /// How it ended.
        status: RunStatus,
    },
}

/// What one event changed and asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Jobs that changed, by index in [`RunState::jobs`].
    pub jobs: BTreeSet<usize>,
    /// Tasks that changed, by job and index.
    pub tasks: BTreeSet<(usize, u32)>,
    /// What to do, in order.
    pub commands: Vec<Command>,
}

/// An event that cannot happen in the state it was applied to.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum IllegalTransition {
    /// The plan cannot be run.
    #[error(transparent)]
    Plan(#[from] PlanFault),
    /// The run does not allow it where it stands.
    #[error("{change} cannot happen to a run that is {status}")]
    Run {
        /// Where the run stands.
        status: RunStatus,
        /// What was to happen.
        change: &'static str,
    },
    /// The run has no such task.
    #[error("the run has no task {0}")]
    UnknownTask(TaskId),
    /// The task does not allow it where it stands.
    #[error("{change} cannot happen to task {task}, which is {status}")]
    Task {
        /// The task.
        task: TaskId,
        /// Where it stands.
        status: TaskStatus,
        /// What was to happen.
        change: &'static str,
    },
    /// The writer's claim is not the task's last one.
    #[error("task {task} is under fence {current}; fence {presented} is void")]
    StaleFence {
        /// The task.
        task: TaskId,
        /// What the writer holds.
        presented: u64,
        /// What the task is under.
        current: u64,
    },
    /// The task waits for a later time.
    #[error("task {task} may not be claimed before {run_at_ms} (Unix milliseconds)")]
    TooEarly {
        /// The task.
        task: TaskId,
        /// When it may be claimed.
        run_at_ms: u64,
    },
    /// A status may not follow another: a fault in this crate, never in the event.
    #[error("{what} would go from {from} to {to}; this is a bug in sealift")]
    Table {
        /// The run, job or task.
        what: String,
        /// Where it stands.
        from: &'static str,
        /// Where it was sent.
        to: &'static str,
    },
}
