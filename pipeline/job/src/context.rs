//! What an attempt knows about itself and how it speaks while it works.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use crate::JobError;

/// Which attempt of which task of which job of which run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The run's identifier.
    pub run: String,
    /// The job's name in the definition.
    pub job: String,
    /// The task's position in its job's fan-out; 0 without one.
    pub task: u32,
    /// 1 for the first attempt. A lost worker does not count.
    pub attempt: u32,
    /// Grows with every claim of this task, so that an effect can refuse an older claimant.
    pub fence: u64,
}

/// What an attempt says while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// How far it is.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all; 0 if unknown.
        total: u64,
        /// What is counted, in the plural (`bytes`, `tensors`).
        unit: String,
    },
    /// A line for the run's log.
    Log(String),
}

/// Handed to [`Job::run`](crate::Job::run) and [`Job::undo`](crate::Job::undo).
#[derive(Clone)]
pub struct JobContext {
    attempt: Attempt,
    artifacts: PathBuf,
    cancellation: CancellationToken,
    now_unix: Arc<dyn Fn() -> u64 + Send + Sync>,
    reports: Arc<dyn Fn(Report) + Send + Sync>,
}

impl JobContext {
    /// A context for `attempt`, whose run keeps its artifacts in the folder `artifacts`.
    ///
    /// `now_unix` reads the clock in Unix seconds; `reports` must not block.
    pub fn new(
        attempt: Attempt,
        artifacts: impl Into<PathBuf>,
        cancellation: CancellationToken,
        now_unix: Arc<dyn Fn() -> u64 + Send + Sync>,
        reports: Arc<dyn Fn(Report) + Send + Sync>,
    ) -> Self {
        Self {
            attempt,
            artifacts: artifacts.into(),
            cancellation,
            now_unix,
            reports,
        }
    }

    /// A context that belongs to no run: its reports go nowhere and its time stands still.
    ///
    /// For calling a job directly, as tests do.
    pub fn detached(artifacts: impl Into<PathBuf>, now_unix: u64) -> Self {
        let attempt = Attempt {
            run: "detached".into(),
            job: "job".into(),
            task: 0,
            attempt: 1,
            fence: 1,
        };
        Self::new(
            attempt,
            artifacts,
            CancellationToken::new(),
            Arc::new(move || now_unix),
            Arc::new(|_| {}),
        )
    }

    /// The run's identifier.
    pub fn run(&self) -> &str {
        &self.attempt.run
    }

    /// The job's name in the definition.
    pub fn job(&self) -> &str {
        &self.attempt.job
    }

    /// The task's position in its job's fan-out; 0 without one.
    pub fn task(&self) -> u32 {
        self.attempt.task
    }

    /// 1 for the first attempt. A lost worker does not count.
    pub fn attempt(&self) -> u32 {
        self.attempt.attempt
    }

    /// Grows with every claim of this task, so that an effect can refuse an older claimant.
    pub fn fence(&self) -> u64 {
        self.attempt.fence
    }

    /// The time, in Unix seconds.
    pub fn now_unix(&self) -> u64 {
        (self.now_unix)()
    }

    /// Whether the attempt should return at its next safe point.
    pub fn cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// The token behind [`cancelled`](Self::cancelled), to wait on.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Returns from a job at a safe point: `context.stop_if_cancelled()?`.
    ///
    /// # Errors
    /// A transient [`JobError`] once the attempt is cancelled. Being stopped uses no attempt.
    pub fn stop_if_cancelled(&self) -> Result<(), JobError> {
        if self.cancelled() {
            return Err(JobError::transient(
                "go on",
                "the attempt was asked to stop",
            ));
        }
        Ok(())
    }

    /// Says how far the work is; `total` is 0 if unknown, `unit` is a plural (`bytes`).
    pub fn progress(&self, done: u64, total: u64, unit: &str) {
        (self.reports)(Report::Progress {
            done,
            total,
            unit: unit.into(),
        });
    }

    /// Adds a line to the run's log. Never a secret.
    pub fn log(&self, line: impl Into<String>) {
        (self.reports)(Report::Log(line.into()));
    }

    /// The folder in which the jobs of this run leave files for each other.
    pub fn artifacts(&self) -> &Path {
        &self.artifacts
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("attempt", &self.attempt)
            .field("artifacts", &self.artifacts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_cancelled_attempt_stops_with_a_transient_error() {
        let context = JobContext::detached("/nowhere", 7);
        assert!(context.stop_if_cancelled().is_ok());
        context.cancellation().cancel();
        assert!(matches!(
            context.stop_if_cancelled(),
            Err(JobError::Transient { .. })
        ));
    }

    #[test]
    fn reports_reach_the_host_in_order() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        let context = JobContext::new(
            Attempt {
                run: "r".into(),
                job: "j".into(),
                task: 2,
                attempt: 3,
                fence: 4,
            },
            "/artifacts",
            CancellationToken::new(),
            Arc::new(|| 9),
            Arc::new(move |report| ears.lock().unwrap().push(report)),
        );
        context.progress(1, 2, "tensors");
        context.log("sealed layer 0");
        assert_eq!(
            *heard.lock().unwrap(),
            [
                Report::Progress {
                    done: 1,
                    total: 2,
                    unit: "tensors".into()
                },
                Report::Log("sealed layer 0".into())
            ]
        );
        assert_eq!(
            (context.task(), context.attempt(), context.fence()),
            (2, 3, 4)
        );
    }
}
