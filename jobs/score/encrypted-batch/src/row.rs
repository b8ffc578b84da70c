//! Input rows: one JSON object per line.
//!
//! ```text
//! {"custom_id": "r-1", "body": {"text": "…"}}
//! {"custom_id": "r-2", "body": {"features": [1.5, 2]}}
//! ```
//! Lines of OpenAI batch files load unchanged: `method` and `url` are accepted and ignored.
//! Problems are told by line and column and never quote a row, because a confidential guest may
//! have to log them.

use std::{collections::HashMap, fmt};

use sealift_signed_document::{Digest, canonical_json, named_hash};
use serde::{Deserialize, Serialize};

/// Longest line: four times the longest text that a model with 512 positions makes use of, in
/// any script, would fit many times over.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// Longest `custom_id`: it is repeated in each padded result record.
pub const MAX_CUSTOM_ID_BYTES: usize = 128;

/// Most features of a row: wider tabular models do not exist in practice.
pub const MAX_FEATURES: usize = 1 << 16;

/// Problems listed before the rest is only counted: more do not fit a screen.
const MAX_LISTED: usize = 20;

/// What a model is asked about.
#[derive(Clone, Debug, PartialEq)]
pub enum RowBody {
    /// Text for a language model.
    Text(String),
    /// Numbers for a tabular model; finite.
    Features(Vec<f32>),
}

/// One row of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct InputRow {
    /// The user's name for the row, unique in its batch.
    pub custom_id: String,
    /// What is asked.
    pub body: RowBody,
}

/// The form that all rows of a batch share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "body", rename_all = "snake_case", deny_unknown_fields)]
pub enum RowShape {
    /// `body.text`
    Text,
    /// `body.features` of one width.
    Features {
        /// How many features each row has.
        columns: u32,
    },
}

impl RowShape {
    /// `schema_sha256` of a batch: H("row-shape", JCS(self)).
    pub fn digest(&self) -> Digest {
        let bytes = canonical_json(self).expect("a tag and an integer have a canonical form");
        named_hash("row-shape", &bytes)
    }

    /// The shape of one row.
    pub fn of(row: &InputRow) -> Self {
        match &row.body {
            RowBody::Text(_) => Self::Text,
            RowBody::Features(features) => Self::Features {
                columns: features.len() as u32,
            },
        }
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowProblem {
    /// Not JSON.
    #[error("is not JSON at column {column}")]
    Syntax {
        /// Where reading stopped, from 1.
        column: usize,
    },
    /// JSON of another form.
    #[error(
        "is not a row at column {column}; \
         write {{\"custom_id\": \"…\", \"body\": {{\"text\": \"…\"}}}} or {{\"features\": [numbers]}}"
    )]
    Form {
        /// Where reading stopped, from 1.
        column: usize,
    },
    /// Nothing on the line.
    #[error("is empty; remove it")]
    Empty,
    /// Longer than any row that is read.
    #[error("has {0} bytes, more than {MAX_LINE_BYTES}")]
    TooLong(usize),
    /// Neither or both kinds of body.
    #[error("needs exactly one of `body.text` and `body.features`")]
    Body,
    /// No name, or one that is too long to repeat in each record.
    #[error("needs a `custom_id` of 1 to {MAX_CUSTOM_ID_BYTES} bytes")]
    CustomId,
    /// A number that no `f32` holds.
    #[error("feature {0} is not a finite 32-bit number")]
    Feature(usize),
    /// None, or more than are read.
    #[error("needs 1 to {MAX_FEATURES} features, has {0}")]
    FeatureCount(usize),
    /// A name that an earlier line has.
    #[error("repeats the `custom_id` of line {0}")]
    Repeated(usize),
    /// A row that does not fit the first one.
    #[error("has another kind of body or another number of features than line 1")]
    OtherShape,
}

/// A problem and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub problem: RowProblem,
}

/// Rows that cannot be read; nothing is sealed or scored of a file that has such lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsError {
    /// The first problems, in order of their lines; empty if the file has no line at all.
    pub errors: Vec<RowError>,
    /// How many more there are.
    pub more: usize,
}

impl std::error::Error for RowsError {}

impl fmt::Display for RowsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.errors.is_empty() {
            return f.write_str("there are no rows");
        }
        for (place, RowError { line, problem }) in self.errors.iter().enumerate() {
            let separator = if place == 0 { "" } else { "\n" };
            write!(f, "{separator}line {line} {problem}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more lines", self.more)?;
        }
        Ok(())
    }
}

