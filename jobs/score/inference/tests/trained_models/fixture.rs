//! The trained models under `tests/fixtures/models` with their held-out rows.

use std::{fs, path::PathBuf};

use safetensors::SafeTensors;
use sealift_encrypted_batch::ByHead;
use sealift_inference::{Body, Input, Model};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub(crate) const TINY_BERT: &str = "tiny-bert-sentiment";
/// A decoder, whose output layer has another name than a classifier's.
pub(crate) const TINY_LLAMA: &str = "tiny-llama";
/// One hidden layer with the heads `digit` and `parity` on it.
pub(crate) const TWO_HEADS: &str = "digits-multitask";
/// Models with a `classifier`.
pub(crate) const ALL: [&str; 4] = [
    TINY_BERT,
    "breast-cancer-mlp",
    "breast-cancer-logreg",
    "digits-mlp",
];

pub(crate) struct Fixture {
    pub(crate) config: Vec<u8>,
    pub(crate) tokenizer: Option<Vec<u8>>,
    pub(crate) tensors: Vec<u8>,
    pub(crate) rows: Vec<Row>,
}

#[derive(Deserialize)]
pub(crate) struct Row {
    pub(crate) text: Option<String>,
    pub(crate) features: Option<Vec<f32>>,
    #[serde(default, deserialize_with = "of_one_head")]
    pub(crate) expected_logits: Vec<f32>,
    #[serde(default)]
    pub(crate) expected_label: String,
}

impl Fixture {
    pub(crate) fn folder(name: &str) -> PathBuf {
        let project = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../..");
        project.join("tests/fixtures/models").join(name)
    }

    pub(crate) fn read(name: &str) -> Self {
        let folder = Self::folder(name);
        let read = |file: &str| fs::read(folder.join(file));
        let rows = String::from_utf8(read("test.jsonl").unwrap()).unwrap();
        Self {
            config: read("config.json").unwrap(),
            tokenizer: read("tokenizer.json").ok(),
            tensors: read("model.safetensors").unwrap(),
            rows: rows
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
        }
    }

    /// Changes a setting of `config.json`.
    pub(crate) fn configure(&mut self, setting: &str, value: Value) {
        let mut config: Value = serde_json::from_slice(&self.config).unwrap();
        config[setting] = value;
        self.config = config.to_string().into_bytes();
    }

    pub(crate) fn source(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.tensors).unwrap()
    }

    pub(crate) fn model(&self) -> Model {
        Model::load(&self.config, self.tokenizer.as_deref(), &self.source()).unwrap()
    }

    pub(crate) fn body(&self) -> Body {
        Body::load(&self.config, self.tokenizer.as_deref(), &self.source()).unwrap()
    }

    pub(crate) fn inputs(&self) -> Vec<Input<'_>> {
        self.rows.iter().map(Row::input).collect()
    }

    /// One tensor as numbers.
    pub(crate) fn values(&self, name: &str) -> Vec<f32> {
        let source = self.source();
        let view = source.tensor(name).unwrap();
        let (values, rest) = view.data().as_chunks::<4>();
        assert!(rest.is_empty());
        values
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    }
}

/// The scores of a model that is one head; none of a model with several, which name theirs.
fn of_one_head<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    let logits = ByHead::<Vec<f32>>::deserialize(deserializer)?;
    Ok(logits.one().cloned().unwrap_or_default())
}

impl Row {
    pub(crate) fn input(&self) -> Input<'_> {
        match (&self.text, &self.features) {
            (Some(text), None) => Input::Text(text),
            (None, Some(features)) => Input::Features(features),
            _ => panic!("a row has a text or features"),
        }
    }
}

/// Index of the largest value.
pub(crate) fn best<T: PartialOrd + Copy>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Largest difference of two lists of one length.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
