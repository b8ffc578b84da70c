//! A model with two heads answers each row with both.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::harness::{
    Batch, Deployment,
    binaries::copy_folder,
    fixtures::{Model, TWO_HEADS},
};

const ROWS: usize = 100;

/// Rolls the model in `folder` out under its own name and scores `batch` with it.
fn rolled_out(deployment: &Deployment, folder: &Path, batch: &Batch, head: &str) {
    let model = format!("model={}", folder.display());
    let name = format!("model_name={}", TWO_HEADS.name);
    let head = format!("head={head}");
    deployment
        .run(TWO_HEADS, &batch.folder, &[&model, &name, &head])
        .assert_success();
    deployment.assert_no_process_left();
}

fn answered(head: &str) -> Value {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TWO_HEADS, ROWS, 64);
    rolled_out(&deployment, &TWO_HEADS.folder(), &batch, head);
    let reference = (head == "fhe").then(|| TWO_HEADS.folder());
    let compared = deployment.assert_results(&batch, reference.as_deref());
    assert_eq!(compared["label_agreement"], 1.0, "{compared}");
    for head in ["digit", "parity"] {
        assert_eq!(compared["head_agreement"][head], 1.0, "{compared}");
    }
    compared
}

#[test]
fn two_sealed_heads_answer_every_row_as_the_plain_model_does() {
    let error = answered("sealed")["max_logit_error"].as_f64().unwrap();
    assert!(error <= 1e-3, "{error}");
}

#[cfg(feature = "fhe")]
#[test]
fn two_encrypted_heads_answer_as_the_integer_reference_does() {
    assert_eq!(answered("fhe")["integer_reference_agreement"], 1.0);
}

/// Under the policy `label`, which is what a batch asks for unless it says otherwise.
#[test]
fn each_head_gives_its_label_and_no_score() {
    let head = if cfg!(feature = "fhe") {
        "fhe"
    } else {
        "sealed"
    };
    let deployment = Deployment::new();
    let batch = sealed_for_labels(&deployment, TWO_HEADS);
    rolled_out(&deployment, &TWO_HEADS.folder(), &batch, head);
    deployment.assert_results(&batch, None);
    let opened = fs::read_to_string(deployment.path("results.jsonl")).unwrap();
    for line in opened.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let body = line["response"]["body"].as_object().unwrap();
        assert_eq!(body.keys().collect::<Vec<_>>(), ["labels"]);
        assert!(body["labels"]["digit"].is_string() && body["labels"]["parity"].is_string());
    }
}

fn sealed_for_labels(deployment: &Deployment, model: Model) -> Batch {
    let sources = deployment.new_folder("labels");
    let (rows, expected) = model.rows(ROWS, &sources);
    let folder = sources.join("batch");
    let mut args: Vec<&OsStr> = vec!["batch".as_ref(), "seal".as_ref(), rows.as_ref()];
    args.extend(["--model", model.name, "--out"].map(OsStr::new));
    args.push(folder.as_ref());
    assert_eq!(deployment.sealift(args).json()["rows"], ROWS);
    Batch {
        folder,
        expected,
        rows: ROWS,
        partitions: 1,
        rows_per_partition: 128,
    }
}

/// One file says what is expected of `digit` alone.
#[test]
fn expectations_that_lack_a_head_are_refused_by_compare() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TWO_HEADS, 4, 4);
    rolled_out(&deployment, &TWO_HEADS.folder(), &batch, "sealed");
    deployment.assert_results(&batch, None);
    let expected = deployment.path("digit-alone.jsonl");
    fs::write(&expected, without_parity(&batch.expected)).unwrap();
    let results = deployment.path("results.jsonl");
    let mut args: Vec<&OsStr> = vec!["batch".as_ref(), "compare".as_ref(), results.as_ref()];
    args.extend([OsStr::new("--expect"), expected.as_ref()]);
    let fact = "answered by the heads `digit`, `parity`";
    deployment
        .sealift(args)
        .assert_refused(6, fact, "with a label for each head");
}

fn without_parity(expected: &Path) -> String {
    let text = fs::read_to_string(expected).unwrap();
    let line = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        for member in ["expected_labels", "expected_logits"] {
            row[member].as_object_mut().unwrap().remove("parity");
        }
        row.to_string() + "\n"
    };
    text.lines().map(line).collect()
}

/// A copy of the model under another configuration of its heads.
fn reconfigured(deployment: &Deployment, change: impl FnOnce(&mut Vec<Value>)) -> PathBuf {
    let folder = deployment.path("spoiled");
    copy_folder(&TWO_HEADS.folder(), &folder);
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(config["heads"].as_array_mut().unwrap());
    fs::write(path, config.to_string()).unwrap();
    folder
}

#[test]
fn heads_whose_name_repeats_are_refused_before_anything_is_sealed() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TWO_HEADS, 4, 4);
    let folder = reconfigured(&deployment, |heads| {
        heads[1]["name"] = heads[0]["name"].clone();
    });
    let model = format!("model={}", folder.display());
    let name = format!("model_name={}", TWO_HEADS.name);
    deployment
        .run(TWO_HEADS, &batch.folder, &[&model, &name])
        .assert_job_failed("assess", "two heads are named `digit`", "README.md lists");
    rolled_out(&deployment, &TWO_HEADS.folder(), &batch, "sealed");
}
