//! What a run does, fact by fact.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod plans;

use plans::{failure, job, plan};
use sealift_definition::plan::{Argument, ForEach, Plan};
use sealift_run::{
    Action, Cause, Change, Command, Event, FailureClass, IllegalTransition, JobStatus, MAX_TASKS,
    Outcome, PlanFault, Release, RunState, RunStatus, Step, TaskId, TaskStatus, Worker, next,
};
use serde_json::{Value, json};

/// A run with a clock that the test moves.
struct Run {
    state: RunState,
    now_ms: u64,
}

impl Run {
    fn new(plan: Plan) -> (Self, Step) {
        let (state, now_ms) = (RunState::default(), 0);
        let mut run = Self { state, now_ms };
        let step = run.apply(Change::RunSubmitted { plan }).unwrap();
        (run, step)
    }

    fn apply(&mut self, change: Change) -> Result<Step, IllegalTransition> {
        let at_ms = self.now_ms;
        next(&mut self.state, &Event { at_ms, change })
    }

    fn claim(&mut self, task: &TaskId) -> Result<Step, IllegalTransition> {
        let fence = self.state.task(task).unwrap().fence() + 1;
        let worker = Worker {
            name: "w".into(),
            boot: "b".into(),
        };
        let task = task.clone();
        self.apply(Change::AttemptClaimed {
            task,
            fence,
            worker,
        })
    }

    fn settle(&mut self, task: &TaskId, outcome: Outcome) -> Step {
        let fence = self.state.task(task).unwrap().fence();
        let task = task.clone();
        self.apply(Change::AttemptSettled {
            task,
            fence,
            outcome,
        })
        .unwrap()
    }

    /// Claims and settles.
    fn work(&mut self, job: &str, outcome: Outcome) -> Step {
        let task = task(job, 0);
        self.claim(&task).unwrap();
        self.settle(&task, outcome)
    }

    fn job(&self, name: &str) -> JobStatus {
        let index = self.state.index_of(name).unwrap();
        self.state.job(index).unwrap().1.status()
    }
}

fn task(job: &str, index: u32) -> TaskId {
    TaskId {
        job: job.into(),
        index,
    }
}

fn done(output: Value) -> Outcome {
    Outcome::Succeeded { output }
}

fn failed(class: FailureClass) -> Outcome {
    Outcome::Failed {
        failure: failure(class),
    }
}

fn released() -> Outcome {
    Outcome::Released {
        release: Release::WorkerGone,
    }
}

fn output_of(job: &str, output: &str) -> Argument {
    Argument::Output {
        job: job.into(),
        output: output.into(),
    }
}

#[test]
fn a_transient_failure_waits_longer_each_time_and_no_claim_is_made_before() {
    let mut a = job("a", &[]);
    a.retry.max_attempts = 4;
    let (mut run, _) = Run::new(plan(vec![a], vec![]));
    run.now_ms = 1_000;
    for wait in [100, 200, 400] {
        let step = run.work("a", failed(FailureClass::Transient));
        let run_at_ms = run.now_ms + wait;
        let (task, action) = (task("a", 0), Action::Run);
        let offer = Command::Offer {
            task: task.clone(),
            action,
            run_at_ms,
        };
        assert_eq!(step.commands, [offer]);
        run.now_ms = run_at_ms - 1;
        let early = run.claim(&task).unwrap_err();
        assert_eq!(early, IllegalTransition::TooEarly { task, run_at_ms });
        run.now_ms = run_at_ms;
    }
    run.work("a", failed(FailureClass::Transient));
    assert_eq!(run.state.status(), RunStatus::Failed);
}

#[test]
fn a_lost_worker_never_uses_an_attempt() {
    let (mut run, _) = Run::new(plan(vec![job("a", &[])], vec![]));
    for fence in 1..=50 {
        run.work("a", released());
        let task = run.state.task(&task("a", 0)).unwrap();
        assert_eq!(
            (task.failures(), task.fence(), task.status()),
            (0, fence, TaskStatus::Ready)
        );
    }
    run.work("a", done(json!({})));
    assert_eq!(run.state.status(), RunStatus::Succeeded);
}

