//! State folders, ports, key files and binaries that are not as they must be.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::harness::{Deployment, Running, TABULAR};

const ENVIRONMENT: i32 = 8;
const UNVERIFIED: i32 = 7;
const ACCEPT: &str = "sealift reference accept --simulated";

#[test]
fn a_state_folder_below_a_file_is_refused() {
    let deployment = Deployment::new();
    let file = deployment.path("file");
    fs::write(&file, "").unwrap();
    let mut command = Command::new(deployment.binary("sealift"));
    command
        .arg("--json")
        .arg("--state")
        .arg(file.join("state"))
        .arg("init");
    let output = Running::start(&mut command).wait();
    output.assert_refused(ENVIRONMENT, "/file`", "check that the folder");
    deployment.assert_usable("1");
}

#[test]
fn a_state_folder_that_exists_is_not_overwritten() {
    let deployment = Deployment::new();
    let output = deployment.sealift(["init"]);
    output.assert_refused(ENVIRONMENT, "exists already", "--state");
    deployment.assert_usable("1");
}

#[test]
fn a_state_folder_that_others_can_reach_is_refused() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    fs::set_permissions(deployment.state(), Permissions::from_mode(0o750)).unwrap();
    let output = deployment.run(TABULAR, &batch.folder, &[]);
    output.assert_refused(
        ENVIRONMENT,
        "others can reach the state folder",
        "chmod 700",
    );
    fs::set_permissions(deployment.state(), Permissions::from_mode(0o700)).unwrap();
    deployment.assert_usable("1");
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    for key in ["owner/witness-ed25519", "owner/state-key"] {
        let path = deployment.state().join(key);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let output = deployment.run(TABULAR, &batch.folder, &[]);
        output.assert_refused(ENVIRONMENT, "has mode 0640", "chmod 600");
        deployment.assert_no_process_left();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    let sign = deployment.state().join("user/sign-ed25519");
    fs::set_permissions(&sign, Permissions::from_mode(0o604)).unwrap();
    let (rows, _) = TABULAR.rows(4, deployment.folder());
    let output = deployment.seal_batch(&rows, TABULAR.name, 4, &deployment.path("new.batch"));
    output.assert_refused(ENVIRONMENT, "has mode 0604", "chmod 600");
    fs::set_permissions(&sign, Permissions::from_mode(0o600)).unwrap();
    deployment.assert_usable("1");
}

#[test]
fn a_taken_port_is_refused() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut running = vec!["run".into(), TABULAR.definition().into_os_string()];
    running.extend([
        "--key-manager-listen".into(),
        address.as_str().into(),
        "--input".into(),
    ]);
    running.push(format!("batch={}", batch.folder.display()).into());
    running.extend(["--input", "output_policy=dangerous_full_scores"].map(Into::into));
    let output = deployment.sealift(&running);
    output.assert_refused(ENVIRONMENT, "sealift-key-manager", "--key-manager-listen");
    deployment.assert_no_process_left();
    drop(taken);
    // The same port, now free.
    deployment.sealift(&running).assert_success();
    deployment.assert_usable("2");
}

#[test]
fn a_second_engine_on_one_state_folder_is_refused() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let mut first = deployment.start_run(TABULAR, &batch.folder, &[]);
    first.until_job("assess", "active");
    let second = deployment.run(TABULAR, &batch.folder, &[]);
    second.assert_refused(ENVIRONMENT, "another engine", "sealift stop");
    first.wait().assert_success();
    assert_eq!(deployment.sealift(["runs"]).documents().len(), 1);
    deployment.assert_usable("2");
}

#[test]
fn a_missing_binary_is_refused() {
    let deployment = Deployment::with_own_binaries();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    for name in [
        "sealift-key-manager",
        "sealift-owner",
        "sealift-operator",
        "sealift-confidential",
    ] {
        let (path, aside) = (deployment.binary(name), deployment.path("aside"));
        fs::rename(&path, &aside).unwrap();
        let output = deployment.run(TABULAR, &batch.folder, &[]);
        output.assert_refused(
            ENVIRONMENT,
            &format!("`{name}` is not beside"),
            "build every binary",
        );
        deployment.assert_no_process_left();
        fs::rename(&aside, &path).unwrap();
    }
    deployment.assert_usable("1");
}

/// Puts another build of a binary in its place: it does the same and measures differently.
fn rebuild(deployment: &Deployment, name: &str) {
    let (path, rebuilt) = (deployment.binary(name), deployment.path("rebuilt"));
    fs::copy(&path, &rebuilt).unwrap();
    append(&rebuilt);
    // Renamed over it, because the old file is linked from elsewhere too.
    fs::rename(&rebuilt, &path).unwrap();
}

fn append(path: &Path) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"another build").unwrap();
}

#[test]
fn a_binary_of_another_build_is_refused_until_it_is_accepted() {
    let deployment = Deployment::with_own_binaries();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    for name in ["sealift-key-manager", "sealift-owner", "sealift-operator"] {
        rebuild(&deployment, name);
        let output = deployment.run(TABULAR, &batch.folder, &[]);
        let fact = format!("`{name}` is of another build than this state folder accepts");
        output.assert_refused(ENVIRONMENT, &fact, ACCEPT);
        deployment.assert_no_process_left();
        deployment
            .sealift(["reference", "accept", "--simulated"])
            .assert_success();
    }
    deployment.assert_usable("1");
}

#[test]
fn a_guest_with_another_measurement_gets_no_key_until_it_is_accepted() {
    let deployment = Deployment::with_own_binaries();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let mut running = deployment.start_run(TABULAR, &batch.folder, &[]);
    // After the start, so that nobody but the key manager can notice.
    running.until_job("assess", "active");
    rebuild(&deployment, "sealift-confidential");
    let output = running.wait();
    output.assert_job_failed(
        "provision",
        "refused by the key manager",
        "accept the new measurements",
    );
    deployment.assert_no_process_left();
    deployment
        .sealift(["reference", "accept", "--simulated"])
        .assert_success();
    deployment.assert_usable("2");
}

#[test]
fn a_changed_trust_folder_is_refused_until_the_owner_signs_it_again() {
    let deployment = Deployment::new();
    let (rows, _) = TABULAR.rows(4, deployment.folder());
    for name in ["init-template.json", "guest-reference-values.json"] {
        let path = deployment.state().join("trust").join(name);
        let mut envelope: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        // Every signature fails over one more byte.
        let payload = BASE64_STANDARD
            .decode(envelope["payload"].as_str().unwrap())
            .unwrap();
        envelope["payload"] = BASE64_STANDARD
            .encode([payload.as_slice(), b" "].concat())
            .into();
        fs::write(&path, envelope.to_string()).unwrap();
        let output = deployment.seal_batch(&rows, TABULAR.name, 4, &deployment.path("refused"));
        output.assert_refused(UNVERIFIED, "what the owner signed", ACCEPT);
        assert!(!deployment.path("refused").exists());
        deployment
            .sealift(["reference", "accept", "--simulated"])
            .assert_success();
    }
    deployment.assert_usable("1");
}
