//! A Llama decoder against an independent implementation in `f64`.

use std::num::NonZeroUsize;

use crate::fixture::{Fixture, TINY_LLAMA, best, distance};
use safetensors::{SafeTensors, tensor::TensorView};
use sealift_inference::{Body, Input, LoadError, Model, RowError};
use serde_json::{Value, json};

const TOLERANCE: f32 = 1e-4;

/// Tokens of the fixture's longest text: more than the queries whose scores are held at once.
const POSITIONS: usize = 160;

#[test]
fn every_row_has_the_expected_logits_and_label() {
    let fixture = Fixture::read(TINY_LLAMA);
    let model = fixture.model();
    assert_eq!(model.labels().outputs(), 3_000);
    let logits = model.logits(&fixture.inputs()).unwrap();
    for (row, logits) in fixture.rows.iter().zip(logits) {
        let logits = logits.unwrap();
        let difference = distance(&logits, &row.expected_logits);
        assert!(difference <= TOLERANCE, "off by {difference}");
        assert_eq!(
            model.labels().single().unwrap()[best(&logits)],
            row.expected_label
        );
    }
}

#[test]
fn a_row_is_answered_alike_alone_in_a_batch_and_on_threads() {
    let fixture = Fixture::read(TINY_LLAMA);
    let threads = NonZeroUsize::new(3).unwrap();
    let shared = fixture.model().with_threads(threads);
    let together = shared.logits(&fixture.inputs()).unwrap();
    let model = fixture.model();
    for (row, together) in fixture.rows.iter().zip(together) {
        let alone = model.logits(&[row.input()]).unwrap().remove(0).unwrap();
        assert!(distance(&alone, &together.unwrap()) <= 1e-5);
    }
}

#[test]
fn of_a_longer_text_the_last_tokens_are_read() {
    let model = Fixture::read(TINY_LLAMA).model();
    let end = "good ".repeat(POSITIONS - 1) + "film";
    let long = "bad ".repeat(5_000) + &end;
    let answers = model.logits(&[Input::Text(&long), Input::Text(&end)]);
    let [long, end]: [_; 2] = answers.unwrap().try_into().unwrap();
    assert!(distance(&long.unwrap(), &end.unwrap()) <= 1e-5);
}

#[test]
fn a_text_without_tokens_and_features_are_refused() {
    let model = Fixture::read(TINY_LLAMA).model();
    let answers = model.logits(&[Input::Text(""), Input::Features(&[1.0])]);
    let expected = vec![Err(RowError::NoTokens), Err(RowError::ExpectsText)];
    assert_eq!(answers.unwrap(), expected);
}

#[test]
fn a_model_with_tied_embeddings_answers_with_them() {
    let mut tied = Fixture::read(TINY_LLAMA);
    let mut untied = Fixture::read(TINY_LLAMA);
    let embeddings = tied.values("model.embed_tokens.weight");
    tied.tensors = without(&tied.source(), "lm_head.weight");
    tied.configure("tie_word_embeddings", json!(true));
    untied.tensors = with(&untied.source(), "lm_head.weight", &embeddings);
    let answers = tied.model().logits(&tied.inputs()).unwrap();
    for (tied, untied) in answers
        .iter()
        .zip(untied.model().logits(&untied.inputs()).unwrap())
    {
        assert!(distance(tied.as_ref().unwrap(), &untied.unwrap()) <= 1e-5);
    }
}

#[test]
fn a_body_needs_no_head() {
    let mut fixture = Fixture::read(TINY_LLAMA);
    let whole = fixture.body().activations(&fixture.inputs()).unwrap();
    fixture.tensors = without(&fixture.source(), "lm_head.weight");
    let body = Body::load(
        &fixture.config,
        fixture.tokenizer.as_deref(),
        &fixture.source(),
    );
    assert_eq!(body.unwrap().activations(&fixture.inputs()).unwrap(), whole);
    let model = load_error(&fixture);
    assert!(matches!(model, LoadError::Missing(name) if name == "lm_head.weight"));
}

#[test]
fn settings_that_are_not_implemented_are_refused_by_name() {
    for (setting, value) in [
        ("architectures", json!(["LlamaForSequenceClassification"])),
        ("hidden_act", json!("gelu")),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0})),
        ("rope_parameters", json!({"rope_type": "llama3"})),
        (
            "rope_parameters",
            json!({"rope_type": "default", "rope_theta": 5.0}),
        ),
        ("rope_theta", json!(0.5)),
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
    ] {
        let mut fixture = Fixture::read(TINY_LLAMA);
        fixture.configure(setting, value);
        let error = load_error(&fixture);
        assert!(
            matches!(&error, LoadError::Unsupported { setting: found, .. } if *found == setting),
            "{setting}: {error}"
        );
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (setting, value) in [
        ("num_key_value_heads", json!(3)),
        ("num_attention_heads", json!(0)),
        ("head_dim", json!(5)),
        ("max_position_embeddings", json!(0)),
        ("num_hidden_layers", json!(5_000)),
    ] {
        let mut fixture = Fixture::read(TINY_LLAMA);
        fixture.configure(setting, value);
        let error = load_error(&fixture);
        assert!(
            matches!(error, LoadError::Contradiction(_)),
            "{setting}: {error}"
        );
    }
}

#[test]
fn the_base_of_positions_is_read_in_both_forms() {
    let mut newer = Fixture::read(TINY_LLAMA);
    newer.configure("rope_theta", Value::Null);
    let base = json!({"rope_type": "default", "rope_theta": 10_000.0});
    newer.configure("rope_parameters", base);
    let logits = newer.model().logits(&newer.inputs()).unwrap();
    assert!(distance(logits[0].as_ref().unwrap(), &newer.rows[0].expected_logits) <= TOLERANCE);
}

#[test]
fn a_tokenizer_with_more_ids_than_the_model_is_refused() {
    let mut fixture = Fixture::read(TINY_LLAMA);
    fixture.configure("vocab_size", json!(2_999));
    assert!(matches!(load_error(&fixture), LoadError::Answers(_)));
    fixture.tokenizer = None;
    assert!(matches!(load_error(&fixture), LoadError::NoTokenizer));
}

fn load_error(fixture: &Fixture) -> LoadError {
    let tokenizer = fixture.tokenizer.as_deref();
    Model::load(&fixture.config, tokenizer, &fixture.source())
        .err()
        .unwrap()
}

fn without(source: &SafeTensors<'_>, name: &str) -> Vec<u8> {
    let kept = source
        .tensors()
        .into_iter()
        .filter(|(other, _)| other != name);
    safetensors::serialize(kept, None).unwrap()
}

fn with(source: &SafeTensors<'_>, name: &str, values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let tensors = source.tensors().into_iter().map(|(other, view)| {
        if other != name {
            return (other, view);
        }
        let changed = TensorView::new(view.dtype(), view.shape().to_vec(), &bytes);
        (other, changed.unwrap())
    });
    safetensors::serialize(tensors, None).unwrap()
}
