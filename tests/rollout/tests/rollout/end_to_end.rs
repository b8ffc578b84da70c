//! From a plain model and plain rows to results that verify and agree.

use serde_json::Value;

#[cfg(feature = "fhe")]
use crate::harness::TINY_BERT;
use crate::harness::{Deployment, TABULAR, fixtures::Model};

/// Expectations were computed in float64 and written with six digits; nothing is quantised.
const LOGIT_TOLERANCE: f64 = 1e-3;

fn rolled_out(model: Model, rows: usize, head: &str) -> Value {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(model, rows, 128);
    let output = deployment.run(model, &batch.folder, &[&format!("head={head}")]);
    let run = output.json();
    assert_eq!(run["summary"]["status"], "succeeded");
    deployment.assert_no_process_left();
    assert_eq!(deployment.show(), run);
    let reference = (head == "fhe").then(|| model.folder());
    deployment.assert_results(&batch, reference.as_deref())
}

#[test]
fn a_tabular_model_with_a_sealed_head_answers_every_row_as_the_plain_model_does() {
    let compared = rolled_out(TABULAR, 171, "sealed");
    assert_eq!(compared["label_agreement"], 1.0);
    let error = compared["max_logit_error"].as_f64().unwrap();
    assert!(error <= LOGIT_TOLERANCE, "{error}");
}

#[cfg(feature = "fhe")]
#[test]
fn a_tabular_model_with_an_encrypted_head_answers_as_the_integer_reference_does() {
    let compared = rolled_out(TABULAR, 171, "fhe");
    assert_eq!(compared["integer_reference_agreement"], 1.0);
    assert!(
        compared["label_agreement"].as_f64().unwrap() >= 0.995,
        "{compared}"
    );
}

#[cfg(feature = "fhe")]
#[test]
fn a_transformer_with_an_encrypted_head_answers_as_the_integer_reference_does() {
    let compared = rolled_out(TINY_BERT, 64, "fhe");
    assert_eq!(compared["integer_reference_agreement"], 1.0);
    assert!(
        compared["label_agreement"].as_f64().unwrap() >= 0.995,
        "{compared}"
    );
}

#[cfg(not(feature = "fhe"))]
#[test]
fn a_build_without_fhe_refuses_an_encrypted_head_and_says_what_to_do() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    let output = deployment.run(TABULAR, &batch.folder, &["head=fhe"]);
    output.assert_job_failed("seal", "no homomorphic encryption", "head: sealed");
}
