//! One thing spoiled per case: what a model that must not load says.

use std::collections::BTreeMap;

use crate::fixture::{ALL, Fixture, TINY_BERT};
use sealift_inference::{Body, Dtype, LoadError, Model, TensorSource, TensorView};
use serde_json::{Value, json};

type Tensor = (Dtype, Vec<usize>, Vec<u8>);

/// Tensors in a map, so that one of them can be spoiled.
pub(crate) struct Spoiled(pub(crate) BTreeMap<String, Tensor>);

impl Spoiled {
    pub(crate) fn of(fixture: &Fixture) -> Self {
        let copy = |(name, view): (String, TensorView<'_>)| {
            (
                name,
                (view.dtype(), view.shape().to_vec(), view.data().to_vec()),
            )
        };
        Self(fixture.source().tensors().into_iter().map(copy).collect())
    }

    pub(crate) fn tensor_mut(&mut self, name: &str) -> &mut Tensor {
        self.0.get_mut(name).unwrap()
    }
}

impl TensorSource for Spoiled {
    fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let (dtype, shape, bytes) = self.0.get(name)?;
        Some(TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    }
}

pub(crate) fn load_error(fixture: &Fixture, tensors: &Spoiled) -> LoadError {
    Model::load(&fixture.config, fixture.tokenizer.as_deref(), tensors)
        .err()
        .unwrap()
}

#[test]
fn each_missing_tensor_is_named() {
    for fixture in ALL.map(Fixture::read) {
        let names = Spoiled::of(&fixture).0.into_keys();
        // An output layer without a bias has a bias of zeros.
        for name in names.filter(|name| name != "classifier.bias") {
            let mut tensors = Spoiled::of(&fixture);
            tensors.0.remove(&name);
            let error = load_error(&fixture, &tensors);
            assert!(
                matches!(&error, LoadError::Missing(missing) if *missing == name),
                "{error}"
            );
        }
    }
}

#[test]
fn an_output_layer_without_a_bias_has_a_bias_of_zeros() {
    let fixture = Fixture::read("digits-mlp");
    let mut tensors = Spoiled::of(&fixture);
    tensors.0.remove("classifier.bias");
    let model = Model::load(&fixture.config, None, &tensors).unwrap();
    let inputs = fixture.inputs();
    let (found, with) = (model.logits(&inputs), fixture.model().logits(&inputs));
    let bias = fixture.values("classifier.bias");
    for (found, with) in found.unwrap().into_iter().zip(with.unwrap()) {
        for ((found, with), bias) in found.unwrap().iter().zip(with.unwrap()).zip(&bias) {
            assert!((found + bias - with).abs() < 1e-4, "{found} {bias} {with}");
        }
    }
}

#[test]
fn a_convolution_of_kernel_size_1_answers_as_the_matrix_that_it_is() {
    let fixture = Fixture::read("digits-mlp");
    let inputs = fixture.inputs();
    let expected = fixture.model().logits(&inputs).unwrap();
    let mut tensors = Spoiled::of(&fixture);
    for _ in 0..2 {
        tensors.tensor_mut("classifier.weight").1.push(1);
        let model = Model::load(&fixture.config, None, &tensors).unwrap();
        assert_eq!(model.logits(&inputs).unwrap(), expected);
    }
}

#[test]
fn a_convolution_over_several_positions_is_not_loaded() {
    let fixture = Fixture::read("digits-mlp");
    let mut tensors = Spoiled::of(&fixture);
    let shape = &mut tensors.tensor_mut("classifier.weight").1;
    shape[1] /= 2;
    shape.push(2);
    let error = load_error(&fixture, &tensors);
    assert!(matches!(error, LoadError::Shape { .. }), "{error}");
}

#[test]
fn each_tensor_of_another_shape_is_named() {
    for fixture in ALL.map(Fixture::read) {
        let names: Vec<_> = Spoiled::of(&fixture).0.into_keys().collect();
        for spoiled in names {
            let mut tensors = Spoiled::of(&fixture);
            tensors.tensor_mut(&spoiled).1.insert(0, 1);
            let error = load_error(&fixture, &tensors);
            assert!(
                matches!(&error, LoadError::Shape { name, .. } if *name == spoiled),
                "{error}"
            );
        }
    }
}

#[test]
fn each_tensor_of_another_type_is_named() {
    for fixture in ALL.map(Fixture::read) {
        let names: Vec<_> = Spoiled::of(&fixture).0.into_keys().collect();
        for spoiled in names {
            let mut tensors = Spoiled::of(&fixture);
            tensors.tensor_mut(&spoiled).0 = Dtype::I32;
            let error = load_error(&fixture, &tensors);
            let named = matches!(
                &error,
                LoadError::Type { name, found: Dtype::I32 } if *name == spoiled
            );
            assert!(named, "{error}");
        }
    }
}

