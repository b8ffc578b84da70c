//! What one group commit does: requests, expired leases, claims; in that order, in one piece.

use std::time::Duration;

use sealift_definition::plan::Plan;
use sealift_run::{
    AttemptId, Change, Event, IllegalTransition, Outcome, Release, RunId, RunStatus, TaskId,
    Worker,
    message::{Assignment, Progress},
    next,
};
use sqlx::SqliteConnection;

use super::{
    dispatch::{Lease, Waiting},
    request::{Abandoned, Ask, Reply, Staged},
    resume, rows,
    writer::{Active, Known},
};
use crate::{Hold, Notice, StateFolder, StoreError, run_name::run_id_at};

pub(crate) struct Transaction<'a> {
    pub(crate) database: &'a mut SqliteConnection,
    pub(crate) known: &'a mut Known,
    pub(crate) folder: &'a StateFolder,
    pub(crate) now_ms: u64,
    pub(crate) lease_ms: u64,
    pub(crate) staged: Vec<Staged>,
    pub(crate) notices: Vec<Notice>,
}

impl Transaction<'_> {
    /// # Errors
    /// A failure of the database: the transaction must not be committed.
    pub(crate) async fn work(
        &mut self,
        asks: Vec<Ask>,
        abandoned: Vec<Abandoned>,
    ) -> Result<(), StoreError> {
        for (worker, attempt) in abandoned {
            if self.known.dispatch.holds(&worker, &attempt) {
                self.release(&attempt, Release::WorkerGone).await?;
            }
        }
        let mut broken = Ok(());
        for ask in asks {
            match &broken {
                Ok(()) => broken = self.serve(ask).await,
                Err(error) => ask.refuse(StoreError::clone(error)),
            }
        }
        broken?;
        for attempt in self.known.dispatch.expired(self.now_ms) {
            self.release(&attempt, Release::LeaseExpired).await?;
        }
        while let Some((slot, run, task)) = self.known.dispatch.next_match(self.now_ms) {
            self.claim(slot, run, task).await?;
        }
        Ok(())
    }

    async fn serve(&mut self, ask: Ask) -> Result<(), StoreError> {
        match ask {
            Ask::Submit { run, plan, reply } => {
                let answer = self.submit(run, *plan).await;
                self.stage(reply, answer)
            }
            Ask::Resume { run, reply } => {
                let answer = self.resume(&run).await;
                self.stage(reply, answer)
            }
            Ask::Cancel { run, reply } => {
                let answer = self.apply(&run, Change::CancelRequested).await;
                self.stage(reply, answer)
            }
            Ask::Register { worker, reply } => {
                let answer = self.register(worker).await;
                self.stage(reply, answer)
            }
            Ask::Claim {
                worker,
                kinds,
                reply,
            } => {
                let dispatch = &mut self.known.dispatch;
                if dispatch.workers.get(&worker.name) != Some(&worker) {
                    return self.stage(reply, Err(StoreError::UnknownWorker(worker)));
                }
                dispatch.waiting.push_back(Waiting {
                    worker,
                    kinds,
                    reply,
                });
                Ok(())
            }
            Ask::Heartbeat {
                worker,
                attempt,
                progress,
                reply,
            } => {
                let answer = self.heartbeat(worker, attempt, progress).await;
                self.stage(reply, answer)
            }
            Ask::Log {
                worker,
                attempt,
                line,
                reply,
            } => {
                let answer = self.log(&worker, attempt, line).await;
                self.stage(reply, answer)
            }
            Ask::Finish {
                worker,
                attempt,
                outcome,
                reply,
            } => {
                let answer = self.finish(&worker, &attempt, outcome).await;
                self.stage(reply, answer)
            }
            Ask::Leave { worker, reply } => {
                let answer = self.leave(&worker).await;
                self.stage(reply, answer)
            }
        }
    }

    /// Keeps an answer until the commit; passes on a failure of the database.
    fn stage<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        answer: Result<T, StoreError>,
    ) -> Result<(), StoreError> {
        let broken = match &answer {
            Err(error @ StoreError::Database { .. }) => Err(error.clone()),
            _ => Ok(()),
        };
        self.staged.push(Staged::answer(reply, answer));
        broken
    }

    async fn submit(&mut self, run: Option<RunId>, plan: Plan) -> Result<RunId, StoreError> {
        let run = match run {
            Some(run) if resume::exists(self.database, &run).await? => {
                return Err(StoreError::RunExists(run));
            }
            Some(run) => run,
            None => run_id_at(Duration::from_millis(self.now_ms)),
        };
        let active = Active {
            state: sealift_run::RunState::default(),
            seq: 0,
        };
        self.known.active.insert(run.clone(), active);
        let submitted = self.apply(&run, Change::RunSubmitted { plan }).await;
        if let Err(refused) = submitted {
            self.known.active.remove(&run);
            return Err(refused);
        }
        self.folder.make_artifacts(&run)?;
        Ok(run)
    }

    async fn resume(&mut self, run: &RunId) -> Result<RunStatus, StoreError> {
        if !self.known.active.contains_key(run) {
            resume::load(self.database, self.known, run).await?;
            self.void_former_starts(run).await?;
        }
        let Some(active) = self.known.active.get(run) else {
            return Err(StoreError::UnknownRun(run.clone()));
        };
        let status = active.state.status();
        if status.is_settled() {
            self.known.active.remove(run);
            return Err(StoreError::Settled {
                run: run.clone(),
                status,
            });
        }
        if status == RunStatus::Stopped {
            self.apply(run, Change::RunResumed).await?;
            return Ok(RunStatus::Unwinding);
        }
        Ok(status)
    }

    /// Ends the claims of workers that started again before the run was resumed.
    async fn void_former_starts(&mut self, run: &RunId) -> Result<(), StoreError> {
        let present: Vec<Worker> = self.known.dispatch.workers.values().cloned().collect();
        for worker in present {
            for attempt in self.known.dispatch.held_by(&worker, false) {
                if attempt.run == *run {
                    self.release(&attempt, Release::WorkerRestarted).await?;
                }
            }
        }
        Ok(())
    }

    async fn register(&mut self, worker: Worker) -> Result<(), StoreError> {
        for attempt in self.known.dispatch.held_by(&worker, false) {
            self.release(&attempt, Release::WorkerRestarted).await?;
        }
        let dispatch = &mut self.known.dispatch;
        dispatch
            .waiting
            .retain(|slot| slot.worker.name != worker.name || slot.worker == worker);
        dispatch.workers.insert(worker.name.clone(), worker);
        Ok(())
    }

    async fn leave(&mut self, worker: &Worker) -> Result<(), StoreError> {
        let dispatch = &mut self.known.dispatch;
        dispatch.waiting.retain(|slot| slot.worker != *worker);
        if dispatch.workers.get(&worker.name) == Some(worker) {
            dispatch.workers.remove(&worker.name);
        }
        for attempt in self.known.dispatch.held_by(worker, true) {
            self.release(&attempt, Release::WorkerGone).await?;
        }
        Ok(())
    }

    async fn heartbeat(
        &mut self,
        worker: Worker,
        attempt: AttemptId,
        progress: Option<Progress>,
    ) -> Result<Hold, StoreError> {
        let (job, active) = self.held(&worker, &attempt)?;
        let interrupted = active.state.interrupts(&attempt.task);
        let until_ms = self.now_ms + self.lease_ms;
        rows::renew_lease(self.database, &attempt, job, until_ms, progress.as_ref()).await?;
        self.known
            .dispatch
            .lease(attempt.clone(), Lease { worker, until_ms });
        self.notices
            .extend(progress.map(|progress| Notice::Progress { attempt, progress }));
        Ok(if interrupted {
            Hold::Interrupted
        } else {
            Hold::Held
        })
    }

    async fn log(
        &mut self,
        worker: &Worker,
        attempt: AttemptId,
        line: String,
    ) -> Result<(), StoreError> {
        let (job, _) = self.held(worker, &attempt)?;
        rows::insert_log(self.database, &attempt, job, self.now_ms, &line).await?;
        self.notices.push(Notice::Log {
            attempt,
            at_ms: self.now_ms,
            line,
        });
        Ok(())
    }

    async fn finish(
        &mut self,
        worker: &Worker,
        attempt: &AttemptId,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        self.held(worker, attempt)?;
        self.settle(attempt, outcome).await
    }

    async fn release(&mut self, attempt: &AttemptId, release: Release) -> Result<(), StoreError> {
        match self.settle(attempt, Outcome::Released { release }).await {
            Err(error @ StoreError::Database { .. }) => Err(error),
            Err(error) => {
                // Only a fault of ours gets here; the lease must not come back for ever.
                tracing::error!(error = ?error, %attempt, "a claim could not be released");
                self.known.dispatch.release(attempt);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn settle(&mut self, attempt: &AttemptId, outcome: Outcome) -> Result<(), StoreError> {
        let (task, fence) = (attempt.task.clone(), attempt.fence);
        self.apply(
            &attempt.run,
            Change::AttemptSettled {
                task,
                fence,
                outcome,
            },
        )
        .await
    }

    async fn claim(&mut self, slot: Waiting, run: RunId, task: TaskId) -> Result<(), StoreError> {
        let Waiting { worker, reply, .. } = slot;
        let state = self.known.active.get(&run).map(|active| &active.state);
        let fence = state
            .and_then(|state| state.task(&task))
            .map_or(1, |task| task.fence() + 1);
        let change = Change::AttemptClaimed {
            task: task.clone(),
            fence,
            worker: worker.clone(),
        };
        let attempt = AttemptId { run, task, fence };
        let claimed = self.apply(&attempt.run, change).await;
        match claimed.and_then(|()| self.assignment(attempt)) {
            Ok(assignment) => {
                self.staged.push(Staged::claim(reply, worker, assignment));
                Ok(())
            }
            Err(error) => self.stage(reply, Err(error)),
        }
    }

    fn assignment(&self, attempt: AttemptId) -> Result<Assignment, StoreError> {
        let unknown = || StoreError::UnknownRun(attempt.run.clone());
        let state = &self
            .known
            .active
            .get(&attempt.run)
            .ok_or_else(unknown)?
            .state;
        let index = state.index_of(&attempt.task.job).ok_or_else(unknown)?;
        let (planned, _) = state.job(index).ok_or_else(unknown)?;
        let task = state.task(&attempt.task).ok_or_else(unknown)?;
        let input = state
            .input(index, attempt.task.index)
            .map_err(|_| StoreError::Corrupt {
                run: attempt.run.to_string(),
                what: "input",
            })?;
        Ok(Assignment {
            number: task.failures() + 1,
            kind: planned.kind.clone(),
            action: task.action(),
            input,
            output: task.output().cloned(),
            timeout_ms: planned.timeout_ms,
            artifacts: self.folder.artifacts(&attempt.run),
            attempt,
        })
    }

    fn held(&self, worker: &Worker, attempt: &AttemptId) -> Result<(usize, &Active), StoreError> {
        let not_held = || StoreError::NotHeld {
            attempt: attempt.clone(),
            worker: worker.clone(),
        };
        if !self.known.dispatch.holds(worker, attempt) {
            return Err(not_held());
        }
        let active = self.known.active.get(&attempt.run).ok_or_else(not_held)?;
        Ok((
            active
                .state
                .index_of(&attempt.task.job)
                .ok_or_else(not_held)?,
            active,
        ))
    }

    /// The one place where a run changes: the state machine, then its rows, then the queue.
    async fn apply(&mut self, run: &RunId, change: Change) -> Result<(), StoreError> {
        let Some(active) = self.known.active.get_mut(run) else {
            return Err(StoreError::Inactive(run.clone()));
        };
        let event = Event {
            at_ms: self.now_ms,
            change,
        };
        let before = active.state.status();
        let step = match next(&mut active.state, &event) {
            Ok(step) => step,
            Err(refused) => {
                if matches!(refused, IllegalTransition::Table { .. }) {
                    tracing::error!(%run, error = %refused, "a run is set aside");
                    self.known.active.remove(run);
                    self.known.dispatch.forget(run);
                }
                return Err(StoreError::Refused(refused));
            }
        };
        active.seq += 1;
        let until_ms = self.now_ms + self.lease_ms;
        rows::record(
            self.database,
            run,
            active,
            &rows::Recorded {
                event: &event,
                step: &step,
                until_ms,
            },
        )
        .await?;
        self.tell(run, before, &event, &step);
        self.follow(run, event.change, step, until_ms);
        Ok(())
    }
}
