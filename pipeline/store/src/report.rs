//! What is shown of runs.

use std::collections::BTreeMap;

use sealift_run::{
    Action, AttemptStatus, Cause, Failure, JobStatus, RunId, RunStatus, TaskStatus, UndoFailure,
    message::Progress,
};
use serde::Serialize;
use serde_json::Value;

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSummary {
    /// The run.
    pub id: RunId,
    /// The definition's name.
    pub definition: String,
    /// SHA-256 of the definition's bytes, lower-case hex.
    pub definition_sha256: String,
    /// SHA-256 of the plan's canonical JSON, lower-case hex: what the run is a run of.
    pub plan_sha256: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Why it did not or will not succeed.
    pub cause: Option<Cause>,
    /// When it was submitted, in Unix milliseconds.
    pub submitted_ms: u64,
    /// When it was settled, in Unix milliseconds.
    pub settled_ms: Option<u64>,
}

/// Everything about one run but its log lines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// The run.
    pub summary: RunSummary,
    /// What it reports; empty unless it succeeded.
    pub outputs: BTreeMap<String, Value>,
    /// Its jobs in the order of the definition, then its `finally`.
    pub jobs: Vec<JobReport>,
}

/// One job of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobReport {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The zone that hosts it.
    pub zone: String,
    /// Whether it is one of `finally`.
    pub finally: bool,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Why it was skipped.
    pub skipped: Option<String>,
    /// When it started, in Unix milliseconds.
    pub started_ms: Option<u64>,
    /// When its own work was over, in Unix milliseconds.
    pub settled_ms: Option<u64>,
    /// Its tasks in order.
    pub tasks: Vec<TaskReport>,
}

/// One task of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    /// Position in the fan-out; 0 without one.
    pub index: u32,
    /// Where it stands.
    pub status: TaskStatus,
    /// The first moment it may be claimed, in Unix milliseconds.
    pub run_at_ms: u64,
    /// What it was told, once it was ready.
    pub input: Option<Value>,
    /// What it left.
    pub output: Option<Value>,
    /// How far its last claim said it was.
    pub progress: Option<Progress>,
    /// Its claims in order.
    pub attempts: Vec<AttemptReport>,
}

/// One claim of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptReport {
    /// The claim's fence.
    pub fence: u64,
    /// 1 for the first attempt.
    pub number: u32,
    /// What it was for.
    pub action: Action,
    /// The worker's name.
    pub worker: String,
    /// Where it stands.
    pub status: AttemptStatus,
    /// Why the work failed.
    pub failure: Option<Failure>,
    /// Why the undo failed.
    pub undo_failure: Option<UndoFailure>,
    /// When it was claimed, in Unix milliseconds.
    pub started_ms: u64,
    /// When it ended, in Unix milliseconds.
    pub settled_ms: Option<u64>,
}

/// One line of a run's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Grows over all lines; read on with the last one seen.
    pub id: i64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The job.
    pub job: String,
    /// The task's position in the fan-out.
    pub index: u32,
    /// The claim's fence.
    pub fence: u64,
    /// The line.
    pub line: String,
}
