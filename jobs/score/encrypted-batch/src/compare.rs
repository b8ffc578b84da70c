//! Results against what was expected of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{ByHead, ResultRow};

/// What a row should be answered with.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// The name of the row.
    pub custom_id: String,
    /// The label of each head.
    pub labels: Option<ByHead<String>>,
    /// The scores of each head.
    pub logits: Option<ByHead<Vec<f64>>>,
}

/// Why a list of expectations cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A line that is not an expectation.
    #[error(
        "line {line} needs `custom_id` and `expected_label`, `expected_labels` of several heads or \
         `expected_logits`"
    )]
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
    /// Labels of other heads than the scores, or in both forms.
    #[error("line {line} expects labels of other heads than scores, or labels in two forms")]
    TwoForms {
        /// From 1.
        line: usize,
    },
    /// A row that is answered by other heads than was expected.
    #[error(
        "row `{custom_id}` is answered by {answered}, and expected are answers of {expected}; give \
         `expected_labels` with a label for each head, or `expected_label` for a model that is one"
    )]
    OtherHeads {
        /// The name of the row.
        custom_id: String,
        /// The heads of the result.
        answered: String,
        /// The heads of the expectation.
        expected: String,
    },
}

#[derive(Deserialize)]
struct Line {
    custom_id: String,
    expected_label: Option<String>,
    expected_labels: Option<BTreeMap<String, String>>,
    expected_logits: Option<ByHead<Vec<f64>>>,
}

impl Line {
    fn read(self, line: usize) -> Result<Expected, CompareError> {
        let labels = match (self.expected_label, self.expected_labels) {
            (Some(_), Some(_)) => return Err(CompareError::TwoForms { line }),
            (Some(label), None) => Some(ByHead::One(label)),
            (None, labels) => labels.map(ByHead::Named),
        };
        let logits = self.expected_logits;
        match (&labels, &logits) {
            (None, None) => return Err(CompareError::Line { line, source: None }),
            (Some(labels), Some(logits)) if !labels.has_heads_of(logits) => {
                return Err(CompareError::TwoForms { line });
            }
            _ => {}
        }
        Ok(Expected {
            custom_id: self.custom_id,
            labels,
            logits,
        })
    }
}

/// Reads JSON lines with `custom_id`, `expected_label` and `expected_logits`, for several heads
/// `expected_labels` and `expected_logits` by the heads' names. Other members are ignored, so that
/// a labelled test file can serve as it is.
pub fn parse_expected(jsonl: &str) -> Result<Vec<Expected>, CompareError> {
    let mut seen = BTreeSet::new();
    let mut expected = Vec::new();
    for (index, text) in jsonl.lines().enumerate() {
        let line = index + 1;
        let parsed: Line = serde_json::from_str(text).map_err(|source| CompareError::Line {
            line,
            source: Some(source),
        })?;
        let row = parsed.read(line)?;
        if !seen.insert(row.custom_id.clone()) {
            return Err(CompareError::Repeated { line });
        }
        expected.push(row);
    }
    Ok(expected)
}

/// How results differ from what was expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Rows that have a result and an expectation.
    pub rows: usize,
    /// The labels of these rows, of all heads together.
    pub labels: Agreement,
    /// The same for each head that has a name.
    pub heads: BTreeMap<String, Agreement>,
    /// Other labels than the expected ones, in the order of the results.
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

/// How many labels are the expected ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Labels that are the expected ones.
    pub agree: usize,
    /// Labels that were expected.
    pub expected: usize,
}

impl Agreement {
    /// Share of expected labels that were given; 1 if none was expected.
    pub fn share(self) -> f64 {
        if self.expected == 0 {
            return 1.0;
        }
        self.agree as f64 / self.expected as f64
    }

    fn add(&mut self, agrees: bool) {
        self.expected += 1;
        self.agree += usize::from(agrees);
    }
}

/// An answer with another label than the expected one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disagreement {
    /// The name of the row.
    pub custom_id: String,
    /// The head that answered, where it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The label that was expected.
    pub expected: String,
    /// The label that was given.
    pub found: String,
    /// How far apart the two highest expected scores are, where there are at least two: what a
    /// change of the scores has to bridge to change the label.
    pub margin: Option<f64>,
}

impl Comparison {
    /// Whether every expected row has exactly one answer and nothing else was answered.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.faults.is_empty()
    }
}

