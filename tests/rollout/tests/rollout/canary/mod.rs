//! Secrets that are easy to recognise, looked for everywhere a rollout leaves or sends bytes.
//!
//! Weights and rows are in the clear in the owner's plain folder, in the memory of the owner's
//! worker and of the guest, and in what the user opens. They may stand nowhere else.

mod marker;
mod places;
mod wire;

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use self::{
    marker::{Marker, Needles},
    places::{Place, Watched},
};
use crate::harness::{
    Deployment, TABULAR, TINY_BERT, binaries::copy_folder, fixtures::Model, safetensors::Tensors,
};

/// Protections of the output head that the binaries know, the strongest last.
const HEADS: &[&str] = if cfg!(feature = "fhe") {
    &["sealed", "fhe"]
} else {
    &["sealed"]
};

/// Plain model and rows in a folder that is not looked into, and how to recognise them.
struct Plain {
    folder: TempDir,
    needles: Needles,
}

impl Plain {
    /// The tabular model and rows of its form, all with fresh numbers.
    fn tabular() -> Self {
        let folder = places::plain_folder();
        let mut marker = Marker::fresh();
        let mut needles = Needles::default();
        copy_folder(&TABULAR.folder(), &folder.path().join("model"));
        let weights = folder.path().join("model/model.safetensors");
        let mut tensors = Tensors::read(&weights);
        for (name, scale) in [("layers.0.weight", 0.01), ("classifier.weight", 1.0)] {
            let values = tensors.values(name);
            values.fill_with(|| marker.number(scale));
            needles.add_f32s(name, values);
        }
        tensors.write(&weights);
        let rows = (0..20).map(|_| {
            let features: Vec<f64> = (0..30).map(|_| marker.feature()).collect();
            let custom_id = marker.word();
            needles.add_f64s("features", &features);
            needles.add("custom_id", custom_id.as_bytes());
            serde_json::json!({ "custom_id": custom_id, "body": { "features": features } })
                .to_string()
        });
        let rows: Vec<_> = rows.collect();
        fs::write(folder.path().join("rows.jsonl"), rows.join("\n") + "\n").unwrap();
        Self { folder, needles }
    }

    /// The transformer as it is, and sentences with words that nobody else writes.
    fn sentences() -> Self {
        let folder = places::plain_folder();
        let mut marker = Marker::fresh();
        let mut needles = Needles::default();
        copy_folder(&TINY_BERT.folder(), &folder.path().join("model"));
        let mut tensors = Tensors::read(&folder.path().join("model/model.safetensors"));
        for name in ["classifier.weight", "bert.pooler.dense.weight"] {
            needles.add_f32s(name, tensors.values(name));
        }
        let rows = (0..4).map(|_| {
            let (custom_id, word) = (marker.word(), marker.word());
            needles.add("custom_id", custom_id.as_bytes());
            needles.add("text", word.as_bytes());
            let text = format!("The {word} was a pleasure to watch.");
            serde_json::json!({ "custom_id": custom_id, "body": { "text": text } }).to_string()
        });
        let rows: Vec<_> = rows.collect();
        fs::write(folder.path().join("rows.jsonl"), rows.join("\n") + "\n").unwrap();
        Self { folder, needles }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Rolls the plain model out and scores the plain rows, with every place in view.
fn rolled_out(model: Model, plain: &Plain, head: &str) -> (Deployment, Watched) {
    let mut watched = Watched::from_now();
    let deployment = Deployment::new();
    let batch = deployment.path("batch");
    let sealed = deployment.seal_batch(&plain.path("rows.jsonl"), model.name, 10, &batch);
    watched.said(&sealed);
    let told = format!("model={}", plain.path("model").display());
    let mut running = deployment.start_run(model, &batch, &[&told, &format!("head={head}")]);
    while running.next_event().is_some() {
        watched.look_at_processes(deployment.folder());
    }
    let output = running.wait();
    output.assert_success();
    watched.said(&output);
    watched.look_at_files(deployment.folder());
    (deployment, watched)
}

fn assert_nowhere(model: Model, plain: &Plain, head: &str) {
    let (deployment, watched) = rolled_out(model, plain, head);
    let found = watched.find(&plain.needles);
    assert!(found.is_empty(), "in the clear: {found:#?}");
    assert_can_be_found(&deployment, plain);
    // The rows were scored all the same, and their user reads the answers.
    let results = deployment.results();
    let batch = deployment.path("batch");
    let told = [results.as_os_str(), "--batch".as_ref(), batch.as_os_str()];
    let opened = deployment.sealift(["batch".as_ref(), "open".as_ref()].into_iter().chain(told));
    opened.assert_success();
    let mut said = Watched::from_now();
    said.said(&opened);
    assert!(
        !said.find(&plain.needles).is_empty(),
        "the opened results name their rows"
    );
}

/// The search finds every form of a secret once it is planted, in every kind of place.
fn assert_can_be_found(deployment: &Deployment, plain: &Plain) {
    let temporary = tempfile::Builder::new()
        .prefix("planted-")
        .tempdir()
        .unwrap();
    for folder in [deployment.state().join("logs"), temporary.path().to_owned()] {
        let planted = folder.join("planted");
        fs::write(&planted, plain.needles.samples()).unwrap();
        let mut watched = Watched::from_now();
        watched.look_at_files(deployment.folder());
        fs::remove_file(&planted).unwrap();
        let mut hits = watched.find(&plain.needles).into_iter();
        let found = hits.find(|hit| hit.place == Place::File(planted.clone()));
        assert_eq!(
            found.expect("the planted file is found").secrets,
            plain.needles.forms()
        );
    }
    places::assert_processes_are_seen(deployment.folder(), &plain.needles);
}

#[test]
fn no_secret_of_a_rollout_with_a_sealed_head_stands_in_a_file_or_a_process() {
    assert_nowhere(TABULAR, &Plain::tabular(), "sealed");
}

#[cfg(feature = "fhe")]
#[test]
fn no_secret_of_a_rollout_with_an_encrypted_head_stands_in_a_file_or_a_process() {
    assert_nowhere(TABULAR, &Plain::tabular(), "fhe");
}

#[test]
fn no_sentence_and_no_weight_of_a_transformer_stands_in_a_file_or_a_process() {
    let strongest = HEADS.last().unwrap();
    assert_nowhere(TINY_BERT, &Plain::sentences(), strongest);
}

#[test]
fn no_secret_of_a_rollout_crosses_the_network_in_the_clear() {
    for head in HEADS {
        let plain = Plain::tabular();
        let capture = wire::Capture::start();
        drop(rolled_out(TABULAR, &plain, head));
        let frames = capture.stop();
        let found = plain.needles.find_in(&frames);
        assert!(found.is_empty(), "in the clear: {found:?}");
        let capture = wire::Capture::start();
        wire::send_over_loopback(&plain.needles.samples());
        assert_eq!(
            plain.needles.find_in(&capture.stop()),
            plain.needles.forms()
        );
    }
}
