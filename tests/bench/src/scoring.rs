//! Sealed scoring over the same inference in plain.

use std::{error::Error, fs, path::Path, time::Instant};

use safetensors::SafeTensors;
use sealift_encrypted_batch::{RowBody, parse_rows};
use sealift_inference::{Input, Model, TensorSource};
use serde_json::Value;

use crate::{demo, figure::Figure};

const COMMAND: &str = "make bench ONLY=scoring";

/// What the demo leaves.
const SUMMARY: &str = "target/demo/summary.json";

const MODEL: &str = "tests/fixtures/models/tiny-bert-sentiment";

/// Rows that are scored together, as in the demo's batch.
const ROWS_PER_PARTITION: usize = 128;

/// Repetitions of the plain inference, of which the fastest counts.
const REPEATS: usize = 5;

/// Divides the seconds that the demo's `score` job took, from dispatch to receipts, by the
/// seconds of the same rows through the same engine in this process.
pub(crate) fn figures() -> Result<Vec<Figure>, Box<dyn Error>> {
    demo::run()?;
    let summary: Value = serde_json::from_slice(&fs::read(SUMMARY)?)?;
    let sealed = summary["seconds"]["score"]
        .as_f64()
        .ok_or("the demo scored nothing")?;
    let plain = plain_seconds(Path::new(MODEL))?;
    let ratio = Figure::new("score.sealed_over_plain", sealed / plain, "ratio", COMMAND)
        .against("the same rows and engine without sealing, in one process");
    Ok(vec![
        Figure::new("score.plain_seconds", plain, "s", COMMAND),
        Figure::new("score.sealed_seconds", sealed, "s", COMMAND),
        ratio,
    ])
}

fn plain_seconds(folder: &Path) -> Result<f64, Box<dyn Error>> {
    let read = |name: &str| fs::read(folder.join(name));
    let weights = read("model.safetensors")?;
    let tensors = SafeTensors::deserialize(&weights)?;
    let source: &dyn TensorSource = &tensors;
    let model = Model::load(
        &read("config.json")?,
        Some(&read("tokenizer.json")?),
        source,
    )?;
    let jsonl = read("rows.jsonl")?;
    let (_, rows) = parse_rows(&jsonl)?;
    let mut fastest = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        for group in rows.chunks(ROWS_PER_PARTITION) {
            let inputs: Vec<Input<'_>> = group
                .iter()
                .map(|row| match &row.body {
                    RowBody::Text(text) => Input::Text(text),
                    RowBody::Features(features) => Input::Features(features),
                })
                .collect();
            model.logits(&inputs)?;
        }
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(fastest)
}