/// Compares results of any number of partitions with all expectations.
///
/// Expectations that say nothing of a head, or something of a head that did not answer, are an
/// error: leaving them out would show an agreement that nobody looked at.
pub fn compare<'a>(
    results: impl IntoIterator<Item = &'a ResultRow>,
    expected: &[Expected],
) -> Result<Comparison, CompareError> {
    let mut open: BTreeMap<&str, &Expected> =
        expected.iter().map(|e| (e.custom_id.as_str(), e)).collect();
    let mut comparison = Comparison::default();
    for result in results {
        match open.remove(result.custom_id.as_str()) {
            Some(expected) => comparison.add(result, expected)?,
            None => comparison.extra.push(result.custom_id.clone()),
        }
    }
    comparison.missing = open.into_keys().map(str::to_owned).collect();
    Ok(comparison)
}

impl Comparison {
    fn add(&mut self, result: &ResultRow, expected: &Expected) -> Result<(), CompareError> {
        self.rows += 1;
        match &result.labels {
            Ok(found) => {
                check_heads(result, found, expected)?;
                self.add_labels(found, expected);
            }
            Err(_) => self.add_fault(expected),
        }
        if let (Some(found), Some(wanted)) = (&result.logits, &expected.logits) {
            for (head, wanted) in wanted.each() {
                let found = found.get(head).map_or(&[][..], Vec::as_slice);
                let error = logit_error(found, wanted);
                let most = self.max_logit_error.map_or(error, |most| most.max(error));
                self.max_logit_error = Some(most);
            }
        }
        Ok(())
    }

    fn add_labels(&mut self, found: &ByHead<String>, expected: &Expected) {
        for (head, wanted) in expected.labels.iter().flat_map(ByHead::each) {
            let given = found.get(head);
            self.count(head, given == Some(wanted));
            if let Some(given) = given.filter(|given| *given != wanted) {
                let scores = expected.logits.as_ref().and_then(|all| all.get(head));
                self.disagreements.push(Disagreement {
                    custom_id: expected.custom_id.clone(),
                    head: head.map(str::to_owned),
                    expected: wanted.clone(),
                    found: given.clone(),
                    margin: scores.and_then(|scores| margin(scores)),
                });
            }
        }
    }

    fn add_fault(&mut self, expected: &Expected) {
        self.faults.push(expected.custom_id.clone());
        for (head, _) in expected.labels.iter().flat_map(ByHead::each) {
            self.count(head, false);
        }
    }

    fn count(&mut self, head: Option<&str>, agrees: bool) {
        self.labels.add(agrees);
        if let Some(head) = head {
            self.heads.entry(head.to_owned()).or_default().add(agrees);
        }
    }
}

