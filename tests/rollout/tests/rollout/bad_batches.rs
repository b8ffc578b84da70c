//! Batches and results that somebody changed, swapped or may not open.
//!
//! What only an attacker inside the protocol could send is spoiled where its receiver is tested,
//! against a real key manager and real guests. In `workers/key-manager/tests/service`:
//! `evidence_replayed_under_a_new_nonce_is_refused`, `a_nonce_is_used_up_by_a_wrong_answer`,
//! `a_report_of_another_root_is_refused`, `a_guest_with_another_measurement_is_refused`,
//! `init_data_with_one_thing_changed_is_refused`,
//! `a_victims_partition_in_another_users_batch_is_not_unwrapped` and
//! `a_partition_swapped_between_two_batches_of_one_user_is_not_unwrapped`. In
//! `workers/confidential/tests/guest`:
//! `the_digest_of_a_relayed_key_manager_challenge_cannot_be_obtained`.

use std::{fs, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Batch, Deployment, Output, TABULAR, binaries::copy_folder};

const INPUT: i32 = 6;
const UNVERIFIED: i32 = 7;
const PARTITION_REMEDY: &str = "restore the file from where the batch was sealed";

fn exchange(folder: &Path, first: &str, second: &str) {
    let aside = folder.join("aside");
    fs::rename(folder.join(first), &aside).unwrap();
    fs::rename(folder.join(second), folder.join(first)).unwrap();
    fs::rename(aside, folder.join(second)).unwrap();
}

fn files_of(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn swapped_partitions_of_a_batch_folder_are_refused() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 20, 10);
    let partitions = batch.folder.join("partitions");
    let names = files_of(&partitions);
    exchange(&partitions, &names[0], &names[1]);
    let output = deployment.run(TABULAR, &batch.folder, &[]);
    output.assert_job_failed(
        "partition",
        "is not the partition that the batch lists",
        PARTITION_REMEDY,
    );
    deployment.assert_no_process_left();
    exchange(&partitions, &names[0], &names[1]);
    deployment.assert_usable("2");
}

#[test]
fn a_truncated_partition_is_refused() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let partitions = batch.folder.join("partitions");
    let file = partitions.join(&files_of(&partitions)[0]);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let output = deployment.run(TABULAR, &batch.folder, &[]);
    output.assert_job_failed(
        "partition",
        "is not the partition that the batch lists",
        PARTITION_REMEDY,
    );
    deployment.assert_usable("2");
}

/// Runs until the model is published, changes the uploaded partitions and goes on.
fn resumed_with_other_partitions(
    deployment: &Deployment,
    batch: &Batch,
    spoil: impl FnOnce(&Path),
) -> Output {
    let mut running = deployment.start_run(TABULAR, &batch.folder, &[]);
    running.until_job("publish", "succeeded");
    running.signal(Signal::KILL);
    drop(running.wait());
    deployment.assert_no_process_left();
    let uploaded = deployment.state().join("store/batches");
    spoil(&uploaded.join(&files_of(&uploaded)[0]));
    deployment.sealift(["resume"])
}

const SWAPPED: &str = "the store's file is not the partition that the user signed for";

#[test]
fn partitions_swapped_in_the_store_are_not_scored() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 20, 10);
    let output = resumed_with_other_partitions(&deployment, &batch, |uploaded| {
        exchange(uploaded, "0.age", "1.age");
    });
    output.assert_job_failed("score", SWAPPED, "");
    deployment.assert_no_process_left();
    deployment.assert_usable("2");
}

#[test]
fn a_partition_replayed_from_another_batch_is_not_scored() {
    let deployment = Deployment::new();
    let other = deployment.seal_rows(TABULAR, 4, 4);
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let output = resumed_with_other_partitions(&deployment, &batch, |uploaded| {
        let partitions = other.folder.join("partitions");
        fs::copy(
            partitions.join(&files_of(&partitions)[0]),
            uploaded.join("0.age"),
        )
        .unwrap();
    });
    output.assert_job_failed("score", SWAPPED, "");
    deployment.assert_no_process_left();
    deployment.assert_usable("2");
}

