//! Random plans, run to their end by random events: what must hold of every run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod plans;
mod random;

use std::collections::{BTreeMap, BTreeSet};

use plans::failure;
use proptest::prelude::*;
use random::{Script, arbitrary_plan};
use sealift_definition::plan::Plan;
use sealift_run::{
    Action, Change, Command, Event, FailureClass, IllegalTransition, JobStatus, Outcome, Release,
    RunState, RunStatus, TaskId, TaskStatus, UndoFailure, Worker, fold, next,
};
use serde_json::json;

/// More events than any of these small runs needs once nothing fails any more.
const MAX_EVENTS: usize = 5_000;

/// A run being driven, with its log and what was seen on the way.
struct Driven {
    plan: Plan,
    state: RunState,
    log: Vec<Event>,
    now_ms: u64,
    successes: BTreeMap<TaskId, u32>,
}

impl Driven {
    fn submitted(plan: Plan) -> Self {
        let mut driven = Self {
            plan: plan.clone(),
            state: RunState::default(),
            log: Vec::new(),
            now_ms: 1_000,
            successes: BTreeMap::new(),
        };
        driven.apply(Change::RunSubmitted { plan }).unwrap();
        driven
    }

    fn apply(&mut self, change: Change) -> Result<(), IllegalTransition> {
        let before = self.state.clone();
        let event = Event {
            at_ms: self.now_ms,
            change,
        };
        match next(&mut self.state, &event) {
            Ok(step) => {
                self.log.push(event);
                self.check_step(&before, &step.commands);
                Ok(())
            }
            Err(refused) => {
                assert!(
                    !matches!(refused, IllegalTransition::Table { .. }),
                    "{refused}"
                );
                assert_eq!(self.state, before, "a refused event changed the state");
                Err(refused)
            }
        }
    }

    fn check_step(&self, before: &RunState, commands: &[Command]) {
        for ((_, old), (planned, new)) in before.jobs().zip(self.state.jobs()) {
            let back = old.status().is_settled() && !new.status().is_settled();
            assert!(!back, "job {} finished twice", planned.name);
            let waits_for = planned.needs.iter().collect::<BTreeSet<_>>();
            let unmet = waits_for
                .into_iter()
                .filter(|need| !self.succeeded_once(need));
            assert_eq!(
                new.remaining() as usize,
                unmet.count(),
                "remaining of {}",
                planned.name
            );
            if let Some(for_each) = &planned.for_each {
                let in_flight = new.tasks().iter();
                let in_flight = in_flight
                    .filter(|t| matches!(t.status(), TaskStatus::Ready | TaskStatus::Running));
                assert!(in_flight.count() <= for_each.max_parallel as usize);
            }
            for task in new.tasks() {
                assert!(task.failures() <= planned.retry.max_attempts);
            }
        }
        for command in commands {
            if let Command::Offer {
                task,
                action: Action::Run,
                ..
            } = command
            {
                let index = self.state.index_of(&task.job).unwrap();
                let (planned, _) = self.state.job(index).unwrap();
                assert!(planned.needs.iter().all(|need| self.succeeded_once(need)));
                self.state.input(index, task.index).unwrap();
            }
        }
    }

    fn succeeded_once(&self, job: &str) -> bool {
        let (_, job) = self.state.job(self.state.index_of(job).unwrap()).unwrap();
        job.status() != JobStatus::Waiting
            && job.status() != JobStatus::Cancelled
            && job.failure().is_none()
            && job.tasks().iter().all(|task| task.output().is_some())
            && job.status() != JobStatus::Skipped
    }

    fn claim(&mut self, task: &TaskId) {
        let state = self.state.task(task).unwrap();
        self.now_ms = self.now_ms.max(state.run_at_ms());
        let (fence, action) = (state.fence() + 1, state.action());
        let job = self.state.index_of(&task.job).unwrap();
        let is_main = job < self.plan.jobs.len();
        if action == Action::Undo {
            self.assert_everything_after_is_undone(&task.job);
        } else if !is_main {
            let mut open = self.state.jobs().take(self.plan.jobs.len());
            let over = |s: JobStatus| s.is_settled() && s != JobStatus::Undoing;
            assert!(open.all(|(_, j)| over(j.status())));
        }
        let worker = Worker {
            name: "w".into(),
            boot: "b".into(),
        };
        self.apply(Change::AttemptClaimed {
            task: task.clone(),
            fence,
            worker,
        })
        .unwrap();
    }

    fn assert_everything_after_is_undone(&self, job: &str) {
        for planned in self
            .plan
            .jobs
            .iter()
            .filter(|p| p.needs.iter().any(|n| n == job))
        {
            let (_, state) = self
                .state
                .job(self.state.index_of(&planned.name).unwrap())
                .unwrap();
            let due = planned.compensate && state.has_started();
            assert!(
                !due || state.status() == JobStatus::Undone,
                "{} before {job}",
                planned.name
            );
            self.assert_everything_after_is_undone(&planned.name);
        }
    }

