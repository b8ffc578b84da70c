//! What was published beside what the integer reference of the plain model's head answers.

use std::{collections::BTreeMap, path::Path};

use sealift_encrypted_batch::ResultRow;
use serde::Deserialize;

use super::batch::DECIMALS;
use crate::{
    args::BatchCompare, child, deployment::args, exit_code::ExitCode, failure::Failure,
    layout::Layout, siblings::Sibling,
};

/// What the owner's binary prints for one row.
#[derive(Deserialize)]
struct Reference {
    custom_id: String,
    label: Option<String>,
    #[serde(default)]
    logits: Vec<f64>,
}

/// Share of published values that equal the reference, rounded as they were: scores where scores
/// were released, labels otherwise.
pub(super) fn agreement(
    layout: &Layout,
    model: &Path,
    arguments: &BatchCompare,
    results: &[ResultRow],
) -> Result<f64, Failure> {
    let scores = results.iter().any(|row| row.logits.is_some());
    let reference = asked(layout, model, arguments, scores)?;
    let by_id: BTreeMap<_, _> = reference
        .iter()
        .map(|row| (row.custom_id.as_str(), row))
        .collect();
    let (mut equal, mut values) = (0, 0);
    for row in results {
        let wanted = by_id.get(row.custom_id.as_str()).copied();
        let (row_equal, row_values) = match (&row.label, &row.logits) {
            (_, Some(published)) => (equal_scores(published, wanted), published.len()),
            (Ok(label), None) => {
                let same = wanted.is_some_and(|wanted| wanted.label.as_ref() == Some(label));
                (usize::from(same), 1)
            }
            (Err(_), None) => continue,
        };
        equal += row_equal;
        values += row_values;
    }
    if values == 0 {
        return Err(
            Failure::new(ExitCode::Input, "the results hold no answers to compare")
                .remedy("every row is answered with a fault; look at their codes"),
        );
    }
    Ok(equal as f64 / values as f64)
}

fn equal_scores(published: &[f64], wanted: Option<&Reference>) -> usize {
    let Some(wanted) = wanted else {
        return 0;
    };
    let pairs = published.iter().zip(&wanted.logits);
    let same = |(found, wanted): &(&f64, &f64)| found.to_bits() == wanted.to_bits();
    pairs.filter(same).count()
}

fn asked(
    layout: &Layout,
    model: &Path,
    arguments: &BatchCompare,
    scores: bool,
) -> Result<Vec<Reference>, Failure> {
    let absolute = |path: &Path| {
        path.canonicalize()
            .map_err(|source| Failure::unreadable(path, source))
    };
    let mut all = vec!["reference".into()];
    all.extend(args([
        ("--model", absolute(model)?.into()),
        ("--rows", absolute(&arguments.expect)?.into()),
        (
            "--rows-per-partition",
            arguments.rows_per_partition.to_string().into(),
        ),
    ]));
    if scores {
        all.extend(args([("--decimals", DECIMALS.to_string().into())]));
    }
    child::ask(layout, Sibling::Owner, all)
}