fn check_heads(
    result: &ResultRow,
    found: &ByHead<String>,
    expected: &Expected,
) -> Result<(), CompareError> {
    let other = |expected: String| CompareError::OtherHeads {
        custom_id: result.custom_id.clone(),
        answered: found.heads(),
        expected,
    };
    if let Some(labels) = expected
        .labels
        .as_ref()
        .filter(|all| !found.has_heads_of(all))
    {
        return Err(other(labels.heads()));
    }
    if let Some(logits) = expected
        .logits
        .as_ref()
        .filter(|all| !found.has_heads_of(all))
    {
        return Err(other(logits.heads()));
    }
    Ok(())
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
            labels: Ok(ByHead::One(label.into())),
            logits: Some(ByHead::One(logits.to_vec())),
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
        let comparison = compare(&rows, &expectations()).unwrap();
        assert!(comparison.is_complete());
        assert_eq!(comparison.max_logit_error, Some(0.0));
        assert!((comparison.labels.share() - 1.0).abs() < f64::EPSILON);
        assert!(comparison.heads.is_empty());
    }

    #[test]
    fn differences_are_counted_and_measured() {
        let rows = [row("a", "yes", &[1.0, -0.5]), row("b", "yes", &[0.5, 0.75])];
        let comparison = compare(&rows, &expectations()).unwrap();
        let expected = Agreement {
            agree: 1,
            expected: 2,
        };
        assert_eq!(comparison.labels, expected);
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
        let listed = compare(&rows, &expected).unwrap().disagreements;
        let facts: Vec<_> = listed
            .iter()
            .map(|row| (row.custom_id.as_str(), row.expected.as_str(), row.margin))
            .collect();
        assert_eq!(facts, [("a", "no", Some(0.25)), ("b", "yes", None)]);
    }

    #[test]
    fn missing_extra_and_failed_rows_are_named() {
        let mut failed = row("b", "", &[]);
        failed.labels = Err(RowFault::NotFinite);
        failed.logits = None;
        let comparison = compare(&[failed, row("c", "no", &[])], &expectations()).unwrap();
        assert_eq!(comparison.missing, ["a"]);
        assert_eq!(comparison.extra, ["c"]);
        assert_eq!(comparison.faults, ["b"]);
        assert!(!comparison.is_complete());
    }

    #[test]
    fn a_second_result_for_a_row_is_extra() {
        let twice = [row("a", "no", &[1.0, -1.0]), row("a", "no", &[1.0, -1.0])];
        assert_eq!(compare(&twice, &expectations()).unwrap().extra, ["a"]);
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
    fn by_head<T>(heads: impl IntoIterator<Item = (&'static str, T)>) -> ByHead<T> {
        ByHead::Named(
            heads
                .into_iter()
                .map(|(head, value)| (head.to_owned(), value))
                .collect(),
        )
    }

    /// A row that two heads answer.
    fn answered(topic: &str, mood: &str) -> ResultRow {
        ResultRow {
            custom_id: "a".into(),
            labels: Ok(by_head([("topic", topic.into()), ("mood", mood.into())])),
            logits: Some(by_head([("topic", vec![1.0, 0.5]), ("mood", vec![0.0])])),
        }
    }

    const TWO_HEADS: &str = concat!(
        r#"{"custom_id":"a","expected_labels":{"topic":"x","mood":"y"},"#,
        r#""expected_logits":{"topic":[1.0,0.75],"mood":[0.125]}}"#
    );

    #[test]
    fn agreement_is_counted_for_each_head_and_for_all_together() {
        let expected = parse_expected(TWO_HEADS).unwrap();
        let comparison = compare(&[answered("z", "y")], &expected).unwrap();
        let counted = |agree, expected| Agreement { agree, expected };
        assert_eq!(comparison.labels, counted(1, 2));
        assert_eq!(comparison.heads["topic"], counted(0, 1));
        assert_eq!(comparison.heads["mood"], counted(1, 1));
        assert_eq!(comparison.max_logit_error, Some(0.25));
        let [listed] = comparison.disagreements.as_slice() else {
            panic!("{comparison:?}");
        };
        assert_eq!(listed.head.as_deref(), Some("topic"));
        assert_eq!(listed.margin, Some(0.25));
    }

    #[test]
    fn a_fault_is_a_missing_label_of_every_head() {
        let mut failed = answered("x", "y");
        (failed.labels, failed.logits) = (Err(RowFault::NotFinite), None);
        let comparison = compare(&[failed], &parse_expected(TWO_HEADS).unwrap()).unwrap();
        assert_eq!(comparison.faults, ["a"]);
        let none = Agreement {
            agree: 0,
            expected: 1,
        };
        assert_eq!(comparison.heads["topic"], none);
        assert_eq!(comparison.heads["mood"], none);
    }

    #[test]
    fn an_expectation_that_lacks_a_head_or_has_another_is_refused() {
        for line in [
            r#"{"custom_id":"a","expected_labels":{"topic":"x"}}"#,
            r#"{"custom_id":"a","expected_logits":{"topic":[1.0,0.75]}}"#,
            r#"{"custom_id":"a","expected_labels":{"topic":"x","mood":"y","tone":"z"}}"#,
            r#"{"custom_id":"a","expected_label":"x"}"#,
        ] {
            let refused = compare(&[answered("x", "y")], &parse_expected(line).unwrap());
            let told = refused.unwrap_err().to_string();
            assert!(
                told.contains("answered by the heads `mood`, `topic`"),
                "{told}"
            );
        }
        let expected = parse_expected(TWO_HEADS).unwrap();
        let refused = compare(&[row("a", "x", &[])], &expected).unwrap_err();
        assert!(refused.to_string().contains("one head without a name"));
    }

    #[test]
    fn labels_in_two_forms_or_of_other_heads_than_the_scores_are_refused() {
        for line in [
            r#"{"custom_id":"a","expected_label":"x","expected_labels":{"topic":"x"}}"#,
            r#"{"custom_id":"a","expected_label":"x","expected_logits":{"topic":[1.0]}}"#,
            r#"{"custom_id":"a","expected_labels":{"topic":"x"},"expected_logits":[1.0]}"#,
        ] {
            let refused = parse_expected(line);
            assert!(
                matches!(refused, Err(CompareError::TwoForms { line: 1 })),
                "{line}"
            );
        }
    }
}