#[test]
fn results_are_not_redirected_by_editing_a_signed_batch() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let foreign = deployment.path("foreign.batch");
    // Somebody who signs batches of their own and wants to read this user's results.
    let thief = Deployment::of_a_stranger();
    let theirs = thief.seal_rows(TABULAR, 4, 4);
    copy_folder(&batch.folder, &foreign);
    let document = foreign.join("batch.dsse.json");
    let recipients = signed(&theirs.folder.join("batch.dsse.json")).1["result_recipients"].clone();
    let (mut envelope, mut payload) = signed(&document);
    assert_ne!(payload["result_recipients"], recipients);
    payload["result_recipients"] = recipients;
    envelope["payload"] = BASE64_STANDARD.encode(payload.to_string()).into();
    fs::write(&document, envelope.to_string()).unwrap();
    let output = deployment.run(TABULAR, &foreign, &[]);
    output.assert_job_failed(
        "partition",
        "not a batch document signed by the user's key",
        "seal the batch again",
    );
    deployment.assert_usable("2");
}

/// The envelope and the document in it.
fn signed(path: &Path) -> (Value, Value) {
    let envelope: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let payload = BASE64_STANDARD
        .decode(envelope["payload"].as_str().unwrap())
        .unwrap();
    let payload = serde_json::from_slice(&payload).unwrap();
    (envelope, payload)
}

fn open(deployment: &Deployment, results: &Path, batch: &Path) -> Output {
    let told = [results.as_os_str(), "--batch".as_ref(), batch.as_os_str()];
    let command = ["batch".as_ref(), "open".as_ref()];
    deployment.sealift(command.into_iter().chain(told))
}

#[test]
fn results_open_for_their_user_alone_and_unchanged() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 20, 10);
    deployment.run(TABULAR, &batch.folder, &[]).assert_success();
    let results = deployment.results();
    open(&deployment, &results, &batch.folder).assert_success();

    let stranger = Deployment::of_a_stranger();
    let refused = open(&stranger, &results, &batch.folder);
    refused.assert_refused(UNVERIFIED, "is not verified", "do not use these results");

    let identity = deployment.state().join("user/age");
    let own = fs::read(&identity).unwrap();
    fs::write(
        &identity,
        fs::read(stranger.state().join("user/age")).unwrap(),
    )
    .unwrap();
    let refused = open(&deployment, &results, &batch.folder);
    refused.assert_refused(UNVERIFIED, "does not open with this identity", "user/age");
    fs::write(&identity, own).unwrap();

    let swapped = deployment.path("swapped");
    copy_folder(&results, &swapped);
    exchange(&swapped, "00000.age", "00001.age");
    let refused = open(&deployment, &swapped, &batch.folder);
    refused.assert_refused(
        UNVERIFIED,
        "is not the file that the receipt",
        "fetch the folder again",
    );

    fs::remove_file(swapped.join("receipts.json")).unwrap();
    let refused = open(&deployment, &swapped, &batch.folder);
    refused.assert_refused(UNVERIFIED, "cannot be read", "fetch the folder again");
    open(&deployment, &results, &batch.folder).assert_success();
}

#[test]
fn rows_that_are_no_rows_are_refused() {
    let deployment = Deployment::new();
    let rows = deployment.path("rows.jsonl");
    fs::write(
        &rows,
        "{\"custom_id\":\"a\",\"body\":{\"features\":[1,2]}}\nnot JSON\n",
    )
    .unwrap();
    let out = deployment.path("rows.batch");
    let output = deployment.seal_batch(&rows, TABULAR.name, 4, &out);
    output.assert_refused(INPUT, "line 2", "");
    assert!(!out.exists());
    deployment.assert_usable("1");
}
