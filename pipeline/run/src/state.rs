//! The fold of a run's log.

use std::collections::{BTreeMap, BTreeSet};

use sealift_definition::plan::{Plan, PlannedJob};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Failure, JobStatus, RunStatus, TaskId, TaskStatus, UndoFailure, Worker};

/// Everything that is known about a run. Changed by [`next`](crate::next) alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunState {
    pub(crate) status: RunStatus,
    pub(crate) cause: Option<Cause>,
    pub(crate) plan: Option<Plan>,
    /// The plan's `jobs`, then its `finally`.
    pub(crate) jobs: Vec<JobState>,
    pub(crate) by_name: BTreeMap<String, usize>,
    /// The plan's `jobs`, each after what it needs.
    pub(crate) order: Vec<usize>,
    /// Jobs of the present stage that are not settled.
    pub(crate) unsettled: usize,
    /// Jobs still to be undone; the next one is the last.
    pub(crate) to_undo: Vec<usize>,
    pub(crate) outputs: BTreeMap<String, Value>,
}

/// Why a run did not succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Cause {
    /// A job failed.
    Failed {
        /// The job, or none if the run's own outputs could not be made.
        job: Option<String>,
        /// Its failure.
        failure: Failure,
    },
    /// A person cancelled it.
    Cancelled,
}

/// What is known about one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobState {
    pub(crate) status: JobStatus,
    pub(crate) remaining: u32,
    pub(crate) dependents: Vec<usize>,
    /// The elements of `for-each`, once known.
    pub(crate) elements: Option<Vec<Value>>,
    pub(crate) tasks: Vec<TaskState>,
    /// Tasks whose own work is not over.
    pub(crate) unsettled: u32,
    /// Tasks still to be undone.
    pub(crate) undo_remaining: u32,
    /// The next task that `max-parallel` holds back.
    pub(crate) next_pending: usize,
    /// Whether every task succeeded, even if they were undone since.
    pub(crate) has_outputs: bool,
    pub(crate) failure: Option<Failure>,
    pub(crate) skipped: Option<String>,
}

/// What is known about one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskState {
    pub(crate) status: TaskStatus,
    pub(crate) run_at_ms: u64,
    pub(crate) failures: u32,
    pub(crate) fence: u64,
    pub(crate) worker: Option<Worker>,
    pub(crate) output: Option<Value>,
    pub(crate) failure: Option<Failure>,
    pub(crate) undo_failure: Option<UndoFailure>,
}

/// What a claim of a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The job's `run`.
    Run,
    /// The job's `undo`.
    Undo,
}

impl RunState {
    /// Where the run stands.
    pub fn status(&self) -> RunStatus {
        self.status
    }

    /// Why it did not or will not succeed.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// What it executes, once it is submitted.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// What it reports; empty unless it succeeded.
    pub fn outputs(&self) -> &BTreeMap<String, Value> {
        &self.outputs
    }

    /// Its jobs with their plans: `jobs`, then `finally`.
    pub fn jobs(&self) -> impl Iterator<Item = (&PlannedJob, &JobState)> {
        self.planned().zip(&self.jobs)
    }

    /// The job at `index` of [`jobs`](Self::jobs).
    pub fn job(&self, index: usize) -> Option<(&PlannedJob, &JobState)> {
        Some((self.planned_at(index)?, self.jobs.get(index)?))
    }

    /// The job's index in [`jobs`](Self::jobs).
    pub fn index_of(&self, job: &str) -> Option<usize> {
        self.by_name.get(job).copied()
    }

    /// The task of that name.
    pub fn task(&self, task: &TaskId) -> Option<&TaskState> {
        self.jobs
            .get(self.index_of(&task.job)?)?
            .tasks
            .get(task.index as usize)
    }

    /// Every task that may be claimed from its [`TaskState::run_at_ms`] on.
    pub fn claimable(&self) -> Vec<TaskId> {
        self.tasks_where(|status| matches!(status, TaskStatus::Ready | TaskStatus::UndoReady))
    }

