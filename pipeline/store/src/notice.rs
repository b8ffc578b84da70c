//! What the store tells those who watch, after it is durable.

use sealift_run::{
    Action, AttemptId, AttemptStatus, Cause, Failure, JobStatus, RunId, RunStatus, TaskId, Worker,
    message::Progress,
};

/// Something that is stored now. A watcher that falls behind misses some and reads the tables.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A run changed its status.
    Run {
        /// The run.
        run: RunId,
        /// Where it stands.
        status: RunStatus,
        /// Why it did not or will not succeed.
        cause: Option<Cause>,
    },
    /// A job changed.
    Job {
        /// The run.
        run: RunId,
        /// The job's name.
        job: String,
        /// Its kind.
        kind: String,
        /// Where it stands.
        status: JobStatus,
        /// Its tasks in all; 0 until it starts.
        tasks: u32,
        /// Its tasks whose own work is not over.
        unsettled: u32,
        /// Why it failed.
        failure: Option<Failure>,
        /// Why it was skipped.
        skipped: Option<String>,
    },
    /// A worker took a task.
    Claimed {
        /// The claim.
        attempt: AttemptId,
        /// What for.
        action: Action,
        /// 1 for the first attempt.
        number: u32,
        /// Who.
        worker: Worker,
    },
    /// A claim ended.
    Settled {
        /// The claim.
        attempt: AttemptId,
        /// How.
        status: AttemptStatus,
        /// Why, if it failed: the fact, then its causes.
        failure: Vec<String>,
        /// When the task may be claimed again, if it may, in Unix milliseconds.
        again_at_ms: Option<u64>,
    },
    /// An attempt should stop at a safe point.
    Interrupt {
        /// The claim.
        attempt: AttemptId,
        /// Who holds it.
        worker: Worker,
    },
    /// An attempt said how far it is.
    Progress {
        /// The claim.
        attempt: AttemptId,
        /// How far.
        progress: Progress,
    },
    /// An attempt spoke.
    Log {
        /// The claim.
        attempt: AttemptId,
        /// When, in Unix milliseconds.
        at_ms: u64,
        /// The line.
        line: String,
    },
}

impl Notice {
    /// The run it is about.
    pub fn run(&self) -> &RunId {
        match self {
            Self::Run { run, .. } | Self::Job { run, .. } => run,
            Self::Claimed { attempt, .. }
            | Self::Settled { attempt, .. }
            | Self::Interrupt { attempt, .. }
            | Self::Progress { attempt, .. }
            | Self::Log { attempt, .. } => &attempt.run,
        }
    }

    /// The task it is about.
    pub fn task(&self) -> Option<&TaskId> {
        match self {
            Self::Run { .. } | Self::Job { .. } => None,
            Self::Claimed { attempt, .. }
            | Self::Settled { attempt, .. }
            | Self::Interrupt { attempt, .. }
            | Self::Progress { attempt, .. }
            | Self::Log { attempt, .. } => Some(&attempt.task),
        }
    }
}
