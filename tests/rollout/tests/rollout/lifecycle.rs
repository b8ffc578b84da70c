//! What becomes of a published version: rotated, erased, looked at, and its leftovers collected.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::harness::{Batch, Deployment, Output, TABULAR};

/// Rolls version 1 of the tabular model out and answers a batch with it.
fn rolled_out() -> Deployment {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    deployment.run(TABULAR, &batch.folder, &[]).assert_success();
    deployment
}

fn model(deployment: &Deployment, args: &[&str]) -> Output {
    deployment.sealift([["model"].as_slice(), args].concat())
}

/// `sealift model inspect` of version 1 in the deployment's own store.
fn inspected(deployment: &Deployment) -> Value {
    let at = ["inspect", "--model", TABULAR.name, "--version", "1"];
    model(deployment, &at).json()
}

/// Scores `batch` with the published version 1 that has this manifest.
fn score(deployment: &Deployment, batch: &Batch, manifest: &str) -> Output {
    let inputs = [
        format!("model_name={}", TABULAR.name),
        "model_version=1".to_owned(),
        "serial=1".to_owned(),
        format!("manifest_sha256={manifest}"),
        format!("batch={}", batch.folder.display()),
    ];
    let definition = TABULAR.definition().with_file_name("score-published.yaml");
    let mut args: Vec<&OsStr> = vec!["run".as_ref(), definition.as_ref()];
    for input in &inputs {
        args.extend([OsStr::new("--input"), OsStr::new(input)]);
    }
    deployment.sealift(args)
}

#[test]
fn a_rotated_version_answers_in_its_next_revision_and_the_old_one_gets_no_key() {
    let deployment = rolled_out();
    let before = inspected(&deployment);
    let old = before["manifest_sha256"].as_str().unwrap();
    let rotated = model(&deployment, &["rotate", TABULAR.name, "1"]).json();
    deployment.assert_no_process_left();
    assert_eq!(
        (&rotated["serial"], &rotated["revision"]),
        (&1.into(), &1.into())
    );
    assert_eq!(rotated["replaced_manifest_sha256"], old);
    let after = inspected(&deployment);
    assert_eq!(after["manifest_sha256"], rotated["manifest_sha256"]);
    assert_eq!(after["manifest"]["revision"], 1);
    let verify = ["verify", "--model", TABULAR.name, "--version", "1"];
    assert_eq!(model(&deployment, &verify).json()["revision"], 1);

    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let new = rotated["manifest_sha256"].as_str().unwrap();
    score(&deployment, &batch, new).assert_success();
    assert_eq!(
        deployment.assert_results(&batch, None)["label_agreement"],
        1.0
    );
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let refused = score(&deployment, &batch, old);
    assert_eq!(refused.code, Some(4), "{refused:#?}");
    deployment.assert_no_process_left();
    let again = model(&deployment, &["rotate", TABULAR.name, "1"]).json();
    assert_eq!(again["revision"], 2);
}

#[test]
fn an_erased_version_answers_nobody_and_its_receipt_is_verified_offline() {
    let deployment = rolled_out();
    let manifest = inspected(&deployment)["manifest_sha256"].clone();
    let unasked = model(&deployment, &["erase", TABULAR.name, "1"]);
    unasked.assert_refused(2, "nobody is there to confirm", "--yes");
    let dry = model(&deployment, &["erase", TABULAR.name, "1", "--dry-run"]).json();
    assert_eq!(
        (&dry["erased"], &dry["version"]["state"]),
        (&false.into(), &"active".into())
    );
    let state_key = deployment.state().join("owner/state-key");
    let old_key = fs::read(&state_key).unwrap();

    let erase = ["erase", TABULAR.name, "1", "--yes", "--escrow", "the vault"];
    let erased = model(&deployment, &erase).json();
    assert_eq!(
        (&erased["already"], &erased["erasure"]["manifest_sha256"]),
        (&false.into(), &manifest)
    );
    assert_eq!(erased["erasure"]["copies"]["escrow"][0], "the vault");
    assert_ne!(fs::read(&state_key).unwrap(), old_key);
    let receipt = erased["receipt"].as_str().unwrap();
    let verify = ["receipts", "verify-erasure", receipt];
    let verified = deployment.sealift(verify).json();
    assert_eq!(verified["erasure"], erased["erasure"]);
    let again = model(&deployment, &erase).json();
    assert_eq!(
        (&again["already"], &again["erasure"]),
        (&true.into(), &erased["erasure"])
    );

    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let refused = score(&deployment, &batch, manifest.as_str().unwrap());
    assert_eq!(refused.code, Some(4), "{refused:#?}");
    deployment.assert_no_process_left();

    let text = fs::read_to_string(receipt).unwrap();
    let spoiled = deployment.path("spoiled.json");
    // One character of the signed payload.
    let payload = text.find("payload\\\":\\\"").unwrap() + "payload\\\":\\\"".len();
    let mut bytes = text.into_bytes();
    bytes[payload + 40] = if bytes[payload + 40] == b'A' {
        b'B'
    } else {
        b'A'
    };
    fs::write(&spoiled, bytes).unwrap();
    let refused = deployment.sealift([
        OsStr::new("receipts"),
        OsStr::new("verify-erasure"),
        spoiled.as_ref(),
    ]);
    refused.assert_refused(7, "proves nothing", "not signed by the key manager");
    deployment.assert_usable("2");
}

