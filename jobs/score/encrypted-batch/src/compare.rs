//! Results against what was expected of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ResultRow;

/// What a row should be answered with.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// The name of the row.
    pub custom_id: String,
    /// The label.
    pub label: Option<String>,
    /// The scores.
    pub logits: Option<Vec<f64>>,
}

/// Why a list of expectations cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A line that is not an expectation.
    #[error("line {line} needs `custom_id` and `expected_label` or `expected_logits`")]
    Line {
        /// From 1.
        line: usize,
        /// Why, if it is not JSON of this form.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// One name twice.
    #[error("line {line} repeats a `custom_id`")]
    Repeated {
        /// From 1.
        line: usize,
    },
}

#[derive(Deserialize)]
struct Line {
    custom_id: String,
    expected_label: Option<String>,
    expected_logits: Option<Vec<f64>>,
}

/// Reads JSON lines with `custom_id`, `expected_label` and `expected_logits`; other members are
/// ignored, so that a labelled test file can serve as it is.
pub fn parse_expected(jsonl: &str) -> Result<Vec<Expected>, CompareError> {
    let mut seen = BTreeSet::new();
    let mut expected = Vec::new();
    for (index, text) in jsonl.lines().enumerate() {
        let line = index + 1;
        let parsed: Line = serde_json::from_str(text).map_err(|source| CompareError::Line {
            line,
            source: Some(source),
        })?;
        let Line {
            custom_id,
            expected_label: label,
            expected_logits: logits,
        } = parsed;
        if label.is_none() && logits.is_none() {
            return Err(CompareError::Line { line, source: None });
        }
        if !seen.insert(custom_id.clone()) {
            return Err(CompareError::Repeated { line });
        }
        expected.push(Expected {
            custom_id,
            label,
            logits,
        });
    }
    Ok(expected)
}

/// How results differ from what was expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Rows that have a result and an expectation.
    pub rows: usize,
    /// Of these, rows whose label is the expected one.
    pub labels_agree: usize,
    /// Of these, rows that were expected to have a label.
    pub labels_expected: usize,
    /// Rows with another label than the expected one, in the order of the results.
    pub disagreements: Vec<Disagreement>,
    /// Rows that were answered with an error.
    pub faults: Vec<String>,
    /// Largest difference of a score from its expectation, where both exist.
    pub max_logit_error: Option<f64>,
    /// Expected rows without a result.
    pub missing: Vec<String>,
    /// Results that nobody expected, and second results for one row.
    pub extra: Vec<String>,
}

/// A row that was answered with another label than the expected one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disagreement {
    /// The name of the row.
    pub custom_id: String,
    /// The label that was expected.
    pub expected: String,
    /// The label that was given.
    pub found: String,
    /// How far apart the two highest expected scores are, where there are at least two: what a
    /// change of the scores has to bridge to change the label.
    pub margin: Option<f64>,
}

impl Comparison {
    /// Share of expected labels that were given; 1 if none was expected.
    pub fn label_agreement(&self) -> f64 {
        if self.labels_expected == 0 {
            return 1.0;
        }
        self.labels_agree as f64 / self.labels_expected as f64
    }

    /// Whether every expected row has exactly one answer and nothing else was answered.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.faults.is_empty()
    }
}

/// Compares results of any number of partitions with all expectations.
pub fn compare<'a>(
    results: impl IntoIterator<Item = &'a ResultRow>,
    expected: &[Expected],
) -> Comparison {
    let mut open: BTreeMap<&str, &Expected> =
        expected.iter().map(|e| (e.custom_id.as_str(), e)).collect();
    let mut comparison = Comparison::default();
    for result in results {
        match open.remove(result.custom_id.as_str()) {
            Some(expected) => comparison.add(result, expected),
            None => comparison.extra.push(result.custom_id.clone()),
        }
    }
    comparison.missing = open.into_keys().map(str::to_owned).collect();
    comparison
}

