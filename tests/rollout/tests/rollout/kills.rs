//! SIGKILL at every event of a run, process by process: the run goes on where it was, and nothing
//! is done or counted twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::{Batch, Deployment, Output, Running, TABULAR, processes};

const SIGKILL: i32 = 9;
/// What a run that lost a process ends with.
const STOPPED: i32 = 5;
const PARTITIONS: usize = 2;

/// Whom to kill.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Engine,
    Named(&'static str),
    Everything,
}

impl Victim {
    fn kill(self, deployment: &Deployment, running: &Running) -> bool {
        match self {
            Self::Engine => {
                running.signal(rustix::process::Signal::KILL);
                true
            }
            Self::Named(name) => deployment.kill(name),
            Self::Everything => processes::kill(deployment.folder(), |_| true),
        }
    }

    fn takes_the_engine(self) -> bool {
        matches!(self, Self::Engine | Self::Everything)
    }
}

/// Tasks that have succeeded, each exactly as the run log has it.
#[derive(Default)]
struct Finished(BTreeMap<(String, u64), Value>);

impl Finished {
    /// What was finished is unchanged, to the millisecond; what is finished now is kept.
    fn assert_unchanged(&mut self, shown: &Value) {
        let jobs = shown["jobs"].as_array().unwrap();
        let tasks = jobs.iter().flat_map(|job| {
            let name = job["name"].as_str().unwrap();
            job["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .map(move |task| (name, task))
        });
        let now: BTreeMap<_, _> = tasks
            .filter(|(_, task)| task["status"] == "succeeded")
            .map(|(job, task)| {
                (
                    (job.to_owned(), task["index"].as_u64().unwrap()),
                    task.clone(),
                )
            })
            .collect();
        for (key, before) in &self.0 {
            assert_eq!(
                now.get(key),
                Some(before),
                "{key:?} was finished and has changed"
            );
        }
        self.0 = now;
    }
}

/// An event without what differs from one attempt to the next.
fn name_of(event: &Value) -> String {
    match event["event"].as_str() {
        Some("log") => {
            // Addresses, digests and numbers in a line belong to the attempt.
            let line = event["line"].as_str().unwrap_or_default();
            let words: Vec<_> = line
                .split(' ')
                .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
                .collect();
            format!("log {} {}", event["task"], words.join(" "))
        }
        _ => event.to_string(),
    }
}

/// Kills `victim` at each event that has not been seen yet, resuming each time, until the run has
/// succeeded. Returns at which events.
fn killed_at_every_event(victim: Victim) -> Vec<String> {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 20, 20 / PARTITIONS);
    let mut seen = BTreeSet::new();
    let mut finished = Finished::default();
    let mut kills = Vec::new();
    let mut running = deployment.start_run(TABULAR, &batch.folder, &[]);
    loop {
        let killed_at = kill_at_new_event(victim, &deployment, &mut running, &mut seen);
        let output = running.wait();
        deployment.assert_no_process_left();
        let shown = deployment.show();
        finished.assert_unchanged(&shown);
        let succeeded = shown["summary"]["status"] == "succeeded";
        assert_ended_by(victim, killed_at.is_some(), succeeded, &output);
        kills.extend(killed_at);
        if succeeded {
            break;
        }
        running = deployment.start(["resume"]);
    }
    assert_once(&deployment, &batch);
    kills
}

fn kill_at_new_event(
    victim: Victim,
    deployment: &Deployment,
    running: &mut Running,
    seen: &mut BTreeSet<String>,
) -> Option<String> {
    while let Some(event) = running.next_event() {
        if event.get("event").is_none() {
            continue;
        }
        let name = name_of(&event);
        if !seen.contains(&name) && victim.kill(deployment, running) {
            seen.insert(name.clone());
            return Some(name);
        }
    }
    None
}

fn assert_ended_by(victim: Victim, killed: bool, succeeded: bool, output: &Output) {
    if !killed {
        output.assert_success();
    } else if victim.takes_the_engine() {
        assert_eq!(output.signal, Some(SIGKILL), "{output:#?}");
    } else if output.code == Some(0) {
        // The run was over before the loss was noticed.
        assert!(succeeded, "{output:#?}");
    } else {
        output.assert_refused(STOPPED, "ended (signal: 9 (SIGKILL))", "sealift resume");
    }
}

/// One run, one version, one success per task, one counted receipt per partition, every row
/// answered once.
fn assert_once(deployment: &Deployment, batch: &Batch) {
    let shown = deployment.show();
    for job in shown["jobs"].as_array().unwrap() {
        for task in job["tasks"].as_array().unwrap() {
            let attempts = task["attempts"].as_array().unwrap();
            let succeeded = attempts
                .iter()
                .filter(|attempt| attempt["status"] == "succeeded");
            assert_eq!(succeeded.count(), 1, "{}: {task:#}", job["name"]);
        }
    }
    let runs = deployment.sealift(["runs"]);
    runs.assert_success();
    assert_eq!(runs.documents().len(), 1);
    let compared = deployment.assert_results(batch, None);
    assert_eq!(compared["label_agreement"], 1.0);
    assert_eq!(published_versions(deployment), 1);
}

/// Version documents in the store.
fn published_versions(deployment: &Deployment) -> usize {
    let versions = deployment.state().join("store/versions").join(TABULAR.name);
    std::fs::read_dir(versions).unwrap().count()
}

/// Each of `jobs` was interrupted at least once.
fn assert_interrupted(kills: &[String], jobs: &[&str]) {
    for job in jobs {
        let named = format!("\"job\":\"{job}\"");
        assert!(
            kills.iter().any(|kill| kill.contains(&named)),
            "never in `{job}`: {kills:#?}"
        );
    }
}

#[test]
fn a_run_survives_the_death_of_its_engine_at_every_event() {
    let kills = killed_at_every_event(Victim::Engine);
    assert_interrupted(
        &kills,
        &["seal", "publish", "provision", "attest", "score", "merge"],
    );
}

#[test]
fn a_run_survives_the_death_of_the_owner_at_every_event() {
    let kills = killed_at_every_event(Victim::Named("sealift-owner"));
    assert_interrupted(&kills, &["seal", "publish"]);
}

#[test]
fn a_run_survives_the_death_of_the_operator_at_every_event() {
    let kills = killed_at_every_event(Victim::Named("sealift-operator"));
    assert_interrupted(&kills, &["provision", "attest", "score", "merge"]);
}

#[test]
fn a_run_survives_the_death_of_the_key_manager_at_every_event() {
    let kills = killed_at_every_event(Victim::Named("sealift-key-manager"));
    assert_interrupted(&kills, &["seal", "publish", "provision", "score", "merge"]);
}

#[test]
fn a_run_survives_the_death_of_every_process_at_every_event() {
    let kills = killed_at_every_event(Victim::Everything);
    assert_interrupted(
        &kills,
        &["seal", "publish", "provision", "attest", "score", "merge"],
    );
}

#[test]
fn a_guest_that_dies_is_replaced_and_its_run_goes_on() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 20, 20 / PARTITIONS);
    let mut running = deployment.start_run(TABULAR, &batch.folder, &[]);
    running.until_job("attest", "succeeded");
    assert!(
        deployment.kill("sealift-confidential"),
        "the attested guest runs"
    );
    running.until(|event| event["job"] == "score" && event["done"] == 1);
    deployment.kill("sealift-confidential");
    running.wait().assert_success();
    deployment.assert_no_process_left();
    assert_once(&deployment, &batch);
}
