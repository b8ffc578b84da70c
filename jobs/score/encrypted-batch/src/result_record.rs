//! One padded line of a result file.
//!
//! Every record of a file has the same length whatever its answer is, so that the length of a
//! file says nothing but its number of rows.
//!
//! A model that is one head answers `{"label": …, "logits": […]}`, a model with `heads`
//! `{"labels": {head: …}, "logits": {head: […]}}`, the heads in the order of their rows.

use sealift_output_layer::Labels;
use serde::{Serialize, Serializer};

use crate::{OutputPolicy, results::ResultsError};

/// Shortest record: a name, a short label and what OpenAI's form takes around them.
pub const MIN_PAD: u32 = 128;

/// Longest record: full scores of some four thousand labels.
pub const MAX_PAD: u32 = 64 * 1024;

/// Scores are written within ±this: a logit beyond it decides nothing, and a bound on the digits
/// is what makes the record length independent of the answer.
const MAX_SCORE: f64 = 1e9;

/// Everything in a record but its variable members, with the longest id; the 32 cover what a fault
/// has in place of an answer.
const FRAME: usize =
    r#"{"id":"4294967295-4294967295","custom_id":,"response":{"status_code":200,"body":{"label":}},"#
        .len()
        + r#""error":null}"#.len()
        + 32;

/// Why a row has no answer. A closed list: a message of free text could carry what was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RowFault {
    /// The model reads another kind of body.
    WrongBody,
    /// The model reads another number of features.
    WrongWidth,
    /// A text that the tokenizer makes nothing of.
    NoTokens,
    /// The activations or scores of the row are not finite numbers.
    NotFinite,
    /// The activations of the row are outside the bound that its encrypted head is exact for.
    OutOfBound,
}

impl RowFault {
    const ALL: [Self; 5] = [
        Self::WrongBody,
        Self::WrongWidth,
        Self::NoTokens,
        Self::NotFinite,
        Self::OutOfBound,
    ];

    /// The code in the record.
    pub fn code(self) -> &'static str {
        match self {
            Self::WrongBody => "wrong_body",
            Self::WrongWidth => "wrong_width",
            Self::NoTokens => "no_tokens",
            Self::NotFinite => "not_finite",
            Self::OutOfBound => "out_of_bound",
        }
    }

    /// The fault that a record's code names.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.code() == code)
    }
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// One score per label, those of one head after those of another, before the output policy
    /// is applied.
    Scores(Vec<f32>),
    /// No answer.
    Fault(RowFault),
}

/// A row's name and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RowResult {
    /// The name of the input row.
    pub custom_id: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What the model's manifest says about its answers.
#[derive(Clone, Copy, Debug)]
pub struct ModelOutput<'a> {
    /// Labels of each head in the order of the scores.
    pub labels: &'a Labels,
    /// The most that the model's owner releases.
    pub limit: OutputPolicy,
}

#[derive(Serialize)]
struct Record<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<Response<'a>>,
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    body: Answer<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    One {
        label: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        logits: Option<Vec<serde_json::Number>>,
    },
    Heads {
        labels: InOrder<'a, &'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        logits: Option<InOrder<'a, Vec<serde_json::Number>>>,
    },
}

/// Members of an object in the order of the heads.
struct InOrder<'a, T>(Vec<(&'a str, T)>);

impl<T: Serialize> Serialize for InOrder<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(head, value)| (head, value)))
    }
}

#[derive(Serialize)]
struct Failure {
    code: &'static str,
}

/// Writes records of one file.
pub(crate) struct RecordWriter<'a> {
    pub(crate) partition: u32,
    pub(crate) policy: OutputPolicy,
    pub(crate) labels: &'a Labels,
    pub(crate) pad: u32,
}