impl Comparison {
    fn add(&mut self, result: &ResultRow, expected: &Expected) {
        self.rows += 1;
        let label = result.label.as_ref().ok();
        if label.is_none() {
            self.faults.push(result.custom_id.clone());
        }
        if let Some(wanted) = &expected.label {
            self.labels_expected += 1;
            match label {
                Some(found) if found == wanted => self.labels_agree += 1,
                Some(found) => self.disagreements.push(Disagreement {
                    custom_id: result.custom_id.clone(),
                    expected: wanted.clone(),
                    found: found.clone(),
                    margin: expected.logits.as_deref().and_then(margin),
                }),
                None => {}
            }
        }
        if let (Some(found), Some(wanted)) = (&result.logits, &expected.logits) {
            let error = logit_error(found, wanted);
            self.max_logit_error = Some(self.max_logit_error.map_or(error, |max| max.max(error)));
        }
    }
}

/// The highest score minus the second highest.
fn margin(scores: &[f64]) -> Option<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    match sorted[..] {
        [first, second, ..] => Some(first - second),
        _ => None,
    }
}

/// Infinite for lists of different lengths: such scores agree on nothing.
fn logit_error(found: &[f64], wanted: &[f64]) -> f64 {
    if found.len() != wanted.len() {
        return f64::INFINITY;
    }
    found
        .iter()
        .zip(wanted)
        .map(|(f, w)| (f - w).abs())
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RowFault;

    fn row(id: &str, label: &str, logits: &[f64]) -> ResultRow {
        ResultRow {
            custom_id: id.into(),
            label: Ok(label.into()),
            logits: Some(logits.to_vec()),
        }
    }

    fn expectations() -> Vec<Expected> {
        parse_expected(concat!(
            r#"{"custom_id":"a","text":"x","expected_label":"no","expected_logits":[1.0,-1.0]}"#,
            "\n",
            r#"{"custom_id":"b","expected_label":"yes","expected_logits":[0.5,0.75]}"#,
        ))
        .unwrap()
    }

    #[test]
    fn equal_results_agree_completely() {
        let rows = [row("b", "yes", &[0.5, 0.75]), row("a", "no", &[1.0, -1.0])];
        let comparison = compare(&rows, &expectations());
        assert!(comparison.is_complete());
        assert_eq!(comparison.max_logit_error, Some(0.0));
        assert!((comparison.label_agreement() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn differences_are_counted_and_measured() {
        let rows = [row("a", "yes", &[1.0, -0.5]), row("b", "yes", &[0.5, 0.75])];
        let comparison = compare(&rows, &expectations());
        assert_eq!(
            (comparison.labels_agree, comparison.labels_expected),
            (1, 2)
        );
        assert_eq!(comparison.max_logit_error, Some(0.5));
    }

    #[test]
    fn a_row_with_another_label_is_listed_with_the_margin_of_its_expectation() {
        let rows = [row("a", "yes", &[]), row("b", "no", &[])];
        let expected = parse_expected(concat!(
            r#"{"custom_id":"a","expected_label":"no","expected_logits":[1.0,-1.0,0.75]}"#,
            "\n",
            r#"{"custom_id":"b","expected_label":"yes"}"#,
        ))
        .unwrap();
        let listed = compare(&rows, &expected).disagreements;
        let facts: Vec<_> = listed
            .iter()
            .map(|row| (row.custom_id.as_str(), row.expected.as_str(), row.margin))
            .collect();
        assert_eq!(facts, [("a", "no", Some(0.25)), ("b", "yes", None)]);
    }

    #[test]
    fn missing_extra_and_failed_rows_are_named() {
        let mut failed = row("b", "", &[]);
        failed.label = Err(RowFault::NotFinite);
        failed.logits = None;
        let comparison = compare(&[failed, row("c", "no", &[])], &expectations());
        assert_eq!(comparison.missing, ["a"]);
        assert_eq!(comparison.extra, ["c"]);
        assert_eq!(comparison.faults, ["b"]);
        assert!(!comparison.is_complete());
    }

    #[test]
    fn a_second_result_for_a_row_is_extra() {
        let twice = [row("a", "no", &[1.0, -1.0]), row("a", "no", &[1.0, -1.0])];
        assert_eq!(compare(&twice, &expectations()).extra, ["a"]);
    }

    #[test]
    fn an_expectation_without_a_label_or_scores_is_refused() {
        let refused = parse_expected(r#"{"custom_id":"a"}"#);
        assert!(matches!(
            refused,
            Err(CompareError::Line {
                line: 1,
                source: None
            })
        ));
    }
}
