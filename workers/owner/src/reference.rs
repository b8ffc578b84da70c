//! `reference`: what the quantised head of a plain model answers in integers, for comparing what
//! encrypted scoring published.

use std::{fs, path::Path};

use sealift_encrypted_batch::{ByHead, released_score};
use sealift_inference::{Body, Input};
use sealift_seal::{ModelFolder, ReferenceHead};
use serde::{Deserialize, Serialize};

use crate::{
    args::Reference,
    command::print,
    failure::{Failure, INPUT, OrFail},
    plain_tensors::PlainTensors,
};

/// A row of a labelled test file, or of a batch.
#[derive(Deserialize)]
struct Row {
    custom_id: String,
    #[serde(flatten)]
    at_top: Content,
    #[serde(default)]
    body: Content,
}

#[derive(Default, Deserialize)]
struct Content {
    text: Option<String>,
    features: Option<Vec<f32>>,
}

/// The reference of one row: the label of each head, and the scores if they were asked for.
#[derive(Serialize)]
struct Scores {
    custom_id: String,
    labels: ByHead<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<ByHead<Vec<f64>>>,
}

pub(crate) fn reference(args: &Reference) -> Result<(), Failure> {
    let unusable = || format!("the model `{}` is not usable", args.model.display());
    let folder = ModelFolder::open(&args.model).or_fail(INPUT, unusable())?;
    let head = ReferenceHead::read(&folder).or_fail(INPUT, unusable())?;
    let body = body(&folder, &args.model)?;
    let rows = rows(&args.rows)?;
    let mut all = Vec::with_capacity(rows.len());
    // In the same groups as they were sealed, because f32 sums depend on how rows are batched.
    for group in rows.chunks(args.rows_per_partition.max(1)) {
        let inputs: Vec<Input<'_>> = group.iter().filter_map(input).collect();
        let activations = body
            .activations(&inputs)
            .or_fail(INPUT, "the rows were not scored")?;
        for (row, activation) in group.iter().zip(activations) {
            let activation = activation.or_fail(INPUT, format!("row `{}`", row.custom_id))?;
            let logits = head
                .logits(&activation)
                .or_fail(INPUT, format!("row `{}`", row.custom_id))?;
            all.push(Scores {
                custom_id: row.custom_id.clone(),
                labels: head.labels(&logits),
                logits: args
                    .decimals
                    .map(|decimals| logits.map(|scores| released(&scores, decimals))),
            });
        }
    }
    print(&all)
}

fn released(scores: &[f64], decimals: u8) -> Vec<f64> {
    let scores = scores.iter();
    scores
        .map(|score| released_score(*score as f32, decimals))
        .collect()
}

fn body(folder: &ModelFolder, path: &Path) -> Result<Body, Failure> {
    let unusable = || format!("the model `{}` is not usable", path.display());
    let file = |name| folder.file(name).or_fail(INPUT, unusable());
    let config = file("config.json")?.unwrap_or_default();
    let tokenizer = file("tokenizer.json")?;
    let tensors = PlainTensors::read(folder.source()).or_fail(INPUT, unusable())?;
    Body::load(&config, tokenizer.as_deref(), &tensors).or_fail(INPUT, unusable())
}

fn rows(path: &Path) -> Result<Vec<Row>, Failure> {
    let unreadable = || format!("`{}` holds no rows", path.display());
    let text = fs::read_to_string(path).or_fail(INPUT, unreadable())?;
    text.lines()
        .map(|line| serde_json::from_str(line).or_fail(INPUT, unreadable()))
        .collect()
}

fn input(row: &Row) -> Option<Input<'_>> {
    let Row { at_top, body, .. } = row;
    if let Some(text) = at_top.text.as_deref().or(body.text.as_deref()) {
        return Some(Input::Text(text));
    }
    at_top
        .features
        .as_deref()
        .or(body.features.as_deref())
        .map(Input::Features)
}
