//! From a job's start to its end, and from the last job's end to the run's.

use crate::{
    Cause, Command, Failure, FailureClass, IllegalTransition, JobStatus, RunStatus, TaskStatus,
    Unresolved, next::Fold,
};

impl Fold<'_> {
    pub(crate) fn start_stage(
        &mut self,
        jobs: std::ops::Range<usize>,
    ) -> Result<(), IllegalTransition> {
        for job in jobs {
            let state = &self.state.jobs[job];
            if state.status == JobStatus::Waiting && state.remaining == 0 {
                self.start_job(job)?;
            }
        }
        Ok(())
    }

    fn start_job(&mut self, job: usize) -> Result<(), IllegalTransition> {
        let count = match self.make_tasks(job) {
            Ok(count) => count,
            Err(why) if self.state.is_main(job) => return self.unstartable(job, &why),
            Err(why) => {
                self.state.jobs[job].skipped = Some(why.to_string());
                return self.close_job(job, JobStatus::Skipped);
            }
        };
        if count == 0 {
            self.state.jobs[job].has_outputs = true;
            return self.close_job(job, JobStatus::Succeeded);
        }
        self.set_job(job, JobStatus::Active)?;
        let together = self.planned(job).and_then(|p| p.for_each.as_ref());
        let together = together.map_or(1, |for_each| for_each.max_parallel);
        self.step.tasks.extend((0..count).map(|index| (job, index)));
        for _ in 0..together.min(count) {
            self.offer_next(job)?;
        }
        Ok(())
    }

    /// Makes the job's tasks, once everything they are told is known.
    fn make_tasks(&mut self, job: usize) -> Result<u32, Unresolved> {
        let for_each = self
            .planned(job)
            .and_then(|planned| planned.for_each.clone());
        let elements = for_each
            .map(|for_each| self.state.elements(&for_each))
            .transpose()?;
        let count = elements.as_ref().map_or(1, Vec::len);
        self.state.jobs[job].elements = elements;
        if count > 0 {
            self.state.input(job, 0)?;
        }
        let state = &mut self.state.jobs[job];
        state.tasks.resize_with(count, Default::default);
        state.unsettled = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(state.unsettled)
    }

    fn unstartable(&mut self, job: usize, why: &Unresolved) -> Result<(), IllegalTransition> {
        let failure = Failure {
            class: FailureClass::Permanent,
            fact: "could not make the job's input".to_owned(),
            remedy: Some("make `with` and `for-each` fit the outputs they read".to_owned()),
            causes: vec![why.to_string()],
        };
        self.job_failed(job, failure)?;
        self.close_job(job, JobStatus::Failed)
    }

    fn offer_next(&mut self, job: usize) -> Result<(), IllegalTransition> {
        let index = self.state.jobs[job].next_pending;
        if index >= self.state.jobs[job].tasks.len() {
            return Ok(());
        }
        self.state.jobs[job].next_pending += 1;
        self.offer(job, index as u32, TaskStatus::Ready, 0)
    }

    /// Makes a task claimable after `wait_ms`.
    pub(crate) fn offer(
        &mut self,
        job: usize,
        index: u32,
        status: TaskStatus,
        wait_ms: u64,
    ) -> Result<(), IllegalTransition> {
        self.set_task(job, index, status)?;
        let run_at_ms = self.at_ms.saturating_add(wait_ms);
        let task = &mut self.state.jobs[job].tasks[index as usize];
        task.run_at_ms = run_at_ms;
        let action = task.action();
        let task = self.task_id(job, index);
        self.step.commands.push(Command::Offer {
            task,
            action,
            run_at_ms,
        });
        Ok(())
    }

    pub(crate) fn task_settled(&mut self, job: usize) -> Result<(), IllegalTransition> {
        let state = &mut self.state.jobs[job];
        state.unsettled -= 1;
        self.step.jobs.insert(job);
        if state.unsettled > 0 {
            let stopping = state.failure.is_some() || self.state.status == RunStatus::Unwinding;
            return if stopping {
                Ok(())
            } else {
                self.offer_next(job)
            };
        }
        let any = |status| state.tasks.iter().any(|task| task.status == status);
        let status = if state.failure.is_some() {
            JobStatus::Failed
        } else if any(TaskStatus::Cancelled) {
            JobStatus::Cancelled
        } else {
            state.has_outputs = true;
            JobStatus::Succeeded
        };
        self.close_job(job, status)
    }

    /// Settles the job, lets those that need it go on or not, and its stage end if it was last.
    pub(crate) fn close_job(
        &mut self,
        job: usize,
        status: JobStatus,
    ) -> Result<(), IllegalTransition> {
        self.set_job(job, status)?;
        for dependent in self.state.jobs[job].dependents.clone() {
            if status == JobStatus::Succeeded {
                self.state.jobs[dependent].remaining -= 1;
                self.step.jobs.insert(dependent);
                self.start_stage(dependent..dependent + 1)?;
            } else if !self.state.is_main(job)
                && self.state.jobs[dependent].status == JobStatus::Waiting
            {
                let name = self
                    .planned(job)
                    .map_or("", |planned| planned.name.as_str());
                let reason = format!("job `{name}`, which it needs, is {status}");
                self.state.jobs[dependent].skipped = Some(reason);
                self.close_job(dependent, JobStatus::Skipped)?;
            }
        }
        self.state.unsettled -= 1;
        if self.state.unsettled == 0 {
            self.stage_over()
        } else {
            Ok(())
        }
    }

    fn stage_over(&mut self) -> Result<(), IllegalTransition> {
        match self.state.status {
            RunStatus::Running => self.make_outputs(),
            RunStatus::Unwinding => self.begin_undo(),
            _ => self.settle_run(),
        }
    }

    fn make_outputs(&mut self) -> Result<(), IllegalTransition> {
        let named = self.state.plan.iter().flat_map(|plan| &plan.outputs);
        let resolved =
            named.map(|(name, argument)| Ok((name.clone(), self.state.resolve(argument, None)?)));
        match resolved.collect::<Result<_, Unresolved>>() {
            Ok(outputs) => {
                self.state.outputs = outputs;
                self.finalize()
            }
            Err(why) => {
                let failure = Failure {
                    class: FailureClass::Permanent,
                    fact: "could not make the run's outputs".to_owned(),
                    remedy: Some("make `outputs` fit what the jobs leave".to_owned()),
                    causes: vec![why.to_string()],
                };
                self.begin_unwind(Cause::Failed { job: None, failure })?;
                self.begin_undo()
            }
        }
    }

    pub(crate) fn finalize(&mut self) -> Result<(), IllegalTransition> {
        self.set_run(RunStatus::Finalizing)?;
        let main = self.state.plan.as_ref().map_or(0, |plan| plan.jobs.len());
        self.state.unsettled = self.state.jobs.len() - main;
        if self.state.unsettled == 0 {
            return self.settle_run();
        }
        self.start_stage(main..self.state.jobs.len())
    }

    fn settle_run(&mut self) -> Result<(), IllegalTransition> {
        if self.state.cause.is_none() {
            let failed = self.state.jobs().find_map(|(planned, job)| {
                let failure = job.failure.clone()?;
                Some(Cause::Failed {
                    job: Some(planned.name.clone()),
                    failure,
                })
            });
            self.state.cause = failed;
        }
        let status = match self.state.cause {
            None => RunStatus::Succeeded,
            Some(Cause::Failed { .. }) => RunStatus::Failed,
            Some(Cause::Cancelled) => RunStatus::Cancelled,
        };
        if status != RunStatus::Succeeded {
            self.state.outputs.clear();
        }
        self.set_run(status)?;
        self.step.commands.push(Command::Settle { status });
        Ok(())
    }
}