impl RecordWriter<'_> {
    /// Appends the record of row `index`, padded with spaces; tells whether it is a fault.
    pub(crate) fn write(
        &self,
        index: u32,
        row: &RowResult,
        file: &mut Vec<u8>,
    ) -> Result<bool, ResultsError> {
        let start = file.len();
        let record = self.record(index, row)?;
        let fault = record.error.is_some();
        serde_json::to_writer(&mut *file, &record).map_err(ResultsError::Unwritable)?;
        let end = start + self.pad as usize;
        if file.len() >= end {
            file.truncate(start);
            return Err(ResultsError::PadTooSmall { pad: self.pad });
        }
        file.resize(end - 1, b' ');
        file.push(b'\n');
        Ok(fault)
    }

    /// Scores that are not finite become a fault here, so that a value never makes a file fail.
    fn record<'b>(&'b self, index: u32, row: &'b RowResult) -> Result<Record<'b>, ResultsError> {
        let outcome = match &row.outcome {
            Outcome::Fault(fault) => Err(*fault),
            Outcome::Scores(scores) if scores.len() != self.labels.outputs() => {
                return Err(ResultsError::Scores { row: index });
            }
            Outcome::Scores(scores) if !scores.iter().all(|s| s.is_finite()) => {
                Err(RowFault::NotFinite)
            }
            Outcome::Scores(scores) => Ok(Response {
                status_code: 200,
                body: self.answer(scores),
            }),
        };
        let error = outcome
            .as_ref()
            .err()
            .map(|fault| Failure { code: fault.code() });
        let response = outcome.ok();
        let id = format!("{}-{index}", self.partition);
        Ok(Record {
            id,
            custom_id: &row.custom_id,
            response,
            error,
        })
    }

    /// The answer of every head; there is one score for each label.
    fn answer(&self, scores: &[f32]) -> Answer<'_> {
        if let Some(labels) = self.labels.single() {
            let (label, logits) = self.head_answer(labels, scores);
            return Answer::One { label, logits };
        }
        let (mut labels, mut logits) = (Vec::new(), Vec::new());
        let mut rest = scores;
        for (head, names) in self.labels.each() {
            let (own, others) = rest.split_at(names.len());
            let (label, scores) = self.head_answer(names, own);
            let head = head.unwrap_or_default();
            labels.push((head, label));
            logits.extend(scores.map(|scores| (head, scores)));
            rest = others;
        }
        Answer::Heads {
            labels: InOrder(labels),
            logits: (!logits.is_empty()).then_some(InOrder(logits)),
        }
    }

    /// What the policy leaves of one head's scores.
    fn head_answer<'b>(
        &self,
        labels: &'b [String],
        scores: &[f32],
    ) -> (&'b str, Option<Vec<serde_json::Number>>) {
        let logits = match self.policy {
            OutputPolicy::Label => None,
            OutputPolicy::DangerousFullScores { decimals } => {
                let rounded = scores.iter().filter_map(|score| rounded(*score, decimals));
                Some(rounded.collect())
            }
        };
        let label = labels.get(best(scores)).map_or("", String::as_str);
        (label, logits)
    }

    /// Length that every record of a row of this name fits in, whatever its answer.
    fn worst_length(&self, custom_id: &str) -> usize {
        let heads = self.labels.each();
        let answers: usize = heads
            .map(|(head, labels)| self.worst_head(head, labels))
            .sum();
        let logits = match self.policy {
            OutputPolicy::Label => 0,
            // "logits":[…]
            OutputPolicy::DangerousFullScores { .. } => 14,
        };
        // `labels` has one letter more than `label`, and each object two braces.
        let objects = if self.labels.single().is_some() { 0 } else { 5 };
        FRAME + json_length(custom_id) + answers + logits + objects + 1
    }

    /// Length of the longest answer of one head.
    fn worst_head(&self, head: Option<&str>, labels: &[String]) -> usize {
        let lengths = labels.iter().map(|label| json_length(label));
        let label = lengths.max().unwrap_or_default();
        // The name, a colon and a comma.
        let name = head.map_or(0, |head| json_length(head) + 2);
        match self.policy {
            OutputPolicy::Label => name + label,
            OutputPolicy::DangerousFullScores { decimals } => {
                // Sign, ten digits, point, decimals and comma each; brackets around a head's.
                let scores = labels.len() * (usize::from(decimals) + 13);
                let brackets = head.map_or(0, |_| 2);
                2 * name + label + brackets + scores
            }
        }
    }
}