/// Rows of one shape with distinct names, and that shape.
pub fn parse_rows(jsonl: &[u8]) -> Result<(RowShape, Vec<InputRow>), RowsError> {
    let mut reader = Reader::default();
    let body = jsonl.strip_suffix(b"\n").unwrap_or(jsonl);
    if !body.is_empty() {
        for line in body.split(|b| *b == b'\n') {
            reader.read(line);
        }
    }
    match reader.shape {
        Some(shape) if reader.failed == 0 => Ok((shape, reader.rows)),
        _ => Err(RowsError {
            more: reader.failed - reader.errors.len(),
            errors: reader.errors,
        }),
    }
}

#[derive(Default)]
struct Reader {
    line: usize,
    shape: Option<RowShape>,
    rows: Vec<InputRow>,
    lines_by_id: HashMap<String, usize>,
    errors: Vec<RowError>,
    failed: usize,
}

impl Reader {
    fn read(&mut self, line: &[u8]) {
        self.line += 1;
        match parse_row(line).and_then(|row| self.check_against_others(row)) {
            Ok(row) => self.rows.push(row),
            Err(problem) => {
                self.failed += 1;
                if self.errors.len() < MAX_LISTED {
                    self.errors.push(RowError {
                        line: self.line,
                        problem,
                    });
                }
            }
        }
    }

    fn check_against_others(&mut self, row: InputRow) -> Result<InputRow, RowProblem> {
        let shape = RowShape::of(&row);
        if *self.shape.get_or_insert(shape) != shape {
            return Err(RowProblem::OtherShape);
        }
        if let Some(first) = self.lines_by_id.insert(row.custom_id.clone(), self.line) {
            return Err(RowProblem::Repeated(first));
        }
        Ok(row)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    custom_id: String,
    #[serde(rename = "method")]
    _method: Option<String>,
    #[serde(rename = "url")]
    _url: Option<String>,
    body: Body,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    text: Option<String>,
    features: Option<Vec<f64>>,
}

fn parse_row(line: &[u8]) -> Result<InputRow, RowProblem> {
    if line.trim_ascii().is_empty() {
        return Err(RowProblem::Empty);
    }
    if line.len() > MAX_LINE_BYTES {
        return Err(RowProblem::TooLong(line.len()));
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        let column = error.column();
        if error.is_data() {
            RowProblem::Form { column }
        } else {
            RowProblem::Syntax { column }
        }
    })?;
    if line.custom_id.is_empty() || line.custom_id.len() > MAX_CUSTOM_ID_BYTES {
        return Err(RowProblem::CustomId);
    }
    let body = match (line.body.text, line.body.features) {
        (Some(text), None) => RowBody::Text(text),
        (None, Some(features)) => RowBody::Features(narrow(&features)?),
        _ => return Err(RowProblem::Body),
    };
    Ok(InputRow {
        custom_id: line.custom_id,
        body,
    })
}

fn narrow(features: &[f64]) -> Result<Vec<f32>, RowProblem> {
    if features.is_empty() || features.len() > MAX_FEATURES {
        return Err(RowProblem::FeatureCount(features.len()));
    }
    let finite = |(index, value): (usize, &f64)| {
        let narrow = *value as f32;
        if narrow.is_finite() {
            Ok(narrow)
        } else {
            Err(RowProblem::Feature(index))
        }
    };
    features.iter().enumerate().map(finite).collect()
}

