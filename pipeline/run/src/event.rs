//! What can happen to a run. The log of these is the truth about it.

use sealift_definition::plan::Plan;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{TaskId, Worker};

/// One line of a run's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When it was decided, in Unix milliseconds.
    pub at_ms: u64,
    /// What happened.
    pub change: Change,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// The run exists. Always the first event and only the first.
    RunSubmitted {
        /// What the run executes.
        plan: Plan,
    },
    /// A worker holds a task, to do it or to undo it.
    AttemptClaimed {
        /// The task.
        task: TaskId,
        /// The task's fence from now on: one more than before.
        fence: u64,
        /// The holder.
        worker: Worker,
    },
    /// A claim ended.
    AttemptSettled {
        /// The task.
        task: TaskId,
        /// The fence of the claim.
        fence: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A person asked for the run to be taken back.
    CancelRequested,
    /// A person removed what an undo left behind and asked to go on.
    RunResumed,
}

impl Change {
    /// The name under which the log holds it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RunSubmitted { .. } => "run-submitted",
            Self::AttemptClaimed { .. } => "attempt-claimed",
            Self::AttemptSettled { .. } => "attempt-settled",
            Self::CancelRequested => "cancel-requested",
            Self::RunResumed => "run-resumed",
        }
    }
}

/// How one claim of a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// The work is done.
    Succeeded {
        /// What it leaves for the jobs after it.
        output: Value,
    },
    /// The work is not done.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// The claim ended without an outcome. Uses no attempt.
    Released {
        /// Why.
        release: Release,
    },
    /// What the job left behind is taken back.
    Undone,
    /// What the job left behind is still there.
    UndoFailed {
        /// Why.
        failure: UndoFailure,
    },
}

/// Why a claim ended without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    /// No heartbeat came within the lease.
    LeaseExpired,
    /// The worker's connection to the engine closed.
    WorkerGone,
    /// A worker of the same name started again.
    WorkerRestarted,
    /// The attempt was asked to stop and did, at a safe point.
    Stopped,
}

/// Who must act on a failure: the engine, by waiting, or a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// Waiting may help.
    Transient,
    /// Trying again cannot help.
    Permanent,
}

/// Why an attempt failed, as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Whether waiting may help.
    pub class: FailureClass,
    /// The fact: "could not read the model".
    pub fact: String,
    /// What a person can do, for a permanent failure.
    pub remedy: Option<String>,
    /// The causes beneath, outermost first.
    pub causes: Vec<String>,
}

/// Why an undo failed, as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoFailure {
    /// What remains and where; fits "… is still there".
    pub left_behind: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
}