    fn settle(&mut self, task: &TaskId, choice: u8) {
        let state = self.state.task(task).unwrap();
        let fence = state.fence();
        let undo = state.action() == Action::Undo;
        let outcome = match (undo, choice % 8) {
            (_, 0) => Outcome::Released {
                release: Release::WorkerGone,
            },
            (true, 1 | 2) => Outcome::UndoFailed {
                failure: UndoFailure {
                    left_behind: "a pod".into(),
                    causes: vec![],
                },
            },
            (true, _) => Outcome::Undone,
            (false, 1) => Outcome::Failed {
                failure: failure(FailureClass::Permanent),
            },
            (false, 2 | 3) => Outcome::Failed {
                failure: failure(FailureClass::Transient),
            },
            (false, _) => Outcome::Succeeded {
                output: json!({"out": task.index, "list": [1, 2]}),
            },
        };
        if matches!(outcome, Outcome::Succeeded { .. }) {
            *self.successes.entry(task.clone()).or_default() += 1;
        }
        let change = Change::AttemptSettled {
            task: task.clone(),
            fence,
            outcome,
        };
        self.apply(change.clone()).unwrap();
        let again = self.apply(change).unwrap_err();
        let refused = matches!(
            again,
            IllegalTransition::Task { .. } | IllegalTransition::StaleFence { .. }
        );
        assert!(refused, "an outcome was taken twice: {again}");
    }

    fn provoke(&mut self, task: &TaskId) {
        let fence = self.state.task(task).unwrap().fence();
        let worker = Worker {
            name: "w".into(),
            boot: "b".into(),
        };
        let stale = Outcome::Succeeded { output: json!({}) };
        let settle = |fence| Change::AttemptSettled {
            task: task.clone(),
            fence,
            outcome: stale.clone(),
        };
        for void in [fence.wrapping_sub(1), fence + 1] {
            let refused = self.apply(settle(void)).unwrap_err();
            assert!(
                matches!(refused, IllegalTransition::StaleFence { .. }),
                "{refused}"
            );
        }
        for wrong in [fence, fence + 2] {
            let (task, worker) = (task.clone(), worker.clone());
            self.apply(Change::AttemptClaimed {
                task,
                fence: wrong,
                worker,
            })
            .unwrap_err();
        }
        let nowhere = TaskId {
            job: "nowhere".into(),
            index: 0,
        };
        let change = Change::AttemptClaimed {
            task: nowhere.clone(),
            fence: 1,
            worker: worker.clone(),
        };
        assert_eq!(
            self.apply(change),
            Err(IllegalTransition::UnknownTask(nowhere))
        );
        let plan = self.plan.clone();
        self.apply(Change::RunSubmitted { plan }).unwrap_err();
    }

    /// One event: what the script says while it lasts, then whatever leads to the end.
    fn advance(&mut self, script: &mut Script) {
        self.now_ms += 1;
        let claimed = self.state.claimed();
        let claimable = self.state.claimable();
        if self.state.status() == RunStatus::Stopped {
            assert!(
                claimed.is_empty() && claimable.is_empty(),
                "a stopped run still works"
            );
            return self.apply(Change::RunResumed).unwrap();
        }
        let roll = script.roll();
        if roll == 255 {
            let cancelled = self.apply(Change::CancelRequested);
            assert!(cancelled.is_ok() || self.state.status() != RunStatus::Running);
            return;
        }
        if let Some(task) = claimed
            .first()
            .or_else(|| claimable.first())
            .filter(|_| roll.is_multiple_of(5))
        {
            self.provoke(&task.clone());
        }
        let claim = claimed.is_empty() || (roll.is_multiple_of(2) && !claimable.is_empty());
        assert!(
            !(claim && claimable.is_empty()),
            "nothing can happen to an open run"
        );
        if claim {
            let task = claimable[script.index(claimable.len())].clone();
            self.claim(&task);
        } else {
            let task = claimed[script.index(claimed.len())].clone();
            let outcome = script.outcome();
            self.settle(&task, outcome);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_run_settles_as_its_rules_say(
        plan in arbitrary_plan(),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut run = Driven::submitted(plan);
        let mut script = Script::new(bytes);
        while !run.state.status().is_settled() {
            prop_assert!(run.log.len() < MAX_EVENTS, "the run does not end");
            run.advance(&mut script);
        }
        prop_assert!(run.successes.values().all(|&times| times == 1), "{:?}", run.successes);
        prop_assert_eq!(&fold(&run.log).unwrap(), &run.state);
        prop_assert!(run.state.claimable().is_empty() && run.state.claimed().is_empty());
        let succeeded = run.state.status() == RunStatus::Succeeded;
        for (index, (planned, job)) in run.state.jobs().enumerate() {
            prop_assert!(job.status().is_settled(), "{} is open", planned.name);
            if index < run.plan.jobs.len() {
                let undone = job.status() == JobStatus::Undone;
                let due = planned.compensate && job.has_started();
                let cause_is_main = run.state.jobs().take(run.plan.jobs.len())
                    .any(|(_, j)| j.status() != JobStatus::Succeeded);
                prop_assert_eq!(undone, due && cause_is_main, "{}", planned.name);
            } else {
                prop_assert!(job.status() != JobStatus::Cancelled, "finally was cancelled");
            }
            prop_assert!(!succeeded || job.status() == JobStatus::Succeeded
                || job.status() == JobStatus::Skipped);
        }
    }

    #[test]
    fn every_prefix_of_a_log_folds_to_the_state_it_had(
        plan in arbitrary_plan(),
        bytes in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut run = Driven::submitted(plan);
        let mut script = Script::new(bytes);
        let mut states = vec![run.state.clone()];
        while !run.state.status().is_settled() && states.len() < 60 {
            run.advance(&mut script);
            states.resize(run.log.len(), run.state.clone());
        }
        for (length, state) in states.iter().enumerate() {
            let text = serde_json::to_string(&run.log[..=length]).unwrap();
            let read: Vec<Event> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&fold(&read).unwrap(), state);
        }
    }
}
