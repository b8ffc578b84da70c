//! The encoder against a second one, written in plain `f64` loops, for both ways of pooling.

use crate::fixture::{Fixture, TINY_BERT, distance};
use sealift_inference::{Body, Input};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

const HIDDEN: usize = 64;
const HEADS: usize = 2;
const LAYERS: usize = 2;

type Matrix = Vec<Vec<f64>>;

struct Reference<'a>(&'a Fixture);

impl Reference<'_> {
    fn tensor(&self, name: &str) -> Vec<f64> {
        self.0
            .values(&format!("bert.{name}"))
            .into_iter()
            .map(f64::from)
            .collect()
    }

    fn dense(&self, x: &Matrix, name: &str) -> Matrix {
        let weight = self.tensor(&format!("{name}.weight"));
        let bias = self.tensor(&format!("{name}.bias"));
        let width = weight.len() / bias.len();
        let row = |x: &Vec<f64>| {
            let products = weight.chunks_exact(width).zip(&bias);
            products
                .map(|(w, b)| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b)
                .collect()
        };
        x.iter().map(row).collect()
    }

    fn norm(&self, x: &Matrix, name: &str) -> Matrix {
        let weight = self.tensor(&format!("{name}.weight"));
        let bias = self.tensor(&format!("{name}.bias"));
        let row = |x: &Vec<f64>| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let deviation = (variance + 1e-12).sqrt();
            let scaled = x.iter().map(|x| (x - mean) / deviation);
            scaled
                .zip(weight.iter().zip(&bias))
                .map(|(x, (w, b))| x * w + b)
                .collect()
        };
        x.iter().map(row).collect()
    }

    fn attention(&self, x: &Matrix, name: &str) -> Matrix {
        let width = HIDDEN / HEADS;
        let part = |kind: &str| self.dense(x, &format!("{name}.attention.self.{kind}"));
        let (query, key, value) = (part("query"), part("key"), part("value"));
        let mut mixed = vec![vec![0.0; HIDDEN]; x.len()];
        for head in 0..HEADS {
            let columns = head * width..(head + 1) * width;
            for (to, mixed) in query.iter().zip(&mut mixed) {
                let score = |from: &Vec<f64>| {
                    let pairs = to[columns.clone()].iter().zip(&from[columns.clone()]);
                    (pairs.map(|(q, k)| q * k).sum::<f64>() / (width as f64).sqrt()).exp()
                };
                let scores: Vec<_> = key.iter().map(score).collect();
                let total: f64 = scores.iter().sum();
                for (score, from) in scores.iter().zip(&value) {
                    for column in columns.clone() {
                        mixed[column] += score / total * from[column];
                    }
                }
            }
        }
        self.dense(&mixed, &format!("{name}.attention.output.dense"))
    }

    fn hidden_states(&self, ids: &[u32]) -> Matrix {
        let words = self.tensor("embeddings.word_embeddings.weight");
        let positions = self.tensor("embeddings.position_embeddings.weight");
        let segments = self.tensor("embeddings.token_type_embeddings.weight");
        let row = |(position, id): (usize, &u32)| {
            let word = &words[*id as usize * HIDDEN..];
            let place = &positions[position * HIDDEN..];
            (0..HIDDEN)
                .map(|i| word[i] + place[i] + segments[i])
                .collect()
        };
        let embedded = ids.iter().enumerate().map(row).collect();
        let mut x = self.norm(&embedded, "embeddings.LayerNorm");
        for layer in 0..LAYERS {
            let name = format!("encoder.layer.{layer}");
            let attended = add(&x, &self.attention(&x, &name));
            x = self.norm(&attended, &format!("{name}.attention.output.LayerNorm"));
            let mut wide = self.dense(&x, &format!("{name}.intermediate.dense"));
            wide.iter_mut().flatten().for_each(|x| *x = gelu(*x));
            let narrow = add(&x, &self.dense(&wide, &format!("{name}.output.dense")));
            x = self.norm(&narrow, &format!("{name}.output.LayerNorm"));
        }
        x
    }
}

fn add(a: &Matrix, b: &Matrix) -> Matrix {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
    a.iter().zip(b).map(row).collect()
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

/// Maclaurin series up to |x| = 4, where erf is 1 to eight digits.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

/// Compares the first rows with the reference; `config` decides how the body pools.
fn compare(config: &[u8], pool: impl Fn(&Reference<'_>, Matrix) -> Vec<f64>) {
    let fixture = Fixture::read(TINY_BERT);
    let tokenizer = fixture.tokenizer.as_deref().unwrap();
    let body = Body::load(config, Some(tokenizer), &fixture.source()).unwrap();
    let words = Tokenizer::from_bytes(tokenizer).unwrap();
    let rows = &fixture.inputs()[..24];
    for (row, found) in rows.iter().zip(body.activations(rows).unwrap()) {
        let Input::Text(text) = row else {
            panic!("the fixture has texts")
        };
        let ids = words.encode(*text, true).unwrap();
        let reference = Reference(&fixture);
        let expected = pool(&reference, reference.hidden_states(ids.get_ids()));
        assert!(
            distance(&found.unwrap(), &narrow(&expected)) <= 1e-5,
            "{text}"
        );
    }
}

#[test]
fn the_pooler_sees_the_first_token() {
    let config = Fixture::read(TINY_BERT).config;
    compare(&config, |reference, hidden| {
        let first = vec![hidden[0].clone()];
        reference.dense(&first, "pooler.dense")[0]
            .iter()
            .map(|x| x.tanh())
            .collect()
    });
}

#[test]
fn mean_pooling_sees_every_token_and_no_padding() {
    let mut config: Value = serde_json::from_slice(&Fixture::read(TINY_BERT).config).unwrap();
    config["classifier_pooling"] = json!("mean_l2");
    compare(config.to_string().as_bytes(), |_, hidden| {
        let mean = |column| hidden.iter().map(|row: &Vec<f64>| row[column]).sum::<f64>();
        let mean: Vec<f64> = (0..HIDDEN).map(mean).collect();
        let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
        mean.iter().map(|x| x / length).collect()
    });
}
