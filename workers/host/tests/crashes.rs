//! Real processes, killed at every place where it could matter, and resumed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Signal, getpid, kill_process};
use sealift_definition::plan::Plan;
use sealift_host::HostOptions;
use sealift_run::{Action, AttemptStatus, JobStatus, RunStatus};
use sealift_server::{Engine, EngineOptions};
use sealift_store::{
    Durability, LogFilter, Reader, RunReport, RunStore, SqliteStore, StateFolder, StoreOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use steps::{Fault, World};

/// Tells a process that this test started what it is.
const ROLE: &str = "SEALIFT_TEST_ROLE";

/// More kills than any of these runs has places to be killed at.
const MAX_PLACES: usize = 200;

/// What a process that these tests start does.
#[derive(Debug, Serialize, Deserialize)]
enum Role {
    /// Works on the run of the folder, making it from the plan if there is none yet; starts a
    /// worker again whenever it ends.
    Engine {
        state: PathBuf,
        plan: Plan,
        dies_at_notice: Option<usize>,
    },
    /// Hosts steps.
    Worker { socket: PathBuf },
}

impl Role {
    fn start(&self) -> Child {
        // This test binary again, as the one test that plays roles.
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["plays_its_role", "--exact", "--nocapture"]);
        command.env(ROLE, serde_json::to_string(self).unwrap());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

#[test]
fn plays_its_role() {
    let Some(role) = std::env::var_os(ROLE) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match serde_json::from_str(role.to_str().unwrap()).unwrap() {
        Role::Engine {
            state,
            plan,
            dies_at_notice,
        } => {
            runtime.block_on(play_engine(&state, plan, dies_at_notice));
        }
        Role::Worker { socket } => {
            let options = HostOptions {
                end_with_parent: true,
                ..steps::host_options(&socket)
            };
            // The engine's end is how it ends here.
            drop(runtime.block_on(steps::step_host().run(options)));
        }
    }
}

async fn play_engine(state: &Path, plan: Plan, dies_at_notice: Option<usize>) {
    let options = StoreOptions {
        durability: Durability::Normal,
        ..StoreOptions::new(steps::now_ms)
    };
    let folder = StateFolder::lock(state).unwrap();
    let store = SqliteStore::open(folder, options).await.unwrap();
    let kinds = steps::step_host().kinds().into_iter().collect();
    let engine = Engine::start(store, EngineOptions { kinds }).unwrap();
    if let Some(last) = dies_at_notice {
        let mut notices = engine.notices();
        tokio::spawn(async move {
            for _ in 0..last {
                notices.recv().await.unwrap();
            }
            kill_process(getpid(), Signal::KILL).unwrap();
        });
    }
    let socket = engine.socket_path().to_owned();
    let mut worker = tokio::spawn(async move {
        for _ in 0..MAX_PLACES {
            let mut worker = Role::Worker {
                socket: socket.clone(),
            }
            .start();
            tokio::task::spawn_blocking(move || worker.wait())
                .await
                .unwrap()
                .unwrap();
        }
        panic!("the worker ends again and again");
    });
    let runs = engine.store().reader().runs(2).await.unwrap();
    let run = match runs.first() {
        None => engine.submit(plan).await.unwrap(),
        Some(run) => run.id.clone(),
    };
    let open = runs.first().is_some_and(|run| !run.status.is_settled());
    if open {
        engine.resume(&run).await.unwrap();
    }
    tokio::select! {
        waited = engine.wait(&run) => drop(waited.unwrap()),
        worker = &mut worker => worker.unwrap(),
    }
    worker.abort();
    engine.stop(false);
    engine.ended().await;
}

/// A state folder and a world, gone at the end of the test.
struct Place {
    _dir: tempfile::TempDir,
    state: PathBuf,
    world: World,
    plan: Plan,
}

impl Place {
    fn new(last_fails: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::make(&dir.path().join("world"));
        let plan = steps::steps(&world, last_fails);
        Self {
            state: dir.path().join("state"),
            world,
            plan,
            _dir: dir,
        }
    }

    fn engine(&self, dies_at_notice: Option<usize>) -> Child {
        let (state, plan) = (self.state.clone(), self.plan.clone());
        Role::Engine {
            state,
            plan,
            dies_at_notice,
        }
        .start()
    }

    fn work(&self, dies_at_notice: Option<usize>) -> ExitStatus {
        let output = self.engine(dies_at_notice).wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let killed = output.status.signal() == Some(Signal::KILL.as_raw());
        assert!(
            output.status.success() || killed,
            "{}: {error}",
            output.status
        );
        output.status
    }

    fn report(&self) -> RunReport {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let reader = Reader::open(&self.state).await.unwrap();
            let runs = reader.runs(10).await.unwrap();
            assert_eq!(runs.len(), 1, "the run was submitted twice");
            let logs = reader
                .logs(&runs[0].id, &LogFilter::default(), 1_000)
                .await
                .unwrap();
            assert!(logs.is_empty());
            reader.run(&runs[0].id).await.unwrap()
        })
    }

    /// How the run ended, in what does not depend on when it was killed.
    fn ending(&self) -> Ending {
        let report = self.report();
        let jobs = report.jobs.iter();
        let outputs = report.outputs.clone();
        let (status, effects) = (report.summary.status, self.world.effects());
        Ending {
            status,
            jobs: jobs.map(|j| (j.name.clone(), j.status)).collect(),
            outputs,
            effects,
        }
    }

    /// Nothing was done twice: the log, the executions and the ledger agree on it.
    fn assert_nothing_twice(&self) {
        let report = self.report();
        let executions = self.world.lines("executions");
        let distinct: BTreeSet<_> = executions.iter().collect();
        assert_eq!(
            distinct.len(),
            executions.len(),
            "one fence was used twice: {executions:?}"
        );
        for job in &report.jobs {
            for task in &job.tasks {
                for (action, verb) in [(Action::Run, "run"), (Action::Undo, "undo")] {
                    let claims = task.attempts.iter().filter(|a| a.action == action);
                    let done = [AttemptStatus::Succeeded, AttemptStatus::Undone];
                    let finished = claims.clone().filter(|a| done.contains(&a.status)).count();
                    assert!(finished <= 1, "{} finished twice", job.name);
                    assert!(
                        claims.clone().all(|a| a.number == 1),
                        "a crash used an attempt"
                    );
                    let name = format!("{verb} {}-{} ", job.name, task.index);
                    let ran = executions
                        .iter()
                        .filter(|line| line.starts_with(&name))
                        .count();
                    assert!(ran <= claims.count(), "{name} ran without a claim");
                }
            }
        }
        let ledger = self.world.lines("ledger");
        let distinct: BTreeSet<_> = ledger.iter().collect();
        assert_eq!(
            distinct.len(),
            ledger.len(),
            "an effect came or went twice: {ledger:?}"
        );
    }
}

