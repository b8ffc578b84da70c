//! What follows from an event that is in the log: the queue changes, and watchers are told.

use sealift_run::{
    AttemptId, AttemptStatus, Change, Command, Event, Outcome, RunId, RunStatus, Step,
};

use super::{
    dispatch::Lease,
    transaction::Transaction,
    writer::{Active, Known},
};
use crate::Notice;

impl Transaction<'_> {
    pub(crate) fn follow(&mut self, run: &RunId, change: Change, step: Step, until_ms: u64) {
        let Known { active, dispatch } = &mut *self.known;
        match change {
            Change::AttemptClaimed {
                task,
                fence,
                worker,
            } => {
                let attempt = AttemptId {
                    run: run.clone(),
                    task,
                    fence,
                };
                dispatch.lease(attempt, Lease { worker, until_ms });
            }
            Change::AttemptSettled { task, fence, .. } => {
                dispatch.release(&AttemptId {
                    run: run.clone(),
                    task,
                    fence,
                });
            }
            _ => {}
        }
        for command in step.commands {
            match command {
                Command::Offer {
                    task, run_at_ms, ..
                } => {
                    let state = active.get(run).map(|active| &active.state);
                    let job = state.and_then(|state| state.job(state.index_of(&task.job)?));
                    if let Some((planned, _)) = job {
                        dispatch.offer(run, task, &planned.kind, run_at_ms);
                    }
                }
                Command::Withdraw { task } => dispatch.withdraw(run, &task),
                Command::Interrupt { task, fence } => {
                    let attempt = AttemptId {
                        run: run.clone(),
                        task,
                        fence,
                    };
                    if let Some(worker) = dispatch.holder(&attempt).cloned() {
                        self.notices.push(Notice::Interrupt { attempt, worker });
                    }
                }
                Command::Settle { .. } => {
                    active.remove(run);
                    dispatch.forget(run);
                }
            }
        }
    }

    pub(crate) fn tell(&mut self, run: &RunId, before: RunStatus, event: &Event, step: &Step) {
        let Some(Active { state, .. }) = self.known.active.get(run) else {
            return;
        };
        match &event.change {
            Change::AttemptClaimed {
                task,
                fence,
                worker,
            } => {
                let claimed = state.task(task);
                let attempt = AttemptId {
                    run: run.clone(),
                    task: task.clone(),
                    fence: *fence,
                };
                self.notices.extend(claimed.map(|claimed| Notice::Claimed {
                    attempt,
                    action: claimed.action(),
                    number: claimed.failures() + 1,
                    worker: worker.clone(),
                }));
            }
            Change::AttemptSettled {
                task,
                fence,
                outcome,
            } => {
                let again_at_ms = step.commands.iter().find_map(|command| match command {
                    Command::Offer {
                        task: again,
                        run_at_ms,
                        ..
                    } if again == task => Some(*run_at_ms),
                    _ => None,
                });
                let attempt = AttemptId {
                    run: run.clone(),
                    task: task.clone(),
                    fence: *fence,
                };
                let (status, failure) = shown(outcome);
                self.notices.push(Notice::Settled {
                    attempt,
                    status,
                    failure,
                    again_at_ms,
                });
            }
            _ => {}
        }
        for &index in &step.jobs {
            let Some((planned, job)) = state.job(index) else {
                continue;
            };
            self.notices.push(Notice::Job {
                run: run.clone(),
                job: planned.name.clone(),
                kind: planned.kind.clone(),
                status: job.status(),
                tasks: u32::try_from(job.tasks().len()).unwrap_or(u32::MAX),
                unsettled: job.unsettled_tasks(),
                failure: job.failure().cloned(),
                skipped: job.skipped().map(str::to_owned),
            });
        }
        if state.status() != before {
            let (status, cause) = (state.status(), state.cause().cloned());
            self.notices.push(Notice::Run {
                run: run.clone(),
                status,
                cause,
            });
        }
    }
}

/// The status an outcome gives its claim, and why it failed.
pub(crate) fn shown(outcome: &Outcome) -> (AttemptStatus, Vec<String>) {
    match outcome {
        Outcome::Succeeded { .. } => (AttemptStatus::Succeeded, Vec::new()),
        Outcome::Released { .. } => (AttemptStatus::Released, Vec::new()),
        Outcome::Undone => (AttemptStatus::Undone, Vec::new()),
        Outcome::Failed { failure } => {
            let lines = std::iter::once(&failure.fact).chain(&failure.causes);
            (AttemptStatus::Failed, lines.cloned().collect())
        }
        Outcome::UndoFailed { failure } => {
            let fact = format!("{} is still there", failure.left_behind);
            let lines = std::iter::once(fact).chain(failure.causes.iter().cloned());
            (AttemptStatus::UndoFailed, lines.collect())
        }
    }
}