    /// Every task that a worker holds.
    pub fn claimed(&self) -> Vec<TaskId> {
        self.tasks_where(TaskStatus::is_claimed)
    }

    /// The jobs, by index, whose needs are all met by jobs that succeeded.
    pub fn needs_met(&self) -> BTreeSet<usize> {
        (0..self.jobs.len())
            .filter(|&i| self.jobs[i].remaining == 0)
            .collect()
    }

    /// Whether claimed tasks should stop at a safe point: the run unwinds.
    pub fn interrupts(&self, task: &TaskId) -> bool {
        let Some(index) = self.index_of(&task.job) else {
            return true;
        };
        let running = self
            .task(task)
            .is_some_and(|t| t.status == TaskStatus::Running);
        let job_failed = self.jobs[index].failure.is_some();
        running && (job_failed || (self.status == RunStatus::Unwinding && self.is_main(index)))
    }

    fn tasks_where(&self, wanted: impl Fn(TaskStatus) -> bool) -> Vec<TaskId> {
        let mut found = Vec::new();
        for (planned, job) in self.jobs() {
            let tasks = job
                .tasks
                .iter()
                .zip(0..)
                .filter(|(task, _)| wanted(task.status));
            found.extend(tasks.map(|(_, index)| TaskId {
                job: planned.name.clone(),
                index,
            }));
        }
        found
    }

    pub(crate) fn is_main(&self, index: usize) -> bool {
        self.plan
            .as_ref()
            .is_some_and(|plan| index < plan.jobs.len())
    }

    pub(crate) fn planned_at(&self, index: usize) -> Option<&PlannedJob> {
        let plan = self.plan.as_ref()?;
        plan.jobs
            .get(index)
            .or_else(|| plan.finally.get(index.checked_sub(plan.jobs.len())?))
    }

    fn planned(&self) -> impl Iterator<Item = &PlannedJob> {
        self.plan
            .iter()
            .flat_map(|plan| plan.jobs.iter().chain(&plan.finally))
    }
}

impl JobState {
    /// Where the job stands.
    pub fn status(&self) -> JobStatus {
        self.status
    }

    /// Jobs it needs that have not succeeded yet.
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Indices in [`RunState::jobs`] of the jobs that need it.
    pub fn dependents(&self) -> &[usize] {
        &self.dependents
    }

    /// Its tasks, once it has started.
    pub fn tasks(&self) -> &[TaskState] {
        &self.tasks
    }

    /// Tasks whose own work is not over.
    pub fn unsettled_tasks(&self) -> u32 {
        self.unsettled
    }

    /// Why it failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Why it was skipped.
    pub fn skipped(&self) -> Option<&str> {
        self.skipped.as_deref()
    }

    /// Whether a worker ever held one of its tasks.
    pub fn has_started(&self) -> bool {
        self.tasks.iter().any(|task| task.fence > 0)
    }
}

impl TaskState {
    /// Where the task stands.
    pub fn status(&self) -> TaskStatus {
        self.status
    }

    /// The first moment it may be claimed, in Unix milliseconds.
    pub fn run_at_ms(&self) -> u64 {
        self.run_at_ms
    }

    /// Attempts used, of the run or, while it is being undone, of the undo.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How often it was claimed; the last claim's fence.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Who holds it.
    pub fn worker(&self) -> Option<&Worker> {
        self.worker.as_ref()
    }

    /// What it left, once it succeeded.
    pub fn output(&self) -> Option<&Value> {
        self.output.as_ref()
    }

    /// Its last failure.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Why it could not be undone.
    pub fn undo_failure(&self) -> Option<&UndoFailure> {
        self.undo_failure.as_ref()
    }

    /// What a claim of it is or would be for.
    pub fn action(&self) -> Action {
        match self.status {
            TaskStatus::UndoReady
            | TaskStatus::Undoing
            | TaskStatus::Undone
            | TaskStatus::UndoFailed => Action::Undo,
            _ => Action::Run,
        }
    }
}
