//! Being asked to stop: by a key, by another process, twice.

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Batch, Deployment, Running, TABULAR};

const STOPPED: i32 = 5;

fn started(deployment: &Deployment) -> (Batch, Running) {
    let batch = deployment.seal_rows(TABULAR, 20, 10);
    let running = deployment.start_run(TABULAR, &batch.folder, &[]);
    (batch, running)
}

fn assert_stopped_and_resumed(deployment: &Deployment, batch: &Batch, running: Running) {
    let output = running.wait();
    let run = deployment.show()["summary"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    output.assert_refused(
        STOPPED,
        "the run was stopped",
        &format!("sealift resume {run}"),
    );
    deployment.assert_no_process_left();
    let status = deployment.sealift(["status"]).json();
    assert_eq!(status["running"], false);
    assert_eq!(status["unfinished"][0]["id"], run.as_str());
    deployment.sealift(["resume", &run]).assert_success();
    let compared = deployment.assert_results(batch, None);
    assert_eq!(compared["label_agreement"], 1.0);
}

#[test]
fn an_interrupt_stops_a_run_at_a_safe_point_and_it_can_be_resumed() {
    let deployment = Deployment::new();
    let (batch, mut running) = started(&deployment);
    running.until_job("provision", "active");
    running.press_ctrl_c();
    assert_stopped_and_resumed(&deployment, &batch, running);
}

#[test]
fn a_second_interrupt_stops_at_once_and_the_run_can_be_resumed() {
    let deployment = Deployment::new();
    let (batch, mut running) = started(&deployment);
    running.until_job("seal", "active");
    running.press_ctrl_c();
    running.signal(Signal::TERM);
    assert_stopped_and_resumed(&deployment, &batch, running);
}

#[test]
fn stop_from_another_process_ends_a_run_that_can_be_resumed() {
    let deployment = Deployment::new();
    let (batch, mut running) = started(&deployment);
    running.until_job("seal", "active");
    let status = deployment.sealift(["status"]).json();
    assert_eq!(status["running"], true);
    assert_eq!(
        status["engine"]["pid"].as_i64(),
        Some(running.pid().as_raw_nonzero().get().into())
    );
    let stop = deployment.sealift(["stop"]).json();
    assert_eq!(stop["stopped"], true);
    assert_stopped_and_resumed(&deployment, &batch, running);
}

#[test]
fn stop_without_an_engine_says_so() {
    let deployment = Deployment::new();
    let stop = deployment.sealift(["stop"]).json();
    assert_eq!(stop["running"], false);
    assert_eq!(stop["stopped"], Value::Bool(false));
}