#[test]
fn a_weight_that_is_not_finite_is_refused_at_load() {
    let fixture = Fixture::read("breast-cancer-mlp");
    for bad in [f32::NAN, f32::INFINITY] {
        let mut tensors = Spoiled::of(&fixture);
        tensors.tensor_mut("layers.0.weight").2[..4].copy_from_slice(&bad.to_le_bytes());
        let error = load_error(&fixture, &tensors);
        assert!(matches!(&error, LoadError::NotFinite(name) if name == "layers.0.weight"));
    }
}

#[test]
fn weights_in_half_precision_load() {
    let fixture = Fixture::read("breast-cancer-mlp");
    let mut tensors = Spoiled::of(&fixture);
    let values = fixture.values("classifier.bias");
    // bfloat16 is the upper half of a float32.
    let upper = |value: &f32| ((value.to_bits() >> 16) as u16).to_le_bytes();
    let bytes = values.iter().flat_map(upper).collect();
    *tensors.tensor_mut("classifier.bias") = (Dtype::BF16, vec![2], bytes);
    let model = Model::load(&fixture.config, None, &tensors).unwrap();
    assert!(
        model
            .logits(&fixture.inputs())
            .unwrap()
            .iter()
            .all(Result::is_ok)
    );
}

#[test]
fn a_body_loads_where_the_head_is_not_there() {
    for fixture in ALL.map(Fixture::read) {
        let mut tensors = Spoiled::of(&fixture);
        tensors.0.remove("classifier.weight");
        tensors.0.remove("classifier.bias");
        let tokenizer = fixture.tokenizer.as_deref();
        assert!(Body::load(&fixture.config, tokenizer, &tensors).is_ok());
        assert!(Model::load(&fixture.config, tokenizer, &tensors).is_err());
    }
}

/// A member of the configuration, a value it must not have, and how the refusal starts.
#[test]
fn a_configuration_with_one_member_spoiled_is_refused() {
    let cases = [
        (
            "model_type",
            json!("gpt2"),
            "config.json has model_type `gpt2`",
        ),
        (
            "hidden_act",
            json!("swish"),
            "config.json has hidden_act `swish`",
        ),
        (
            "classifier_pooling",
            json!("max"),
            "config.json has classifier_pooling `max`",
        ),
        (
            "position_embedding_type",
            json!("relative_key"),
            "config.json has position_embedding",
        ),
        (
            "num_attention_heads",
            json!(3),
            "config.json contradicts itself",
        ),
        (
            "num_attention_heads",
            json!(0),
            "config.json contradicts itself",
        ),
        (
            "num_hidden_layers",
            json!(4_000_000_000u64),
            "config.json contradicts itself",
        ),
        (
            "pad_token_id",
            json!(3_000),
            "config.json contradicts itself",
        ),
        (
            "max_position_embeddings",
            json!(1),
            "config.json contradicts itself",
        ),
        ("id2label", json!({}), "the model's answers cannot be named"),
        (
            "id2label",
            json!({"0": "no", "2": "yes"}),
            "the model's answers cannot be named",
        ),
        (
            "heads",
            json!([{"name": "a", "id2label": {"0": "x"}}]),
            "the model's answers cannot be named",
        ),
        (
            "id2label",
            json!({"0": "a", "1": "b", "2": "c"}),
            "tensor `classifier.weight` has shape",
        ),
        (
            "num_hidden_layers",
            json!(3),
            "tensor `bert.encoder.layer.2.",
        ),
        (
            "hidden_size",
            json!(32),
            "tensor `bert.embeddings.word_embeddings.weight` has shape",
        ),
        ("hidden_size", json!("wide"), "config.json cannot be read"),
        (
            "vocab_size",
            json!(2_999),
            "tokenizer.json numbers 3000 word pieces",
        ),
    ];
    let fixture = Fixture::read(TINY_BERT);
    for (member, value, expected) in cases {
        let mut config: Value = serde_json::from_slice(&fixture.config).unwrap();
        config[member] = value;
        let config = config.to_string();
        let tokenizer = fixture.tokenizer.as_deref();
        let error = Model::load(config.as_bytes(), tokenizer, &fixture.source())
            .err()
            .unwrap();
        assert!(error.to_string().starts_with(expected), "{member}: {error}");
    }
}

#[test]
fn a_tabular_configuration_without_layers_is_refused() {
    let fixture = Fixture::read("digits-mlp");
    for sizes in [json!([]), json!([64]), json!([64, 0, 10])] {
        let mut config: Value = serde_json::from_slice(&fixture.config).unwrap();
        config["layer_sizes"] = sizes;
        let config = config.to_string();
        let error = Model::load(config.as_bytes(), None, &fixture.source())
            .err()
            .unwrap();
        assert!(matches!(error, LoadError::Contradiction(_)), "{error}");
    }
}

#[test]
fn a_text_model_without_a_tokenizer_or_with_a_broken_one_is_refused() {
    let fixture = Fixture::read(TINY_BERT);
    let source = fixture.source();
    let none = Model::load(&fixture.config, None, &source).err().unwrap();
    assert!(matches!(none, LoadError::NoTokenizer));
    let broken = Model::load(&fixture.config, Some(b"{}"), &source)
        .err()
        .unwrap();
    assert!(matches!(broken, LoadError::Tokenizer(_)));
}
