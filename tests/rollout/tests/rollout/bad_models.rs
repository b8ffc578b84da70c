//! Models that cannot be rolled out, and stores that give another version back than was published.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::Signal;

use crate::harness::{Deployment, Output, TABULAR, binaries::copy_folder, safetensors::Tensors};

const WEIGHTS: &str = "model.safetensors";
/// What a person is told about a file that is not whole.
const INCOMPLETE: &str = "check that the download or export of the model is complete";

/// Rolls a spoiled copy of the tabular model out.
fn rolled_out(deployment: &Deployment, spoil: impl FnOnce(&Path)) -> Output {
    let model = deployment.path("spoiled");
    copy_folder(&TABULAR.folder(), &model);
    spoil(&model.join(WEIGHTS));
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let output = deployment.run(
        TABULAR,
        &batch.folder,
        &[&format!("model={}", model.display())],
    );
    deployment.assert_no_process_left();
    output
}

fn assert_refused(spoil: impl FnOnce(&Path), job: &str, fact: &str, remedy: &str) {
    let deployment = Deployment::new();
    rolled_out(&deployment, spoil).assert_job_failed(job, fact, remedy);
    // The name and the version are still free.
    deployment.assert_usable("1");
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn change_tensors(path: &Path, change: impl FnOnce(&mut Tensors)) {
    let mut tensors = Tensors::read(path);
    change(&mut tensors);
    tensors.write(path);
}

#[test]
fn truncated_weights_are_refused() {
    let spoil = |path: &Path| rewrite(path, |bytes| bytes.truncate(bytes.len() - 100));
    assert_refused(spoil, "assess", "it is truncated", INCOMPLETE);
}

#[test]
fn a_corrupt_header_is_refused() {
    let spoil = |path: &Path| rewrite(path, |bytes| bytes[8..40].fill(0xff));
    assert_refused(
        spoil,
        "assess",
        "the header is not safetensors JSON",
        INCOMPLETE,
    );
}

#[test]
fn a_header_over_its_limit_is_refused() {
    let over = 100_000_001_u64;
    let spoil = |path: &Path| {
        rewrite(path, |bytes| {
            bytes[..8].copy_from_slice(&over.to_le_bytes());
        });
    };
    assert_refused(
        spoil,
        "assess",
        "more than the limit of 100,000,000",
        INCOMPLETE,
    );
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    // What a writer of tied tensors leaves: two names, one range.
    let spoil = |path: &Path| change_tensors(path, |tensors| tensors.tie("tied", "layers.0.bias"));
    assert_refused(
        spoil,
        "assess",
        "bodies may neither overlap nor leave gaps",
        INCOMPLETE,
    );
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let spoil = |path: &Path| {
        change_tensors(path, |tensors| {
            tensors.values("layers.0.weight")[7] = f32::NAN;
        });
    };
    let fact = "element 7 of tensor `layers.0.weight` is NaN or infinite";
    assert_refused(spoil, "seal", fact, "nothing was published");
}

#[test]
fn a_model_without_its_output_layer_is_refused() {
    let spoil = |path: &Path| change_tensors(path, |tensors| tensors.remove("classifier.weight"));
    let fact = "the model has no tensor `classifier.weight`";
    assert_refused(
        spoil,
        "assess",
        fact,
        "which models and heads README.md lists",
    );
}

/// Publishes version 1, dies before a guest has read it, and resumes after `spoil` changed the
/// store.
fn resumed_with_another_store(deployment: &Deployment, spoil: impl FnOnce(&Path)) -> Output {
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let mut running = deployment.start_run(TABULAR, &batch.folder, &[]);
    running.until_job("publish", "succeeded");
    running.signal(Signal::KILL);
    drop(running.wait());
    deployment.assert_no_process_left();
    spoil(&deployment.state().join("store"));
    deployment.sealift(["resume"])
}

/// Blobs of the store, largest first: the weights are the first.
fn blobs(store: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(store.join("blobs/sha256")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let mut blobs: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    blobs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    blobs
}

const UNVERIFIED: &str = "the store's model version is not the signed one";

#[test]
fn a_changed_blob_in_the_store_is_not_run() {
    let deployment = Deployment::new();
    let output = resumed_with_another_store(&deployment, |store| {
        let weights = blobs(store).remove(0);
        rewrite(&weights, |bytes| *bytes.last_mut().unwrap() ^= 1);
    });
    output.assert_job_failed("provision", UNVERIFIED, "");
    deployment.assert_no_process_left();
    deployment.assert_usable("2");
}

#[test]
fn swapped_blobs_in_the_store_are_not_run() {
    let deployment = Deployment::new();
    let output = resumed_with_another_store(&deployment, |store| {
        let blobs = blobs(store);
        let aside = store.join("aside");
        fs::rename(&blobs[0], &aside).unwrap();
        fs::rename(&blobs[1], &blobs[0]).unwrap();
        fs::rename(&aside, &blobs[1]).unwrap();
    });
    output.assert_job_failed("provision", UNVERIFIED, "");
    deployment.assert_no_process_left();
    deployment.assert_usable("2");
}
