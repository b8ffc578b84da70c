//! How long the records of a batch have to be for the answers of the model that it is for.

use sealift_encrypted_batch::{InputRow, MAX_PAD, OutputPolicy, needed_pad};
use sealift_output_layer::{Labels, OutputLayer};
use sealift_sealed_model::FetchedVersion;

use super::stores;
use crate::{
    args::BatchSeal,
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
};

/// What is assumed of a model that no version was published of: sixteen labels of forty
/// characters.
fn label_allowance() -> Result<Labels, Failure> {
    let fact = "cannot tell how long records are to be";
    Labels::one(vec!["x".repeat(40); 16]).or_fail(ExitCode::Unexpected, fact)
}

/// The padding that was asked for, or the least that holds every answer; refused where the labels
/// of the published model do not fit it.
pub(super) async fn pad(
    layout: &Layout,
    arguments: &BatchSeal,
    policy: OutputPolicy,
    rows: &[InputRow],
) -> Result<u32, Failure> {
    let labels = published_labels(layout, arguments).await?;
    let needed = |labels: &Labels| {
        needed_pad(
            policy,
            labels,
            rows.iter().map(|row| row.custom_id.as_str()),
        )
    };
    let Some(labels) = labels else {
        let allowance = label_allowance()?;
        return Ok(arguments.pad.unwrap_or_else(|| needed(&allowance)));
    };
    let needed = needed(&labels);
    let pad = arguments.pad.unwrap_or(needed);
    if needed <= pad && needed <= MAX_PAD {
        return Ok(pad);
    }
    let fact = format!(
        "an answer over the {} labels of `{}` takes up to {needed} bytes, and records have {}",
        labels.outputs(),
        arguments.model,
        pad.min(MAX_PAD)
    );
    let failure = Failure::new(ExitCode::Input, fact);
    Err(match policy {
        OutputPolicy::DangerousFullScores { .. } if needed > MAX_PAD => {
            failure.remedy("seal the batch under the output policy `label`")
        }
        _ => failure.remedy(format!("leave `--pad` out, or write --pad {needed}")),
    })
}

/// The labels of the newest version of the model in the store, if it has one that can be read.
///
/// Whether its owner signed it is not looked at: a wrong one makes records longer, or makes this
/// command refuse, and its guest will have labels of its own.
async fn published_labels(
    layout: &Layout,
    arguments: &BatchSeal,
) -> Result<Option<Labels>, Failure> {
    let address = stores::address(layout.path(), arguments.store.as_ref())?;
    let store = match (stores::open(&address), &arguments.store) {
        // Nothing was ever published in this state folder.
        (Err(_), None) => return Ok(None),
        (opened, _) => opened?,
    };
    let Ok(model) = arguments.model.parse() else {
        return Ok(None);
    };
    let Ok(Some(newest)) = store.newest(&model).await else {
        return Ok(None);
    };
    let reading = tokio::task::spawn_blocking(move || labels(&newest));
    Ok(reading.await.ok().flatten())
}

fn labels(version: &FetchedVersion) -> Option<Labels> {
    let file = |name: &str| version.unverified_file(&name.parse().ok()?).ok();
    let layer = OutputLayer::read(&file("config.json")?, file("tokenizer.json").as_deref()).ok()?;
    layer.labels().ok()
}
