//! Stopping what runs, undoing what was done, and the few primitives all transitions go through.

use sealift_definition::plan::PlannedJob;

use crate::{
    Cause, Command, IllegalTransition, JobStatus, Outcome, RunStatus, TaskId, TaskState,
    TaskStatus, next::Fold, retry,
};

impl Fold<'_> {
    /// Stops every job of the main stage; [`begin_undo`](Self::begin_undo) follows the last.
    pub(crate) fn begin_unwind(&mut self, cause: Cause) -> Result<(), IllegalTransition> {
        self.set_run(RunStatus::Unwinding)?;
        self.state.cause = Some(cause);
        let main = self.state.plan.as_ref().map_or(0, |plan| plan.jobs.len());
        for job in 0..main {
            match self.state.jobs[job].status {
                JobStatus::Waiting if self.state.jobs[job].failure.is_none() => {
                    self.close_job(job, JobStatus::Cancelled)?;
                }
                JobStatus::Active => {
                    self.stop_tasks(job)?;
                    if self.state.jobs[job].unsettled == 0 {
                        self.close_job(job, JobStatus::Cancelled)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Withdraws the job's tasks that nobody holds and interrupts those that somebody holds.
    pub(crate) fn stop_tasks(&mut self, job: usize) -> Result<(), IllegalTransition> {
        for index in 0..self.state.jobs[job].tasks.len() {
            let TaskState { status, fence, .. } = self.state.jobs[job].tasks[index];
            let index = index as u32;
            let task = self.task_id(job, index);
            match status {
                TaskStatus::Ready | TaskStatus::Pending => {
                    self.set_task(job, index, TaskStatus::Cancelled)?;
                    self.state.jobs[job].unsettled -= 1;
                    if status == TaskStatus::Ready {
                        self.step.commands.push(Command::Withdraw { task });
                    }
                }
                TaskStatus::Running => {
                    self.step.commands.push(Command::Interrupt { task, fence });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Chooses what must be undone: jobs that started and say `compensate`.
    pub(crate) fn begin_undo(&mut self) -> Result<(), IllegalTransition> {
        let started = |&job: &usize| {
            let wanted = self.planned(job).is_some_and(|planned| planned.compensate);
            wanted && self.state.jobs[job].has_started()
        };
        self.state.to_undo = self.state.order.iter().copied().filter(started).collect();
        self.undo_next()
    }

    /// Undoes one job after the other, each before what it needed.
    fn undo_next(&mut self) -> Result<(), IllegalTransition> {
        match self.state.to_undo.pop() {
            Some(job) => self.undo_tasks(job, |task| task.fence > 0),
            None => self.finalize(),
        }
    }

    /// Undoes again what could not be undone.
    pub(crate) fn undo_again(&mut self) -> Result<(), IllegalTransition> {
        self.set_run(RunStatus::Unwinding)?;
        let stuck = self
            .state
            .jobs
            .iter()
            .position(|job| job.status == JobStatus::UndoFailed);
        match stuck {
            Some(job) => self.undo_tasks(job, |task| task.status == TaskStatus::UndoFailed),
            None => self.undo_next(),
        }
    }

    fn undo_tasks(
        &mut self,
        job: usize,
        wanted: fn(&TaskState) -> bool,
    ) -> Result<(), IllegalTransition> {
        self.set_job(job, JobStatus::Undoing)?;
        for index in 0..self.state.jobs[job].tasks.len() {
            let state = &mut self.state.jobs[job];
            let task = &mut state.tasks[index];
            if wanted(task) {
                task.failures = 0;
                task.undo_failure = None;
                state.undo_remaining += 1;
                self.offer(job, index as u32, TaskStatus::UndoReady, 0)?;
            }
        }
        Ok(())
    }

    pub(crate) fn undo_settled(
        &mut self,
        job: usize,
        index: u32,
        outcome: &Outcome,
    ) -> Result<(), IllegalTransition> {
        let retry = self.planned(job).map(|planned| planned.retry.clone());
        let task = self.unclaim(job, index);
        match outcome {
            Outcome::UndoFailed { failure } => {
                task.failures += 1;
                task.undo_failure = Some(failure.clone());
                let failures = task.failures;
                if let Some(retry) = retry.filter(|retry| failures < retry.max_attempts) {
                    let wait_ms = retry::wait_ms(&retry, failures);
                    return self.offer(job, index, TaskStatus::UndoReady, wait_ms);
                }
                self.set_task(job, index, TaskStatus::UndoFailed)?;
            }
            Outcome::Undone => {
                task.undo_failure = None;
                self.set_task(job, index, TaskStatus::Undone)?;
            }
            _ => return self.offer(job, index, TaskStatus::UndoReady, 0),
        }
        let state = &mut self.state.jobs[job];
        state.undo_remaining -= 1;
        self.step.jobs.insert(job);
        if state.undo_remaining > 0 {
            return Ok(());
        }
        if state
            .tasks
            .iter()
            .any(|task| task.status == TaskStatus::UndoFailed)
        {
            self.set_job(job, JobStatus::UndoFailed)?;
            return self.set_run(RunStatus::Stopped);
        }
        self.set_job(job, JobStatus::Undone)?;
        self.undo_next()
    }
}

/// Every status changes here and nowhere else, against the tables of legal transitions.
impl Fold<'_> {
    pub(crate) fn require(
        &self,
        status: RunStatus,
        change: &'static str,
    ) -> Result<(), IllegalTransition> {
        if self.state.status == status {
            return Ok(());
        }
        Err(IllegalTransition::Run {
            status: self.state.status,
            change,
        })
    }

    pub(crate) fn set_run(&mut self, to: RunStatus) -> Result<(), IllegalTransition> {
        let from = self.state.status;
        if !from.may_become(to) {
            return Err(table("the run".to_owned(), from.name(), to.name()));
        }
        self.state.status = to;
        Ok(())
    }

    pub(crate) fn set_job(&mut self, job: usize, to: JobStatus) -> Result<(), IllegalTransition> {
        let from = self.state.jobs[job].status;
        if !from.may_become(to) {
            let name = self
                .planned(job)
                .map_or("", |planned| planned.name.as_str());
            return Err(table(format!("job `{name}`"), from.name(), to.name()));
        }
        self.state.jobs[job].status = to;
        self.step.jobs.insert(job);
        Ok(())
    }

    pub(crate) fn set_task(
        &mut self,
        job: usize,
        index: u32,
        to: TaskStatus,
    ) -> Result<(), IllegalTransition> {
        let from = self.state.jobs[job].tasks[index as usize].status;
        if !from.may_become(to) {
            let what = format!("task {}", self.task_id(job, index));
            return Err(table(what, from.name(), to.name()));
        }
        self.state.jobs[job].tasks[index as usize].status = to;
        self.step.tasks.insert((job, index));
        Ok(())
    }

    pub(crate) fn unclaim(&mut self, job: usize, index: u32) -> &mut TaskState {
        let task = &mut self.state.jobs[job].tasks[index as usize];
        task.worker = None;
        task
    }

    pub(crate) fn find(&self, id: &TaskId) -> Result<(usize, u32), IllegalTransition> {
        let unknown = || IllegalTransition::UnknownTask(id.clone());
        let job = self.state.index_of(&id.job).ok_or_else(unknown)?;
        let exists = (id.index as usize) < self.state.jobs[job].tasks.len();
        if exists {
            Ok((job, id.index))
        } else {
            Err(unknown())
        }
    }

    pub(crate) fn task_id(&self, job: usize, index: u32) -> TaskId {
        let job = self
            .planned(job)
            .map_or_else(String::new, |planned| planned.name.clone());
        TaskId { job, index }
    }

    pub(crate) fn planned(&self, job: usize) -> Option<&PlannedJob> {
        self.state.planned_at(job)
    }
}

fn table(what: String, from: &'static str, to: &'static str) -> IllegalTransition {
    IllegalTransition::Table { what, from, to }
}