/// Writes rows as [`parse_rows`] reads them.
pub(crate) fn write_rows(rows: &[InputRow]) -> Vec<u8> {
    let mut jsonl = Vec::new();
    for row in rows {
        let body = match &row.body {
            RowBody::Text(text) => serde_json::json!({ "text": text }),
            RowBody::Features(features) => serde_json::json!({ "features": features }),
        };
        let line = serde_json::json!({ "custom_id": row.custom_id, "body": body });
        jsonl.extend_from_slice(line.to_string().as_bytes());
        jsonl.push(b'\n');
    }
    jsonl
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(line: &str) -> RowProblem {
        let jsonl = format!("{{\"custom_id\":\"a\",\"body\":{{\"features\":[1]}}}}\n{line}\n");
        let error = parse_rows(jsonl.as_bytes()).unwrap_err();
        assert_eq!((error.errors.len(), error.errors[0].line), (1, 2), "{line}");
        error.errors[0].problem.clone()
    }

    #[test]
    fn an_open_ai_batch_line_loads_unchanged() {
        let line = r#"{"custom_id":"a","method":"POST","url":"/v1/x","body":{"text":"hi"}}"#;
        let (shape, rows) = parse_rows(line.as_bytes()).unwrap();
        assert_eq!(shape, RowShape::Text);
        assert_eq!(rows[0].body, RowBody::Text("hi".into()));
    }

    #[test]
    fn a_spoiled_line_is_refused_with_its_number() {
        use RowProblem as P;
        let cases = [
            (
                r#"{"custom_id":"b","body":{"features":[1]}"#,
                P::Syntax { column: 40 },
            ),
            (
                r#"{"custom_id":"b","body":{"features":[1]},"x":1}"#,
                P::Form { column: 44 },
            ),
            (
                r#"{"custom_id":"b","body":{"features":["1"]}}"#,
                P::Form { column: 40 },
            ),
            (
                r#"{"custom_id":7,"body":{"features":[1]}}"#,
                P::Form { column: 14 },
            ),
            (r#"{"custom_id":"b"}"#, P::Form { column: 17 }),
            ("", P::Empty),
            ("  ", P::Empty),
            (r#"{"custom_id":"b","body":{}}"#, P::Body),
            (
                r#"{"custom_id":"b","body":{"text":"x","features":[1]}}"#,
                P::Body,
            ),
            (r#"{"custom_id":"","body":{"features":[1]}}"#, P::CustomId),
            (
                r#"{"custom_id":"b","body":{"features":[1e39]}}"#,
                P::Feature(0),
            ),
            (
                r#"{"custom_id":"b","body":{"features":[]}}"#,
                P::FeatureCount(0),
            ),
            (
                r#"{"custom_id":"a","body":{"features":[1]}}"#,
                P::Repeated(1),
            ),
            (
                r#"{"custom_id":"b","body":{"features":[1,2]}}"#,
                P::OtherShape,
            ),
            (r#"{"custom_id":"b","body":{"text":"x"}}"#, P::OtherShape),
        ];
        for (line, expected) in cases {
            assert_eq!(problem(line), expected, "{line}");
        }
    }

    #[test]
    fn a_member_written_twice_is_refused() {
        let line = r#"{"custom_id":"b","custom_id":"c","body":{"features":[1]}}"#;
        assert!(matches!(problem(line), RowProblem::Form { .. }));
    }

    #[test]
    fn a_file_without_rows_is_refused() {
        for jsonl in ["", "\n"] {
            let error = parse_rows(jsonl.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "there are no rows");
        }
    }

    #[test]
    fn no_problem_quotes_the_row() {
        let secret = r#"{"custom_id":"b","body":{"text":["hunter2"]}}"#;
        assert!(!problem(secret).to_string().contains("hunter2"));
    }

    #[test]
    fn only_the_first_problems_are_listed_and_the_rest_counted() {
        let error = parse_rows("{\n".repeat(50).as_bytes()).unwrap_err();
        assert_eq!((error.errors.len(), error.more), (20, 30));
    }

    #[test]
    fn shapes_have_distinct_digests() {
        let shapes = [
            RowShape::Text,
            RowShape::Features { columns: 1 },
            RowShape::Features { columns: 2 },
        ];
        for (place, shape) in shapes.iter().enumerate() {
            assert!(
                shapes[..place]
                    .iter()
                    .all(|other| other.digest() != shape.digest())
            );
        }
    }

    proptest! {
        #[test]
        fn written_rows_are_read_back(texts in proptest::collection::vec(".*", 1..5)) {
            let rows: Vec<_> = texts
                .into_iter()
                .enumerate()
                .map(|(id, text)| InputRow { custom_id: id.to_string(), body: RowBody::Text(text) })
                .collect();
            prop_assert_eq!(parse_rows(&write_rows(&rows)).unwrap().1, rows);
        }

        #[test]
        fn features_survive_bit_for_bit(features in proptest::collection::vec(-1e30f32..1e30, 1..9)) {
            let row = InputRow { custom_id: "r".into(), body: RowBody::Features(features) };
            let rows = vec![row];
            prop_assert_eq!(parse_rows(&write_rows(&rows)).unwrap().1, rows);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            drop(parse_rows(&bytes));
        }
    }
}
