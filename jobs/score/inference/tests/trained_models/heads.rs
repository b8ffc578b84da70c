//! A model with two heads on one hidden layer.

use std::fs;

use sealift_encrypted_batch::{ByHead, Expected, parse_expected};
use sealift_inference::{LoadError, Model};
use sealift_quantised_head::{ScaleRange, quantise_activation, quantise_rows};
use serde_json::Value;

use crate::{
    fixture::{Fixture, TWO_HEADS, best, distance},
    load_errors::{Spoiled, load_error},
};

const PARITY_WEIGHT: &str = "heads.parity.weight";
const PARITY_BIAS: &str = "heads.parity.bias";

fn expected() -> Vec<Expected> {
    let text = fs::read_to_string(Fixture::folder(TWO_HEADS).join("test.jsonl")).unwrap();
    parse_expected(&text).unwrap()
}

fn logits(model: &Model, fixture: &Fixture) -> Vec<ByHead<Vec<f32>>> {
    let answers = model.logits(&fixture.inputs()).unwrap().into_iter();
    let cut = answers.map(|row| ByHead::cut(model.labels(), row.unwrap()).unwrap());
    cut.collect()
}

#[test]
fn each_head_gives_the_scores_that_are_expected_of_it() {
    let fixture = Fixture::read(TWO_HEADS);
    let model = fixture.model();
    for (found, expected) in logits(&model, &fixture).iter().zip(expected()) {
        let wanted = expected.logits.unwrap();
        for (head, labels) in model.labels().each() {
            let (found, wanted) = (found.get(head).unwrap(), wanted.get(head).unwrap());
            let wanted: Vec<_> = wanted.iter().map(|value| *value as f32).collect();
            assert!(distance(found, &wanted) <= 1e-3);
            let label = expected.labels.as_ref().and_then(|all| all.get(head));
            assert_eq!(Some(&labels[best(found)]), label);
        }
    }
}

#[test]
fn heads_answer_in_the_order_of_the_configuration() {
    let mut fixture = Fixture::read(TWO_HEADS);
    let before = logits(&fixture.model(), &fixture);
    let mut config: Value = serde_json::from_slice(&fixture.config).unwrap();
    config["heads"].as_array_mut().unwrap().reverse();
    fixture.config = config.to_string().into_bytes();
    let model = fixture.model();
    let names: Vec<_> = model.labels().each().map(|(name, _)| name).collect();
    assert_eq!(names, [Some("parity"), Some("digit")]);
    for (after, before) in logits(&model, &fixture).iter().zip(&before) {
        for (head, values) in after.each() {
            assert!(distance(values, before.get(head).unwrap()) <= 1e-5);
        }
    }
}

#[test]
fn a_head_without_a_bias_beside_one_with_a_bias_has_a_bias_of_zeros() {
    let fixture = Fixture::read(TWO_HEADS);
    let mut tensors = Spoiled::of(&fixture);
    tensors.0.remove(PARITY_BIAS);
    let model = Model::load(&fixture.config, None, &tensors).unwrap();
    let bias = fixture.values(PARITY_BIAS);
    let with = logits(&fixture.model(), &fixture);
    for (found, with) in logits(&model, &fixture).iter().zip(&with) {
        assert_eq!(found.get(Some("digit")), with.get(Some("digit")));
        let (found, with) = (found.get(Some("parity")), with.get(Some("parity")));
        let found = found.unwrap().iter().zip(&bias);
        let found: Vec<_> = found.map(|(value, bias)| value + bias).collect();
        assert!(distance(&found, with.unwrap()) <= 1e-4);
    }
}

#[test]
fn a_head_as_a_convolution_of_kernel_size_1_answers_as_the_matrix_that_it_is() {
    let fixture = Fixture::read(TWO_HEADS);
    let expected = logits(&fixture.model(), &fixture);
    let mut tensors = Spoiled::of(&fixture);
    tensors.tensor_mut(PARITY_WEIGHT).1.extend([1, 1]);
    let model = Model::load(&fixture.config, None, &tensors).unwrap();
    assert_eq!(logits(&model, &fixture), expected);
}

#[test]
fn a_head_whose_tensor_is_missing_or_of_another_shape_is_not_loaded() {
    let fixture = Fixture::read(TWO_HEADS);
    let mut missing = Spoiled::of(&fixture);
    missing.0.remove(PARITY_WEIGHT);
    let error = load_error(&fixture, &missing);
    assert!(matches!(&error, LoadError::Missing(name) if name == PARITY_WEIGHT));
    for spoiled in [PARITY_WEIGHT, PARITY_BIAS] {
        let mut tensors = Spoiled::of(&fixture);
        tensors.tensor_mut(spoiled).1.insert(0, 1);
        let error = load_error(&fixture, &tensors);
        assert!(matches!(&error, LoadError::Shape { name, .. } if name == spoiled));
    }
}

#[test]
fn quantised_heads_keep_their_labels() {
    let fixture = Fixture::read(TWO_HEADS);
    let (body, model) = (fixture.body(), fixture.model());
    let stacked = |kind: &str| {
        let heads = ["digit", "parity"].map(|head| fixture.values(&format!("heads.{head}.{kind}")));
        heads.concat()
    };
    let rows = quantise_rows(&stacked("weight"), body.width()).unwrap();
    let bias = stacked("bias");
    let activations = body.activations(&fixture.inputs()).unwrap();
    for (activation, expected) in activations.into_iter().zip(expected()) {
        let x = quantise_activation(&activation.unwrap(), ScaleRange::ANY).unwrap();
        let sums = rows.integer_reference(&x.values).unwrap();
        let found = rows.logits(&sums, x.scale, &bias).unwrap();
        let found = ByHead::cut(model.labels(), found).unwrap();
        for (head, labels) in model.labels().each() {
            let label = expected.labels.as_ref().and_then(|all| all.get(head));
            assert_eq!(Some(&labels[best(found.get(head).unwrap())]), label);
        }
    }
}