#[derive(Debug, PartialEq)]
struct Ending {
    status: RunStatus,
    jobs: Vec<(String, JobStatus)>,
    outputs: BTreeMap<String, Value>,
    effects: Vec<String>,
}

fn undisturbed(last_fails: bool) -> (Ending, usize) {
    let place = Place::new(last_fails);
    assert!(place.work(None).success());
    place.assert_nothing_twice();
    (place.ending(), place.world.lines("points").len())
}

#[test]
fn an_undisturbed_run_succeeds_and_a_failing_one_leaves_a_clean_slate() {
    let (good, _) = undisturbed(false);
    assert_eq!(good.status, RunStatus::Succeeded);
    assert_eq!(
        good.outputs["left"],
        serde_json::json!(["each-0", "each-1", "each-2"])
    );
    assert_eq!(
        good.effects,
        [
            "always-0", "each-0", "each-1", "each-2", "first-0", "last-0"
        ]
    );
    let (bad, _) = undisturbed(true);
    assert_eq!(bad.status, RunStatus::Failed);
    assert_eq!(bad.effects, ["always-0"]);
    let undone = [("first", JobStatus::Undone), ("each", JobStatus::Undone)];
    assert!(
        undone
            .iter()
            .all(|(n, s)| bad.jobs.contains(&((*n).to_owned(), *s))),
        "{bad:?}"
    );
}

/// Kills the engine after each of its notices in turn, then lets it end in peace.
fn engine_killed_at_every_event(last_fails: bool) {
    let (expected, _) = undisturbed(last_fails);
    for notice in 1..MAX_PLACES {
        let place = Place::new(last_fails);
        let survived = place.work(Some(notice)).success();
        assert!(place.work(None).success());
        assert_eq!(place.ending(), expected, "killed at notice {notice}");
        place.assert_nothing_twice();
        if survived {
            assert!(notice > 20, "the run has fewer notices than it has steps");
            return;
        }
    }
    panic!("the run does not end");
}

#[test]
fn an_engine_killed_at_every_event_ends_the_run_the_same() {
    engine_killed_at_every_event(false);
}

#[test]
fn an_engine_killed_at_every_event_of_an_unwinding_ends_it_the_same() {
    engine_killed_at_every_event(true);
}

#[test]
fn an_engine_killed_again_and_again_ends_the_run_the_same() {
    let (expected, _) = undisturbed(true);
    let place = Place::new(true);
    let mut kills = 0;
    // Each life gets a little further than what resuming alone tells.
    while !place.work(Some(6)).success() {
        kills += 1;
        assert!(kills < MAX_PLACES, "the run does not end");
    }
    assert!(kills > 5, "{kills}");
    assert_eq!(place.ending(), expected);
    place.assert_nothing_twice();
}

/// Kills the worker at each point that a step passes, before and after its effect.
fn worker_killed_at_every_point(last_fails: bool) {
    let (expected, points) = undisturbed(last_fails);
    for point in 1..=points {
        let place = Place::new(last_fails);
        place.world.plant(point, Fault::Die);
        assert!(place.work(None).success());
        assert!(
            place.world.lines("points").len() > points,
            "nothing died at point {point}"
        );
        assert_eq!(place.ending(), expected, "killed at point {point}");
        place.assert_nothing_twice();
    }
}

#[test]
fn a_worker_killed_at_every_point_costs_no_attempt_and_changes_no_ending() {
    worker_killed_at_every_point(false);
}

#[test]
fn a_worker_killed_at_every_point_of_an_unwinding_changes_no_ending() {
    worker_killed_at_every_point(true);
}

#[test]
fn a_second_engine_on_one_folder_is_refused_and_told_whose_it_is() {
    let place = Place::new(false);
    let _held = StateFolder::lock(&place.state).unwrap();
    let output = place.engine(None).wait_with_output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains(&format!("pid: \"{}\"", std::process::id())),
        "{error}"
    );
}
