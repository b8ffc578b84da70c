//! What was published beside what the integer reference of the plain model's head answers.

use std::{collections::BTreeMap, path::Path};

use sealift_encrypted_batch::{ByHead, ResultRow};
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
    labels: ByHead<String>,
    logits: Option<ByHead<Vec<f64>>>,
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
        let (row_equal, row_values) = match (&row.labels, &row.logits) {
            (_, Some(published)) => equal_scores(published, wanted),
            (Ok(labels), None) => equal_labels(labels, wanted),
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

/// How many scores equal the reference's, and how many there are.
fn equal_scores(published: &ByHead<Vec<f64>>, wanted: Option<&Reference>) -> (usize, usize) {
    let wanted = wanted.and_then(|wanted| wanted.logits.as_ref());
    let (mut equal, mut values) = (0, 0);
    for (head, published) in published.each() {
        let wanted = wanted.and_then(|wanted| wanted.get(head));
        let pairs = published.iter().zip(wanted.into_iter().flatten());
        equal += pairs
            .filter(|(found, wanted)| found.total_cmp(wanted).is_eq())
            .count();
        values += published.len();
    }
    (equal, values)
}

/// The same of labels.
fn equal_labels(published: &ByHead<String>, wanted: Option<&Reference>) -> (usize, usize) {
    let (mut equal, mut values) = (0, 0);
    for (head, label) in published.each() {
        let wanted = wanted.and_then(|wanted| wanted.labels.get(head));
        equal += usize::from(wanted == Some(label));
        values += 1;
    }
    (equal, values)
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