#[test]
fn jobs_are_undone_in_the_reverse_of_their_order_even_if_the_failed_one_left_no_output() {
    let mut jobs = vec![
        job("a", &[]),
        job("b", &["a"]),
        job("kept", &["b"]),
        job("c", &["kept"]),
    ];
    for undone in [0, 1, 3] {
        jobs[undone].compensate = true;
    }
    let (mut run, _) = Run::new(plan(jobs, vec![]));
    for name in ["a", "b", "kept"] {
        run.work(name, done(json!({})));
    }
    run.work("c", failed(FailureClass::Permanent));
    for name in ["c", "b", "a"] {
        assert_eq!(run.state.claimable(), [task(name, 0)]);
        run.work(name, Outcome::Undone);
    }
    assert_eq!(run.state.status(), RunStatus::Failed);
    assert_eq!(run.job("kept"), JobStatus::Succeeded);
}

#[test]
fn a_job_that_never_started_is_not_undone() {
    let mut jobs = vec![job("a", &[]), job("b", &["a"])];
    jobs[1].compensate = true;
    let (mut run, _) = Run::new(plan(jobs, vec![]));
    run.work("a", failed(FailureClass::Permanent));
    assert_eq!(
        (run.state.status(), run.job("b")),
        (RunStatus::Failed, JobStatus::Cancelled)
    );
}

#[test]
fn a_permanent_failure_withdraws_what_waits_and_interrupts_what_runs() {
    let jobs = vec![job("fails", &[]), job("waits", &[]), job("runs", &[])];
    let (mut run, _) = Run::new(plan(jobs, vec![]));
    run.claim(&task("runs", 0)).unwrap();
    let step = run.work("fails", failed(FailureClass::Permanent));
    let withdraw = Command::Withdraw {
        task: task("waits", 0),
    };
    let interrupt = Command::Interrupt {
        task: task("runs", 0),
        fence: 1,
    };
    assert_eq!(step.commands, [withdraw, interrupt]);
    assert!(run.state.interrupts(&task("runs", 0)));
    let step = run.settle(&task("runs", 0), released());
    let status = RunStatus::Failed;
    assert_eq!(step.commands, [Command::Settle { status }]);
    assert_eq!(run.job("runs"), JobStatus::Cancelled);
}

#[test]
fn a_finally_job_runs_after_the_undo_and_is_skipped_with_the_reason_if_it_misses_an_output() {
    let mut reads = job("reads", &[]);
    reads.with.insert("x".into(), output_of("b", "out"));
    let needs = job("needs", &["reads"]);
    let mut jobs = vec![job("a", &[]), job("b", &["a"])];
    jobs[0].compensate = true;
    let (mut run, _) = Run::new(plan(jobs, vec![job("tells", &[]), reads, needs]));
    run.work("a", done(json!({})));
    run.work("b", failed(FailureClass::Permanent));
    assert_eq!(run.state.claimable(), [task("a", 0)]);
    assert_eq!(run.job("tells"), JobStatus::Waiting);
    run.work("a", Outcome::Undone);
    assert_eq!(run.state.claimable(), [task("tells", 0)]);
    let reason = |name| {
        let index = run.state.index_of(name).unwrap();
        run.state
            .job(index)
            .unwrap()
            .1
            .skipped()
            .unwrap()
            .to_owned()
    };
    assert_eq!(reason("reads"), "job `b` left no output");
    assert_eq!(reason("needs"), "job `reads`, which it needs, is skipped");
    run.work("tells", done(json!({})));
    assert_eq!(run.state.status(), RunStatus::Failed);
}

#[test]
fn a_failing_finally_job_fails_the_run_and_undoes_nothing() {
    let mut a = job("a", &[]);
    a.compensate = true;
    let (mut run, _) = Run::new(plan(vec![a], vec![job("last", &[])]));
    run.work("a", done(json!({})));
    run.work("last", failed(FailureClass::Permanent));
    assert_eq!(
        (run.state.status(), run.job("a")),
        (RunStatus::Failed, JobStatus::Succeeded)
    );
    let cause = Cause::Failed {
        job: Some("last".into()),
        failure: failure(FailureClass::Permanent),
    };
    assert_eq!(run.state.cause(), Some(&cause));
}

#[test]
fn an_output_that_is_not_there_fails_the_job_that_reads_it() {
    let mut b = job("b", &["a"]);
    b.with.insert("x".into(), output_of("a", "typo"));
    let (mut run, _) = Run::new(plan(vec![job("a", &[]), b], vec![]));
    run.work("a", done(json!({"out": 1})));
    let index = run.state.index_of("b").unwrap();
    let failure = run.state.job(index).unwrap().1.failure().unwrap();
    assert_eq!(failure.causes, ["the output of job `a` has no `typo`"]);
    assert_eq!(run.state.status(), RunStatus::Failed);
}

