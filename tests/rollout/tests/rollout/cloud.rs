//! A cloud's store over the service's own protocol on loopback: published to, scored from by
//! guests that do not know of it, and looked at, verified, pulled, rotated and collected by whoever
//! has the rights.

use std::{fs, process::Command};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    emulators::Emulator,
    harness::{Batch, Deployment, Output, Running, TABULAR},
};

const BUCKET: &str = "s3://models/team";

/// The variables of a user of the emulator.
fn variables(emulator: &Emulator) -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT_URL", emulator.address().to_owned()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ]
}

struct Cloud {
    deployment: Deployment,
    emulator: Emulator,
}

impl Cloud {
    /// A deployment that publishes to the bucket.
    fn new() -> Self {
        Self {
            deployment: Deployment::new(),
            emulator: Emulator::s3(),
        }
    }

    /// One whose one version was published there and answered some rows.
    fn with_a_version() -> Self {
        let cloud = Self::new();
        let batch = cloud.deployment.seal_rows(TABULAR, 4, 4);
        cloud.start_run(&batch).wait().assert_success();
        cloud
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.deployment.binary("sealift"));
        command
            .arg("--json")
            .arg("--state")
            .arg(self.deployment.state())
            .envs(variables(&self.emulator))
            .current_dir(self.deployment.folder());
        command
    }

    /// `sealift run … --store s3://…` with the user's variables.
    fn start_run(&self, batch: &Batch) -> Running {
        let mut command = self.command();
        let batch = format!("batch={}", batch.folder.display());
        command.arg("run").arg(TABULAR.definition());
        command.args(["--store", BUCKET, "--input", &batch]);
        command.args(["--input", "output_policy=dangerous_full_scores"]);
        Running::start(&mut command)
    }

    /// `sealift model ARGS --store s3://…` with the user's variables.
    fn model(&self, args: &[&str]) -> Output {
        let mut command = self.command();
        command.arg("model").args(args).args(["--store", BUCKET]);
        Running::start(&mut command).wait()
    }

    fn look(&self, command: &str) -> Value {
        self.model(&[command, "--model", TABULAR.name, "--version", "1"])
            .json()
    }
}

/// What stands in the state folder's own store.
fn kept_locally(deployment: &Deployment) -> usize {
    fs::read_dir(deployment.state().join("store"))
        .unwrap()
        .count()
}

#[test]
fn a_batch_is_scored_from_a_bucket_that_the_guest_reaches_through_the_operator() {
    let cloud = Cloud::new();
    let batch = cloud.deployment.seal_rows(TABULAR, 20, 10);
    cloud.start_run(&batch).wait().assert_success();
    cloud.deployment.assert_no_process_left();
    let compared = cloud.deployment.assert_results(&batch, None);
    assert_eq!(compared["label_agreement"], 1.0, "{compared}");
    assert_eq!(kept_locally(&cloud.deployment), 0);
}

#[test]
fn a_run_on_a_bucket_goes_on_there_after_a_crash() {
    let cloud = Cloud::new();
    let batch = cloud.deployment.seal_rows(TABULAR, 20, 10);
    let mut running = cloud.start_run(&batch);
    running.until_job("attest", "succeeded");
    running.signal(Signal::KILL);
    drop(running.wait());
    cloud.deployment.assert_no_process_left();
    let mut command = cloud.command();
    Running::start(command.arg("resume"))
        .wait()
        .assert_success();
    let compared = cloud.deployment.assert_results(&batch, None);
    assert_eq!(compared["label_agreement"], 1.0, "{compared}");
    assert_eq!(kept_locally(&cloud.deployment), 0);
}

#[test]
fn a_bucket_without_its_variables_is_refused_before_anything_is_started() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let batch = format!("batch={}", batch.folder.display());
    let definition = TABULAR.definition();
    let definition = definition.to_str().unwrap();
    let run = [
        "run",
        definition,
        "--input",
        &batch,
        "--store",
        "az://models",
    ];
    deployment
        .sealift(run)
        .assert_refused(8, "cannot open the store `az://models/`", "AZURE_");
    deployment.assert_no_process_left();
}

#[test]
fn a_version_in_a_bucket_is_verified_pulled_rotated_and_cleaned_up_after() {
    let cloud = Cloud::with_a_version();
    let claimed = cloud.look("inspect");
    let verified = cloud.look("verify");
    assert_eq!(verified["manifest_sha256"], claimed["manifest_sha256"]);
    let same = cloud.model(&["diff", "1", "1", "--model", TABULAR.name]);
    assert_eq!(same.json()["identical"], true);

    let rotated = cloud.model(&["rotate", TABULAR.name, "1"]).json();
    assert_eq!(
        rotated["replaced_manifest_sha256"],
        claimed["manifest_sha256"]
    );
    assert_eq!(cloud.look("verify")["revision"], 1);
    let pulled = cloud.deployment.path("pulled");
    let out = pulled.to_str().unwrap();
    let at = [
        "pull",
        "--model",
        TABULAR.name,
        "--version",
        "1",
        "--out",
        out,
    ];
    cloud.model(&at).assert_success();
    let verify = cloud.deployment.sealift(["model", "verify", out]).json();
    assert_eq!(verify["manifest_sha256"], rotated["manifest_sha256"]);

    let garbage = cloud.model(&["gc"]).json();
    assert_eq!(
        (&garbage["versions"], &garbage["garbage_blobs"]),
        (&1.into(), &0.into())
    );
    assert_eq!(garbage["young_blobs"], 3);
}

#[test]
fn a_store_that_cannot_be_reached_or_named_is_told_apart() {
    let deployment = Deployment::new();
    let at = [
        "model",
        "verify",
        "--model",
        "m",
        "--version",
        "1",
        "--store",
    ];
    let unnamed = deployment.sealift([at.as_slice(), &["https://models"]].concat());
    assert_eq!(unnamed.code, Some(2), "{unnamed:#?}");
    let without_options = deployment.sealift([at.as_slice(), &["az://models"]].concat());
    without_options.assert_refused(8, "cannot open the store `az://models/`", "AZURE_");
    let absent = deployment.sealift([at.as_slice(), &["/nonexistent"]].concat());
    absent.assert_refused(6, "there is no folder `/nonexistent`", "");
}