/// The least `pad` for rows of these names and a model with these labels, so that no answer can
/// be too long for its record.
pub fn needed_pad<'a>(
    policy: OutputPolicy,
    labels: &Labels,
    custom_ids: impl IntoIterator<Item = &'a str>,
) -> u32 {
    let writer = RecordWriter {
        partition: 0,
        policy,
        labels,
        pad: 0,
    };
    let longest = custom_ids
        .into_iter()
        .map(|id| writer.worst_length(id))
        .max();
    longest.map_or(MIN_PAD, |length| (length as u32).max(MIN_PAD))
}

fn json_length(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX / 4, |json| json.len())
}

/// Index of the highest score, the first of equals.
pub(crate) fn best(scores: &[f32]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best
}

/// A score as full scores are released: within ±10⁹, rounded half away from zero.
pub fn released_score(score: f32, decimals: u8) -> f64 {
    let grid = 10f64.powi(i32::from(decimals));
    let score = f64::from(score).clamp(-MAX_SCORE, MAX_SCORE);
    // Adding zero turns the negative zero of rounding into zero.
    (score * grid).round() / grid + 0.0
}

fn rounded(score: f32, decimals: u8) -> Option<serde_json::Number> {
    serde_json::Number::from_f64(released_score(score, decimals))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sealift_output_layer::HeadLabels;

    use super::*;

    fn any_policy() -> impl Strategy<Value = OutputPolicy> {
        prop_oneof![
            Just(OutputPolicy::Label),
            (0..=crate::MAX_DECIMALS)
                .prop_map(|decimals| OutputPolicy::DangerousFullScores { decimals }),
        ]
    }

    /// Up to three heads of up to five labels, or one head without a name.
    fn any_labels() -> impl Strategy<Value = Labels> {
        let labels = || proptest::collection::vec(".{0,20}", 1..6);
        let heads = proptest::collection::btree_map("[a-z_-]{1,9}", labels(), 1..4);
        prop_oneof![
            labels().prop_map(|labels| Labels::one(labels).unwrap()),
            heads.prop_map(|heads| {
                let named = heads
                    .into_iter()
                    .map(|(name, labels)| HeadLabels { name, labels });
                Labels::heads(named.collect()).unwrap()
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_answer_and_fault_fits_the_needed_pad(
            policy in any_policy(),
            labels in any_labels(),
            bits in proptest::collection::vec(any::<u32>(), 15),
            custom_id in ".{1,30}",
            index: u32,
        ) {
            let pad = needed_pad(policy, &labels, [custom_id.as_str()]);
            let writer = RecordWriter { partition: u32::MAX, policy, labels: &labels, pad };
            let bits = bits.into_iter().take(labels.outputs());
            let scores = bits.map(f32::from_bits).collect();
            let faults = RowFault::ALL.into_iter().map(Outcome::Fault);
            for outcome in faults.chain([Outcome::Scores(scores)]) {
                let row = RowResult { custom_id: custom_id.clone(), outcome };
                let mut file = Vec::new();
                prop_assert!(writer.write(index, &row, &mut file).is_ok());
                prop_assert_eq!(file.len(), pad as usize);
            }
        }
    }

    #[test]
    fn each_fault_is_read_back_from_its_code() {
        for fault in RowFault::ALL {
            assert_eq!(RowFault::from_code(fault.code()), Some(fault));
        }
        assert_eq!(RowFault::from_code("the label was positive"), None);
    }

    #[test]
    fn the_first_of_equal_scores_wins() {
        assert_eq!(best(&[0.5, 1.0, 1.0]), 1);
        assert_eq!(best(&[]), 0);
    }
}