#[test]
fn a_run_whose_outputs_are_not_there_is_unwound() {
    let mut a = job("a", &[]);
    a.compensate = true;
    let mut plan = plan(vec![a], vec![]);
    plan.outputs.insert("x".into(), output_of("a", "typo"));
    let (mut run, _) = Run::new(plan);
    run.work("a", done(json!({})));
    run.work("a", Outcome::Undone);
    assert_eq!(run.state.status(), RunStatus::Failed);
    assert!(matches!(
        run.state.cause(),
        Some(Cause::Failed { job: None, .. })
    ));
}

#[test]
fn arguments_are_resolved_as_deep_as_they_go() {
    let mut each = job("each", &["a"]);
    let deep = Argument::List(vec![Argument::Element, output_of("a", "out")]);
    let map = Argument::Map([("k".to_owned(), deep)].into());
    each.with.insert("deep".into(), map);
    let list = output_of("a", "list");
    each.for_each = Some(ForEach {
        list,
        max_parallel: 9,
    });
    let (mut run, _) = Run::new(plan(vec![job("a", &[]), each], vec![]));
    run.work("a", done(json!({"out": 7, "list": ["x", "y"]})));
    let index = run.state.index_of("each").unwrap();
    let input = run.state.input(index, 1).unwrap();
    assert_eq!(input, json!({"deep": {"k": ["y", 7]}}));
}

#[test]
fn a_fan_out_over_what_is_no_list_or_too_long_a_list_fails() {
    for list in [json!("no list"), json!(vec![0; MAX_TASKS + 1])] {
        let mut a = job("a", &[]);
        let list = Argument::Value(list);
        a.for_each = Some(ForEach {
            list,
            max_parallel: 1,
        });
        let (run, _) = Run::new(plan(vec![a], vec![]));
        assert_eq!(run.state.status(), RunStatus::Failed);
    }
}

#[test]
fn a_run_that_unwinds_cannot_be_cancelled_and_one_that_runs_cannot_be_resumed() {
    let mut a = job("a", &[]);
    a.compensate = true;
    let (mut run, _) = Run::new(plan(vec![a], vec![]));
    assert!(run.apply(Change::RunResumed).is_err());
    run.work("a", failed(FailureClass::Permanent));
    let refused = run.apply(Change::CancelRequested).unwrap_err();
    let (status, change) = (RunStatus::Unwinding, "cancel-requested");
    assert_eq!(refused, IllegalTransition::Run { status, change });
}

#[test]
fn each_faulty_plan_is_refused_for_its_fault() {
    let no_parallel = || {
        let mut a = job("a", &[]);
        let list = Argument::Value(json!([]));
        a.for_each = Some(ForEach {
            list,
            max_parallel: 0,
        });
        a
    };
    let no_attempts = || {
        let mut a = job("a", &[]);
        a.retry.max_attempts = 0;
        a
    };
    let unknown = |job: &str, needed: &str| PlanFault::UnknownNeed {
        job: job.into(),
        needed: needed.into(),
    };
    let many = (0..1_001).map(|i| job(&i.to_string(), &[])).collect();
    let rows = [
        (plan(vec![], vec![]), PlanFault::Empty),
        (plan(many, vec![]), PlanFault::TooManyJobs(1_001)),
        (
            plan(vec![job("a", &[]), job("a", &[])], vec![]),
            PlanFault::DuplicateName("a".into()),
        ),
        (plan(vec![job("a", &["z"])], vec![]), unknown("a", "z")),
        (
            plan(vec![job("a", &[])], vec![job("f", &["a"])]),
            unknown("f", "a"),
        ),
        (
            plan(vec![job("a", &["b"]), job("b", &["a"])], vec![]),
            PlanFault::Cycle(vec!["a".into(), "b".into()]),
        ),
        (
            plan(vec![no_parallel()], vec![]),
            PlanFault::NoAttempt("a".into()),
        ),
        (
            plan(vec![no_attempts()], vec![]),
            PlanFault::NoAttempt("a".into()),
        ),
    ];
    for (plan, fault) in rows {
        let mut state = RunState::default();
        let change = Change::RunSubmitted { plan };
        let refused = next(&mut state, &Event { at_ms: 0, change }).unwrap_err();
        assert_eq!(refused, IllegalTransition::Plan(fault));
        assert_eq!(state, RunState::default());
    }
}
