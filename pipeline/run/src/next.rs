//! The one function by which a run changes.

use sealift_definition::plan::Plan;

use crate::{
    Cause, Change, Event, Failure, FailureClass, IllegalTransition, Outcome, RunState, RunStatus,
    Step, TaskId, TaskStatus, Worker, check, retry,
};

/// Applies `event` to `state`.
///
/// A refused event leaves `state` as it was (except [`IllegalTransition::Table`], after which it
/// must be folded from the log again).
///
/// # Errors
/// Why the event cannot happen here.
pub fn next(state: &mut RunState, event: &Event) -> Result<Step, IllegalTransition> {
    let mut fold = Fold {
        state,
        step: Step::default(),
        at_ms: event.at_ms,
    };
    match &event.change {
        Change::RunSubmitted { plan } => fold.submit(plan)?,
        Change::AttemptClaimed {
            task,
            fence,
            worker,
        } => fold.claim(task, *fence, worker)?,
        Change::AttemptSettled {
            task,
            fence,
            outcome,
        } => {
            fold.settle_attempt(task, *fence, outcome)?;
        }
        Change::CancelRequested => {
            fold.require(RunStatus::Running, event.change.name())?;
            fold.begin_unwind(Cause::Cancelled)?;
        }
        Change::RunResumed => {
            fold.require(RunStatus::Stopped, event.change.name())?;
            fold.undo_again()?;
        }
    }
    Ok(fold.step)
}

/// The state after all of a run's log, from its first event.
///
/// # Errors
/// The first event that cannot have happened.
pub fn fold<'a>(log: impl IntoIterator<Item = &'a Event>) -> Result<RunState, IllegalTransition> {
    let mut state = RunState::default();
    for event in log {
        next(&mut state, event)?;
    }
    Ok(state)
}

/// One event being applied.
pub(crate) struct Fold<'a> {
    pub(crate) state: &'a mut RunState,
    pub(crate) step: Step,
    pub(crate) at_ms: u64,
}

impl Fold<'_> {
    fn submit(&mut self, plan: &Plan) -> Result<(), IllegalTransition> {
        self.require(RunStatus::New, "run-submitted")?;
        let graph = check::check(plan)?;
        self.state.unsettled = plan.jobs.len();
        self.state.plan = Some(plan.clone());
        self.state.jobs = graph.jobs;
        self.state.by_name = graph.by_name;
        self.state.order = graph.order;
        self.set_run(RunStatus::Running)?;
        self.step.jobs.extend(0..self.state.jobs.len());
        self.start_stage(0..plan.jobs.len())
    }

    fn claim(&mut self, id: &TaskId, fence: u64, worker: &Worker) -> Result<(), IllegalTransition> {
        let (job, index) = self.find(id)?;
        let task = &self.state.jobs[job].tasks[index as usize];
        let to = match task.status {
            TaskStatus::Ready => TaskStatus::Running,
            TaskStatus::UndoReady => TaskStatus::Undoing,
            status => {
                let (task, change) = (id.clone(), "attempt-claimed");
                return Err(IllegalTransition::Task {
                    task,
                    status,
                    change,
                });
            }
        };
        if fence != task.fence + 1 {
            let (task, current) = (id.clone(), task.fence);
            return Err(IllegalTransition::StaleFence {
                task,
                presented: fence,
                current,
            });
        }
        if self.at_ms < task.run_at_ms {
            let (task, run_at_ms) = (id.clone(), task.run_at_ms);
            return Err(IllegalTransition::TooEarly { task, run_at_ms });
        }
        self.set_task(job, index, to)?;
        let task = &mut self.state.jobs[job].tasks[index as usize];
        task.fence = fence;
        task.worker = Some(worker.clone());
        Ok(())
    }

    fn settle_attempt(
        &mut self,
        id: &TaskId,
        fence: u64,
        outcome: &Outcome,
    ) -> Result<(), IllegalTransition> {
        let (job, index) = self.find(id)?;
        let task = &self.state.jobs[job].tasks[index as usize];
        if fence != task.fence {
            let (task, current) = (id.clone(), task.fence);
            return Err(IllegalTransition::StaleFence {
                task,
                presented: fence,
                current,
            });
        }
        let interrupted = self.state.interrupts(id);
        match (task.status, outcome) {
            (TaskStatus::Running, Outcome::Succeeded { output }) => {
                self.unclaim(job, index).output = Some(output.clone());
                self.set_task(job, index, TaskStatus::Succeeded)?;
                self.task_settled(job)
            }
            (TaskStatus::Running, Outcome::Failed { failure }) => {
                self.attempt_failed(job, index, failure, interrupted)
            }
            (TaskStatus::Running, Outcome::Released { .. }) if interrupted => {
                self.unclaim(job, index);
                self.set_task(job, index, TaskStatus::Cancelled)?;
                self.task_settled(job)
            }
            (TaskStatus::Running, Outcome::Released { .. }) => {
                self.unclaim(job, index);
                self.offer(job, index, TaskStatus::Ready, 0)
            }
            (
                TaskStatus::Undoing,
                Outcome::Undone | Outcome::UndoFailed { .. } | Outcome::Released { .. },
            ) => self.undo_settled(job, index, outcome),
            (status, _) => {
                let (task, change) = (id.clone(), "attempt-settled");
                Err(IllegalTransition::Task {
                    task,
                    status,
                    change,
                })
            }
        }
    }

    fn attempt_failed(
        &mut self,
        job: usize,
        index: u32,
        failure: &Failure,
        interrupted: bool,
    ) -> Result<(), IllegalTransition> {
        let retry = self.planned(job).map(|planned| planned.retry.clone());
        let transient = failure.class == FailureClass::Transient;
        let task = self.unclaim(job, index);
        task.failure = Some(failure.clone());
        task.failures += 1;
        let failures = task.failures;
        match retry {
            _ if transient && interrupted => {
                self.set_task(job, index, TaskStatus::Cancelled)?;
                self.task_settled(job)
            }
            Some(retry) if transient && failures < retry.max_attempts => self.offer(
                job,
                index,
                TaskStatus::Ready,
                retry::wait_ms(&retry, failures),
            ),
            _ => {
                self.set_task(job, index, TaskStatus::Failed)?;
                self.job_failed(job, failure.clone())?;
                self.task_settled(job)
            }
        }
    }

    /// Notes the job's failure, stops its other tasks and, before `finally`, the run.
    pub(crate) fn job_failed(
        &mut self,
        job: usize,
        failure: Failure,
    ) -> Result<(), IllegalTransition> {
        if self.state.jobs[job].failure.is_none() {
            self.state.jobs[job].failure = Some(failure.clone());
            self.step.jobs.insert(job);
        }
        if self.state.status != RunStatus::Running {
            return self.stop_tasks(job);
        }
        let name = self.planned(job).map(|planned| planned.name.clone());
        self.begin_unwind(Cause::Failed { job: name, failure })
    }
}
