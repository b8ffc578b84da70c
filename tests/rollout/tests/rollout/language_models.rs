//! A language model answers a row with the token that comes next.

use std::ffi::OsStr;

use crate::harness::{Batch, Deployment, fixtures::TINY_LLAMA};

const ROWS: usize = 8;

/// Seals texts under the policy `label`: scores of a whole vocabulary fit no record.
fn sealed_texts(deployment: &Deployment) -> Batch {
    let sources = deployment.new_folder("texts");
    let (rows, expected) = TINY_LLAMA.rows(ROWS, &sources);
    let folder = sources.join("batch");
    let mut args: Vec<&OsStr> = vec!["batch".as_ref(), "seal".as_ref(), rows.as_ref()];
    args.extend(["--model", TINY_LLAMA.name, "--out"].map(OsStr::new));
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

fn answers_are_the_expected_tokens(head: &str) {
    let deployment = Deployment::new();
    let batch = sealed_texts(&deployment);
    let model = format!("model={}", TINY_LLAMA.folder().display());
    let name = format!("model_name={}", TINY_LLAMA.name);
    let head = format!("head={head}");
    deployment
        .run(TINY_LLAMA, &batch.folder, &[&model, &name, &head])
        .assert_success();
    let compared = deployment.assert_results(&batch, None);
    assert_eq!(compared["label_agreement"], 1.0, "{compared}");
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