/// Erases version 1 at a terminal where somebody types `typed`: how it ended, and what stood there.
fn erase_at_a_terminal(deployment: &Deployment, typed: &str) -> (Option<i32>, String) {
    let [sealift, state] = [deployment.binary("sealift"), deployment.state()];
    let erase = format!(
        "{} --state {} model erase {} 1",
        sealift.display(),
        state.display(),
        TABULAR.name
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &erase, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot run `script` ({error}); install it: sudo apt-get install bsdutils")
        });
    let mut keyboard = terminal.stdin.take().unwrap();
    keyboard.write_all(typed.as_bytes()).unwrap();
    drop(keyboard);
    let ended = terminal.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&ended.stdout).into_owned();
    (ended.status.code(), shown)
}

#[test]
fn an_erasure_is_confirmed_by_typing_the_versions_name() {
    let deployment = rolled_out();
    let dry_run = ["erase", TABULAR.name, "1", "--dry-run"];
    for wrong in ["yes\n", "11\n", "\n", ""] {
        let (code, shown) = erase_at_a_terminal(&deployment, wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {shown}");
        assert!(shown.contains("Type the version's name"), "{shown}");
        assert!(shown.contains("nothing was erased"), "{shown}");
        let found = model(&deployment, &dry_run).json();
        assert_eq!(found["version"]["state"], "active", "{wrong:?}");
    }
    let (code, shown) = erase_at_a_terminal(&deployment, "1\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("are destroyed"), "{shown}");
    let found = model(&deployment, &dry_run).json();
    assert_eq!(found["version"]["state"], "erased");
    deployment.assert_no_process_left();
}

#[test]
fn a_version_that_does_not_exist_is_neither_rotated_nor_erased() {
    let deployment = rolled_out();
    let rotate = model(&deployment, &["rotate", TABULAR.name, "9"]);
    rotate.assert_refused(6, "did not do what was asked", "knows no version `9`");
    let erase = model(&deployment, &["erase", "nobodys-model", "1", "--yes"]);
    erase.assert_refused(6, "did not do what was asked", "knows no version `1`");
    deployment.assert_usable("2");
}

#[test]
fn what_a_rotation_left_behind_is_listed_as_garbage_once_it_is_old() {
    let deployment = rolled_out();
    model(&deployment, &["rotate", TABULAR.name, "1"]).assert_success();
    let young = model(&deployment, &["gc", "--dry-run"]).json();
    assert_eq!(young["garbage_blobs"], 0);
    // Header, manifest and signature of the first revision.
    assert_eq!(young["young_blobs"], 3);
    let short = model(&deployment, &["gc", "--grace", "1h"]);
    short.assert_refused(2, "no garbage was collected", "shorter than 24 h");
    let blobs = deployment.state().join("store/blobs/sha256");
    let old = std::time::SystemTime::now() - std::time::Duration::from_hours(48);
    for folder in fs::read_dir(blobs).unwrap().map(Result::unwrap) {
        for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            let file = fs::File::options().write(true).open(file.path()).unwrap();
            file.set_modified(old).unwrap();
        }
    }
    let listed = model(&deployment, &["gc", "--dry-run"]).json();
    assert_eq!(listed["garbage"].as_array().unwrap().len(), 3);
    let removed = model(&deployment, &["gc"]).json();
    assert_eq!(removed["garbage"], listed["garbage"]);
    let verify = ["verify", "--model", TABULAR.name, "--version", "1"];
    model(&deployment, &verify).assert_success();
}
