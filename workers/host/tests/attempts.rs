//! Engine and worker together: what becomes of an attempt, however it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod steps;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sealift_definition::plan::{Argument, Plan, PlannedJob};
use sealift_host::{Host, HostError, HostOptions};
use sealift_job::{Job, JobContext, JobError, UndoError};
use sealift_run::{
    AttemptStatus, Cause, FailureClass, JobStatus, RunId, RunStatus, message::MAX_FRAME_BYTES,
};
use sealift_server::{Engine, EngineOptions, control};
use sealift_store::{
    Durability, LogFilter, Notice, Reader, RunReport, RunStore, RunSummary, SqliteStore,
    StateFolder, StoreOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use steps::{Fault, Step, World, plan, planned};
use tokio::task::JoinHandle;

/// Behaves as its input says.
struct Act;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
enum Behaviour {
    /// Fails, transiently, up to this attempt.
    FailUntil(u32),
    /// Panics with this text.
    Panic(String),
    /// The first time, waits to be stopped.
    Wait,
    /// Computes for so many milliseconds without ever yielding.
    Compute(u64),
    /// Never ends, whoever asks.
    Ignore,
    /// Leaves so many bytes.
    Leave(usize),
    /// Speaks and says how far it is.
    Speak,
    /// Succeeds; cannot be undone while the file is there.
    StuckWhile(PathBuf),
}

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
struct ActInput {
    act: Behaviour,
}

impl Job for Act {
    const KIND: &'static str = "act@1";
    const EFFECTFUL: bool = false;
    type Input = ActInput;
    type Output = String;

    async fn run(&self, input: &ActInput, context: &JobContext) -> Result<String, JobError> {
        match &input.act {
            Behaviour::FailUntil(last) if context.attempt() <= *last => {
                return Err(JobError::transient("do it yet", "it is too early"));
            }
            Behaviour::Panic(text) => panic!("{text}"),
            Behaviour::Wait if context.fence() == 1 => {
                context.log("waiting");
                context.cancellation().cancelled().await;
                context.stop_if_cancelled()?;
            }
            Behaviour::Compute(millis) => {
                let end = Instant::now() + Duration::from_millis(*millis);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            }
            Behaviour::Ignore => std::future::pending().await,
            Behaviour::Leave(bytes) => return Ok("x".repeat(*bytes)),
            Behaviour::Speak => {
                context.progress(2, 5, "tensors");
                context.log("one");
                context.log("two");
                assert!(context.artifacts().is_dir() && context.now_unix() > 0);
            }
            _ => {}
        }
        Ok(String::new())
    }

    async fn undo(
        &self,
        input: &ActInput,
        _: Option<&String>,
        _: &JobContext,
    ) -> Result<(), UndoError> {
        match &input.act {
            Behaviour::StuckWhile(file) if file.exists() => {
                Err(UndoError::new("the file", "it is there"))
            }
            _ => Ok(()),
        }
    }
}

fn host() -> Host {
    steps::step_host().hosts(Act)
}

fn act(name: &str, needs: &[&str], act: &Behaviour) -> PlannedJob {
    let mut job = planned(name, Act::KIND, needs);
    job.with.insert("act".into(), Argument::Value(json!(act)));
    job
}

/// An engine with one worker, in a state folder of their own.
struct Bench {
    dir: tempfile::TempDir,
    engine: Engine,
    worker: JoinHandle<Result<(), HostError>>,
}

impl Bench {
    async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap(), StoreOptions::LEASE_MS).await
    }

    async fn at(dir: tempfile::TempDir, lease_ms: u64) -> Self {
        let options = StoreOptions {
            durability: Durability::Normal,
            lease_ms,
            ..StoreOptions::new(steps::now_ms)
        };
        let folder = StateFolder::lock(&dir.path().join("state")).unwrap();
        let store = SqliteStore::open(folder, options).await.unwrap();
        let kinds = host().kinds().into_iter().collect();
        let engine = Engine::start(store, EngineOptions { kinds }).unwrap();
        let options = steps::host_options(engine.socket_path());
        let worker = tokio::spawn(host().run(options));
        Self {
            dir,
            engine,
            worker,
        }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    async fn run(&self, plan: Plan) -> RunReport {
        let run = self.engine.submit(plan).await.unwrap();
        self.engine.wait(&run).await.unwrap();
        self.report(&run).await
    }

    async fn report(&self, run: &RunId) -> RunReport {
        self.engine.store().reader().run(run).await.unwrap()
    }

    /// Ends engine and worker, gracefully; gives back the folder.
    async fn end(self) -> tempfile::TempDir {
        self.engine.stop(false);
        self.engine.ended().await;
        self.worker.await.unwrap().unwrap();
        self.dir
    }
}

