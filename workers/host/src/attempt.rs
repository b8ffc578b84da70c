//! One attempt: the job on a thread of its own runtime, its heartbeats and its log lines on ours.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sealift_job::{Attempt, JobContext, Report};
use sealift_run::{
    Action, AttemptId, Failure, FailureClass, Outcome, Release,
    message::{Assignment, MAX_LOG_LINE_BYTES, Progress, ToEngine},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    HostError,
    connection::{Control, Link, Standing},
    hosted::Hosted,
    outcome,
};

/// Log lines of one attempt that wait to be sent; more are dropped and counted.
const LOG_LINES: usize = 1_024;

/// Heartbeats in one lease: two may be lost.
const BEATS_PER_LEASE: u64 = 3;

/// Shortest time between two heartbeats, so that a job's progress is no flood.
const BEAT_PAUSE: Duration = Duration::from_millis(250);

/// How long an attempt that ran out of time may take to stop at a safe point.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Runs attempts.
pub(crate) struct Runner {
    pub(crate) jobs: BTreeMap<&'static str, Arc<dyn Hosted>>,
    /// Where jobs run, apart from heartbeats: a job that computes for hours without yielding
    /// blocks one of its threads and nothing else.
    pub(crate) runtime: Handle,
    pub(crate) link: Arc<Link>,
    pub(crate) lease_ms: u64,
    pub(crate) now_unix: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Runner {
    /// Runs an attempt to its end and frees its slot.
    ///
    /// # Errors
    /// [`HostError::Frame`] if the slot could not be asked for again.
    pub(crate) async fn attend(self: Arc<Self>, assignment: Assignment) -> Result<(), HostError> {
        let attempt = assignment.attempt.clone();
        if let Some(control) = self.link.control(&attempt) {
            self.hold(assignment, &control).await;
            self.link.forget(&attempt);
        }
        if self.link.draining.is_cancelled() {
            return Ok(());
        }
        self.link.send(&ToEngine::Claim { slots: 1 }).await
    }

    async fn hold(&self, assignment: Assignment, control: &Control) {
        let attempt = assignment.attempt.clone();
        let mut standing = control.standing.subscribe();
        let (progress, seen) = watch::channel(None);
        let beats = beat(Arc::clone(&self.link), attempt.clone(), seen, self.lease_ms);
        let heart = AbortOnDropHandle::new(tokio::spawn(beats));
        let outcome = tokio::select! {
            outcome = self.work(assignment, control, progress) => outcome,
            _ = standing.wait_for(|now| *now == Standing::Void) => {
                tracing::warn!(%attempt, "the attempt is not this worker's any more");
                return;
            }
        };
        self.finish(&attempt, outcome).await;
        // Heartbeats go on until the outcome is in the log.
        drop(standing.wait_for(|now| *now != Standing::Held).await);
        drop(heart);
    }

    async fn finish(&self, attempt: &AttemptId, outcome: Outcome) {
        let finish = |outcome| ToEngine::Finish {
            attempt: attempt.clone(),
            outcome,
        };
        if let Err(error) = self.link.send(&finish(outcome)).await {
            let failure = Failure {
                class: FailureClass::Permanent,
                fact: "could not hand over the job's output".to_owned(),
                remedy: Some("leave large data in a file of the run's artifacts".to_owned()),
                causes: vec![error.to_string()],
            };
            let sent = self.link.send(&finish(Outcome::Failed { failure })).await;
            debug_assert!(sent.is_ok(), "a failure fits into a frame");
        }
    }

    /// Runs the job until it returns, panics or runs out of time.
    async fn work(
        &self,
        assignment: Assignment,
        control: &Control,
        progress: watch::Sender<Option<Progress>>,
    ) -> Outcome {
        if control.interrupt.is_cancelled() {
            return Outcome::Released {
                release: Release::Stopped,
            };
        }
        let Assignment {
            attempt,
            action,
            timeout_ms,
            ..
        } = assignment.clone();
        let (logs, mut lines) = mpsc::channel(LOG_LINES);
        let token = control.interrupt.child_token();
        let mut job = self.start(assignment, token.clone(), (progress, logs));
        let deadline = tokio::time::sleep(Duration::from_millis(timeout_ms));
        tokio::pin!(deadline);
        let mut late = false;
        let ended = loop {
            tokio::select! {
                ended = &mut job => break Some(ended),
                Some(line) = lines.recv() => self.log(&attempt, line).await,
                () = &mut deadline => {
                    if late {
                        break None;
                    }
                    late = true;
                    token.cancel();
                    deadline.as_mut().reset(Instant::now() + STOP_GRACE);
                }
            }
        };
        while let Ok(line) = lines.try_recv() {
            self.log(&attempt, line).await;
        }
        let stopped = control.interrupt.is_cancelled();
        conclude(
            ended,
            &attempt.task.job,
            (action, timeout_ms),
            (stopped, late),
        )
    }

    fn start(
        &self,
        assignment: Assignment,
        token: CancellationToken,
        (progress, logs): (watch::Sender<Option<Progress>>, mpsc::Sender<String>),
    ) -> AbortOnDropHandle<Outcome> {
        let AttemptId { run, task, fence } = assignment.attempt;
        let attempt = Attempt {
            run: run.to_string(),
            job: task.job,
            task: task.index,
            attempt: assignment.number,
            fence,
        };
        let dropped = AtomicU64::new(0);
        let reports = move |report| match report {
            Report::Progress { done, total, unit } => {
                progress.send_replace(Some(Progress { done, total, unit }));
            }
            Report::Log(line) => offer_line(&logs, &dropped, line),
        };
        let (artifacts, now) = (assignment.artifacts, Arc::clone(&self.now_unix));
        let context = JobContext::new(attempt, artifacts, token, now, Arc::new(reports));
        let (kind, action) = (assignment.kind, assignment.action);
        let (input, output) = (assignment.input, assignment.output);
        let hosted = self.jobs.get(kind.as_str()).cloned();
        let work: JoinHandle<Outcome> = self.runtime.spawn(async move {
            match (hosted, action) {
                (Some(job), Action::Run) => job.run(input, &context).await,
                (Some(job), Action::Undo) => job.undo(input, output, &context).await,
                // The engine gives out only what this worker registered.
                (None, _) => Outcome::Released {
                    release: Release::Stopped,
                },
            }
        });
        AbortOnDropHandle::new(work)
    }

    async fn log(&self, attempt: &AttemptId, mut line: String) {
        line.truncate(line.floor_char_boundary(MAX_LOG_LINE_BYTES));
        let message = ToEngine::Log {
            attempt: attempt.clone(),
            line,
        };
        let sent = self.link.send(&message).await;
        debug_assert!(sent.is_ok(), "a line fits into a frame");
    }
}

/// Keeps a line for the log, without ever making the job wait.
fn offer_line(logs: &mpsc::Sender<String>, dropped: &AtomicU64, line: String) {
    let missed = dropped.swap(0, Ordering::Relaxed);
    let line = if missed == 0 {
        line
    } else {
        format!("({missed} lines were dropped) {line}")
    };
    if logs.try_send(line).is_err() {
        dropped.fetch_add(missed + 1, Ordering::Relaxed);
    }
}

/// What an attempt's end means.
fn conclude(
    ended: Option<Result<Outcome, JoinError>>,
    job: &str,
    (action, timeout_ms): (Action, u64),
    (stopped, late): (bool, bool),
) -> Outcome {
    let outcome = match ended {
        None => return outcome::timed_out(job, action, timeout_ms),
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => match error.try_into_panic() {
            Ok(panic) => return outcome::panicked(job, action, panic.as_ref()),
            Err(_) => {
                return Outcome::Released {
                    release: Release::Stopped,
                };
            }
        },
    };
    let gave_up = match &outcome {
        Outcome::Failed { failure } => failure.class == FailureClass::Transient,
        Outcome::UndoFailed { .. } => true,
        _ => false,
    };
    match outcome {
        _ if gave_up && stopped => Outcome::Released {
            release: Release::Stopped,
        },
        _ if gave_up && late => outcome::timed_out(job, action, timeout_ms),
        outcome => outcome,
    }
}

/// Heartbeats of one attempt, at once when it made progress.
async fn beat(
    link: Arc<Link>,
    attempt: AttemptId,
    mut progress: watch::Receiver<Option<Progress>>,
    lease_ms: u64,
) {
    let mut every =
        tokio::time::interval(Duration::from_millis((lease_ms / BEATS_PER_LEASE).max(1)));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every.tick().await;
    let mut reports = true;
    loop {
        tokio::select! {
            _ = every.tick() => {}
            changed = progress.changed(), if reports => reports = changed.is_ok(),
        }
        let progress = progress.borrow_and_update().clone();
        let message = ToEngine::Heartbeat {
            attempt: attempt.clone(),
            progress,
        };
        if let Err(error) = link.send(&message).await {
            tracing::warn!(error = ?error, %attempt, "a heartbeat could not be sent");
        }
        tokio::time::sleep(BEAT_PAUSE).await;
    }
}
