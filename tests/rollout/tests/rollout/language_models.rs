//! A language model answers a row with the token that comes next.

use std::{ffi::OsStr, path::Path};

#[cfg(feature = "fhe")]
use crate::harness::wide_llama;
use crate::harness::{Batch, Deployment, fixtures::TINY_LLAMA};

/// Seals the rows of `sources` under the policy `label`: scores of a whole vocabulary fit no
/// record.
fn sealed_texts(deployment: &Deployment, (model, sources): (&str, &Path), rows: usize) -> Batch {
    let (folder, file) = (sources.join("batch"), sources.join("rows.jsonl"));
    let mut args: Vec<&OsStr> = vec!["batch".as_ref(), "seal".as_ref(), file.as_ref()];
    let rows_per_partition = rows.to_string();
    args.extend(["--rows-per-partition", &rows_per_partition].map(OsStr::new));
    args.extend(["--model", model, "--out"].map(OsStr::new));
    args.push(folder.as_ref());
    assert_eq!(deployment.sealift(args).json()["rows"], rows);
    Batch {
        folder,
        expected: sources.join("test.jsonl"),
        rows,
        partitions: 1,
        rows_per_partition: rows,
    }
}

fn rolled_out(deployment: &Deployment, (name, folder): (&str, &Path), head: &str, batch: &Batch) {
    let model = format!("model={}", folder.display());
    let (name, head) = (format!("model_name={name}"), format!("head={head}"));
    deployment
        .run(TINY_LLAMA, &batch.folder, &[&model, &name, &head])
        .assert_success();
}

fn answers_are_the_expected_tokens(head: &str) {
    let deployment = Deployment::new();
    let sources = deployment.new_folder("texts");
    let rows = 8;
    TINY_LLAMA.rows(rows, &sources);
    let batch = sealed_texts(&deployment, (TINY_LLAMA.name, &sources), rows);
    let folder = TINY_LLAMA.folder();
    rolled_out(&deployment, (TINY_LLAMA.name, &folder), head, &batch);
    let reference = (head == "fhe").then_some(folder);
    let compared = deployment.assert_results(&batch, reference.as_deref());
    assert_eq!(compared["label_agreement"], 1.0, "{compared}");
    if head == "fhe" {
        assert_eq!(compared["integer_reference_agreement"], 1.0, "{compared}");
    }
}

#[cfg(feature = "fhe")]
#[test]
fn a_decoder_with_an_encrypted_head_answers_with_the_next_token() {
    answers_are_the_expected_tokens("fhe");
}

#[test]
fn a_decoder_with_a_sealed_head_answers_with_the_next_token() {
    answers_are_the_expected_tokens("sealed");
}

/// More rows than one request to the key manager holds, which are 144, in one partition; and
/// weights in two files.
#[cfg(feature = "fhe")]
#[test]
fn a_whole_vocabulary_under_encryption_answers_as_both_references_do() {
    let deployment = Deployment::new();
    let (sources, rows) = (deployment.new_folder("texts"), 160);
    let model = sources.join(wide_llama::NAME);
    wide_llama::write(&model);
    wide_llama::write_rows(rows, &sources);
    let batch = sealed_texts(&deployment, (wide_llama::NAME, &sources), rows);
    rolled_out(&deployment, (wide_llama::NAME, &model), "fhe", &batch);
    let compared = deployment.assert_results(&batch, Some(&model));
    assert_eq!(compared["label_agreement"], 1.0, "{compared}");
    assert_eq!(compared["integer_reference_agreement"], 1.0, "{compared}");

    // Now that there is a version, its labels are known where batches are sealed.
    let scores = deployment.seal_batch(
        &sources.join("rows.jsonl"),
        wide_llama::NAME,
        8,
        &sources.join("scores"),
    );
    scores.assert_refused(6, "over the 30522 labels", "output policy `label`");
}

/// Before there is a version, the first to know are the jobs of the run.
#[cfg(feature = "fhe")]
#[test]
fn a_batch_without_room_for_the_scores_of_a_vocabulary_ends_the_run_before_anything_is_sealed() {
    let deployment = Deployment::new();
    let sources = deployment.new_folder("texts");
    let model = sources.join(wide_llama::NAME);
    wide_llama::write(&model);
    wide_llama::write_rows(8, &sources);
    let batch = sources.join("scores");
    let rows = sources.join("rows.jsonl");
    deployment
        .seal_batch(&rows, wide_llama::NAME, 8, &batch)
        .assert_success();
    let model = format!("model={}", model.display());
    let name = format!("model_name={}", wide_llama::NAME);
    let output = deployment.run(TINY_LLAMA, &batch, &[&model, &name]);
    output.assert_job_failed(
        "assess",
        "over the model's 30522 labels",
        "output policy `label`",
    );
}