fn failure_of(report: &RunReport) -> (String, Vec<String>, FailureClass) {
    let Some(Cause::Failed { failure, .. }) = &report.summary.cause else {
        panic!("{:?}", report.summary)
    };
    (failure.fact.clone(), failure.causes.clone(), failure.class)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_until_its_last_attempt_succeeds_and_one_attempt_less_fails() {
    let bench = Bench::new().await;
    for failing in 0..3 {
        let report = bench
            .run(plan(
                vec![act("a", &[], &Behaviour::FailUntil(failing))],
                vec![],
            ))
            .await;
        assert_eq!(report.summary.status, RunStatus::Succeeded, "{failing}");
        let numbers: Vec<_> = report.jobs[0].tasks[0]
            .attempts
            .iter()
            .map(|a| a.number)
            .collect();
        assert_eq!(numbers, (1..=failing + 1).collect::<Vec<_>>());
    }
    let report = bench
        .run(plan(vec![act("a", &[], &Behaviour::FailUntil(3))], vec![]))
        .await;
    assert_eq!(report.summary.status, RunStatus::Failed);
    assert_eq!(failure_of(&report).0, "could not do it yet");
    let _dir = bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_permanent_failure_with_its_text() {
    let bench = Bench::new().await;
    let report = bench
        .run(plan(
            vec![act("a", &[], &Behaviour::Panic("ouch".into()))],
            vec![],
        ))
        .await;
    let (fact, causes, class) = failure_of(&report);
    assert_eq!(
        (fact.as_str(), class),
        ("job `a` panicked", FailureClass::Permanent)
    );
    assert_eq!(causes, ["ouch"]);
    assert_eq!(
        report.jobs[0].tasks[0].attempts.len(),
        2,
        "one run, one undo"
    );
    let _dir = bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_does_not_fit_the_kind_is_a_permanent_failure() {
    let bench = Bench::new().await;
    let mut job = act("a", &[], &Behaviour::Wait);
    job.with
        .insert("act".into(), Argument::Value(json!("Nonsense")));
    job.compensate = false;
    let report = bench.run(plan(vec![job], vec![])).await;
    assert_eq!(failure_of(&report).0, "could not read the job's input");
    let _dir = bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_out_of_time_is_asked_to_stop_and_is_a_transient_failure() {
    let bench = Bench::new().await;
    let mut job = act("a", &[], &Behaviour::Wait);
    job.timeout_ms = 20;
    let report = bench.run(plan(vec![job], vec![])).await;
    assert_eq!(report.summary.status, RunStatus::Succeeded);
    let first = &report.jobs[0].tasks[0].attempts[0];
    let failure = first.failure.as_ref().unwrap();
    assert_eq!(failure.fact, "job `a` did not end within 20 ms");
    assert_eq!(failure.class, FailureClass::Transient);
    let _dir = bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_computes_without_yielding_keeps_its_lease() {
    let bench = Bench::at(tempfile::tempdir().unwrap(), 600).await;
    let both = ["a", "b"].map(|name| act(name, &[], &Behaviour::Compute(2_000)));
    let report = bench.run(plan(both.into(), vec![])).await;
    assert_eq!(report.summary.status, RunStatus::Succeeded);
    for job in &report.jobs {
        assert_eq!(
            job.tasks[0].attempts.len(),
            1,
            "the lease of {} ended",
            job.name
        );
    }
    let _dir = bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_too_long_for_a_frame_is_a_permanent_failure() {
    let bench = Bench::new().await;
    let mut job = act("a", &[], &Behaviour::Leave(MAX_FRAME_BYTES));
    job.compensate = false;
    let report = bench.run(plan(vec![job], vec![])).await;
    assert_eq!(
        failure_of(&report).0,
        "could not hand over the job's output"
    );
    let _dir = bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_says_is_kept_and_told() {
    let bench = Bench::new().await;
    let mut notices = bench.engine.notices();
    let report = bench
        .run(plan(vec![act("a", &[], &Behaviour::Speak)], vec![]))
        .await;
    let reader = bench.engine.store().reader();
    let lines = reader
        .logs(&report.summary.id, &LogFilter::default(), 10)
        .await
        .unwrap();
    assert_eq!(
        lines.iter().map(|l| l.line.as_str()).collect::<Vec<_>>(),
        ["one", "two"]
    );
    let mut told = Vec::new();
    while let Ok(notice) = notices.try_recv() {
        match notice {
            Notice::Log { line, .. } => told.push(line),
            Notice::Run { status, .. } => told.push(status.to_string()),
            _ => {}
        }
    }
    assert_eq!(told, ["running", "one", "two", "succeeded"]);
    let _dir = bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_follows_the_log_of_a_run() {
    let bench = Bench::new().await;
    let run = waiting_run(&bench).await;
    let mut follower = control::Follower::start(&bench.state(), &run)
        .await
        .unwrap();
    let reader = Reader::open(&bench.state()).await.unwrap();
    let mut filter = LogFilter::default();
    let mut seen = Vec::new();
    while follower.changed().await {
        for line in reader.logs(&run, &filter, 10).await.unwrap() {
            filter.after = line.id;
            seen.push(line.line);
        }
        if seen.len() == 1 {
            bench.engine.stop(false);
        }
    }
    assert_eq!(seen, ["waiting"]);
    let _dir = bench.end().await;
}

/// Submits a run whose job waits, and waits until it does.
async fn waiting_run(bench: &Bench) -> RunId {
    let mut notices = bench.engine.notices();
    let jobs = vec![
        act("a", &[], &Behaviour::Wait),
        act("b", &["a"], &Behaviour::Speak),
    ];
    let run = bench.engine.submit(plan(jobs, vec![])).await.unwrap();
    while !matches!(notices.recv().await.unwrap(), Notice::Log { .. }) {}
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_stops_its_jobs_and_undoes_them() {
    let bench = Bench::new().await;
    let run = waiting_run(&bench).await;
    bench.engine.cancel(&run).await.unwrap();
    let RunSummary { status, .. } = bench.engine.wait(&run).await.unwrap();
    assert_eq!(status, RunStatus::Cancelled);
    let report = bench.report(&run).await;
    assert_eq!(report.jobs[0].status, JobStatus::Undone);
    let attempts = &report.jobs[0].tasks[0].attempts;
    assert_eq!(attempts[0].status, AttemptStatus::Released);
    assert_eq!(report.jobs[1].status, JobStatus::Cancelled);
    let _dir = bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_engine_waits_for_safe_points_and_the_run_goes_on_later() {
    let bench = Bench::new().await;
    let run = waiting_run(&bench).await;
    let status = control::status(&bench.state()).await.unwrap();
    assert_eq!((status.pid, status.draining), (std::process::id(), false));
    assert_eq!(status.runs, [(run.clone(), RunStatus::Running)]);
    assert_eq!(status.workers[0].name, "owner");
    let dir = bench.end().await;

    let bench = Bench::at(dir, StoreOptions::LEASE_MS).await;
    bench.engine.resume(&run).await.unwrap();
    assert_eq!(
        bench.engine.wait(&run).await.unwrap().status,
        RunStatus::Succeeded
    );
    let report = bench.report(&run).await;
    let attempts = report.jobs[0].tasks[0]
        .attempts
        .iter()
        .map(|a| (a.fence, a.number, a.status));
    let expected = [
        (1, 1, AttemptStatus::Released),
        (2, 1, AttemptStatus::Succeeded),
    ];
    assert_eq!(
        attempts.collect::<Vec<_>>(),
        expected,
        "being stopped used an attempt"
    );
    let _dir = bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_stopped_at_once_waits_for_nothing() {
    let bench = Bench::new().await;
    let mut job = act("a", &[], &Behaviour::Ignore);
    job.compensate = false;
    let mut notices = bench.engine.notices();
    let run = bench.engine.submit(plan(vec![job], vec![])).await.unwrap();
    while !matches!(notices.recv().await.unwrap(), Notice::Claimed { .. }) {}
    bench.engine.stop(false);
    assert!(
        bench.engine.submit(plan(vec![], vec![])).await.is_err(),
        "it is stopping"
    );
    bench.engine.stop(true);
    bench.engine.ended().await;
    assert!(matches!(
        bench.worker.await.unwrap(),
        Err(HostError::EngineGone)
    ));
    assert!(bench.engine.wait(&run).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_another_release_is_turned_away_and_told_why() {
    let bench = Bench::new().await;
    let mut kinds = host().kinds();
    kinds.retain(|kind| kind.kind != Step::KIND);
    let other = Host::new("operator").hosts(Step);
    let options = HostOptions {
        name: "other".into(),
        ..steps::host_options(bench.engine.socket_path())
    };
    let refused = other.run(options).await.unwrap_err();
    assert!(
        refused.to_string().contains("`step@1` differs in its zone"),
        "{refused}"
    );
    let _dir = bench.end().await;
}

#[tokio::test]
async fn a_worker_without_an_engine_says_so() {
    let nowhere = steps::host_options(Path::new("/nowhere/engine.sock"));
    assert!(matches!(
        host().run(nowhere).await,
        Err(HostError::Unreachable { .. })
    ));
    let twice = host()
        .hosts(Act)
        .run(steps::host_options(Path::new("/nowhere")))
        .await;
    assert!(matches!(twice, Err(HostError::DuplicateKind("act@1"))));
    let folder = tempfile::tempdir().unwrap();
    let status = control::status(folder.path()).await;
    assert!(matches!(status, Err(control::ControlError::NotRunning)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_fails_stops_the_run_until_a_person_has_acted() {
    let bench = Bench::new().await;
    let file = bench.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut always = act("always", &[], &Behaviour::Speak);
    always.compensate = false;
    let jobs = vec![
        act("a", &[], &Behaviour::StuckWhile(file.clone())),
        act("b", &["a"], &Behaviour::FailUntil(9)),
    ];
    let report = bench.run(plan(jobs, vec![always])).await;
    assert_eq!(report.summary.status, RunStatus::Stopped);
    assert_eq!(report.jobs[0].status, JobStatus::UndoFailed);
    assert_eq!(
        report.jobs[2].status,
        JobStatus::Waiting,
        "finally ran before the undo"
    );
    let last = report.jobs[0].tasks[0].attempts.last().unwrap();
    assert_eq!(last.undo_failure.as_ref().unwrap().left_behind, "the file");
    std::fs::remove_file(&file).unwrap();
    let run = report.summary.id;
    bench.engine.resume(&run).await.unwrap();
    assert_eq!(
        bench.engine.wait(&run).await.unwrap().status,
        RunStatus::Failed
    );
    let report = bench.report(&run).await;
    assert_eq!(report.jobs[0].status, JobStatus::Undone);
    assert_eq!(report.jobs[2].status, JobStatus::Succeeded);
    let _dir = bench.end().await;
}

/// Runs the steps with one fault planted; returns where it struck, and the end.
async fn run_with(bench: &Bench, at: usize, fault: Fault, last_fails: bool) -> (World, RunReport) {
    let name = format!("world-{at}-{fault:?}-{last_fails}");
    let world = World::make(&bench.dir.path().join(name));
    world.plant(at, fault);
    let report = bench.run(steps::steps(&world, last_fails)).await;
    (world, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_task_failing_at_each_point_ends_the_run_as_it_should() {
    let bench = Bench::new().await;
    for last_fails in [false, true] {
        let (world, undisturbed) = run_with(&bench, 0, Fault::Die, last_fails).await;
        let (points, effects) = (world.lines("points"), world.effects());
        for at in 1..=points.len() {
            let (world, report) = run_with(&bench, at, Fault::Transient, last_fails).await;
            assert_eq!(
                report.summary.status, undisturbed.summary.status,
                "transient at {at}"
            );
            assert_eq!(world.effects(), effects, "transient at {at}");
            for fault in [Fault::Permanent, Fault::Panic] {
                let (world, report) = run_with(&bench, at, fault, last_fails).await;
                let place = world.lines("points")[at - 1].clone();
                assert_eq!(
                    report.summary.status,
                    RunStatus::Failed,
                    "{fault:?} {place}"
                );
                let slate = world.effects();
                if place.ends_with("always-0") {
                    let main = effects.iter().filter(|name| *name != "always-0");
                    assert!(
                        main.clone().all(|name| slate.contains(name)),
                        "{place}: {slate:?}"
                    );
                } else {
                    assert_eq!(slate, ["always-0"], "{fault:?} {place}");
                }
            }
        }
    }
    let _dir = bench.end().await;
}
