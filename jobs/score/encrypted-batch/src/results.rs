//! Result files: made by guest or key manager, opened by whom the user named.
//!
//! ```text
//! {"batch_sha256","manifest_sha256","partition","rows","run"} LF
//! ( record padded with spaces to `pad` bytes, LF included ){rows}
//! ```
//! inside one age file. age proves no sender: what counts is a file whose digest stands in a
//! verified receipt.

use std::collections::BTreeMap;

use sealift_signed_document::{Digest, DocumentError, parse_canonical};
use serde::{Deserialize, Serialize};

use crate::{
    AgeIdentity, AgeSealError, ByHead, ModelOutput, ResultsDraft, RowCounts, RowFault, RowResult,
    VerifiedBatch, VerifiedReceipt, age_file::open_age,
};

/// Line 1 of a result file: what the records answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultsHead {
    /// The batch document.
    pub batch_sha256: Digest,
    /// The partition's index.
    pub partition: u32,
    /// The model version.
    pub manifest_sha256: Digest,
    /// The run.
    pub run: String,
    /// Records that follow.
    pub rows: u32,
}

/// Name of a sealed partition in the store.
pub fn partition_object(batch: &Digest, partition: u32) -> String {
    format!("batches/{batch}/{partition}.age")
}

/// Name of a result file in the store: content-addressed, so that an attempt that was lost
/// between writing it and committing its receipt blocks nobody.
pub fn result_object(batch: &Digest, partition: u32, output: &Digest) -> String {
    format!("results/{batch}/{partition}/{output}.age")
}

/// Why results were not made or not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResultsError {
    /// The batch wants more than the model's owner releases.
    #[error("the batch asks for a wider output policy than the model version allows")]
    OutputPolicy,
    /// Head and rows are not about one partition of the batch.
    #[error("the results do not answer the rows of partition {0}")]
    OtherRows(u32),
    /// Some answer could be too long for its record.
    #[error(
        "a record may take more than the {pad} bytes that the batch pads to; \
         seal it again with a larger pad or shorter custom_ids"
    )]
    PadTooSmall {
        /// The batch's `pad`.
        pad: u32,
    },
    /// Not one score per label.
    #[error("row {row} does not have one score per label of the model")]
    Scores {
        /// Place in the partition.
        row: u32,
    },
    /// A record that has no JSON form.
    #[error("a result record could not be written")]
    Unwritable(#[source] serde_json::Error),
    /// Line 1 that has no canonical form.
    #[error("the first line of the results could not be written")]
    Head(#[source] DocumentError),
    /// The file could not be encrypted.
    #[error("the results could not be encrypted")]
    Age(#[source] AgeSealError),
    /// Not the file that the receipt is about.
    #[error("the result file of partition {0} is not the one in its receipt; it may be anybody's")]
    OtherFile(u32),
    /// Made for other recipients, or damaged before it was receipted.
    #[error("the result file of partition {partition} does not open with this identity")]
    Sealed {
        /// The partition.
        partition: u32,
        /// Why.
        #[source]
        source: age::DecryptError,
    },
    /// Line 1 says something else than the receipt.
    #[error("line 1 of the results of partition {0} does not fit its receipt")]
    OtherHead(u32),
    /// A record that is not in the form of records.
    #[error("record {row} of partition {partition} is malformed")]
    Record {
        /// The partition.
        partition: u32,
        /// Place in the partition.
        row: u32,
    },
}

/// A result file and what its receipt has to say about it.
#[derive(Clone, Debug)]
pub struct SealedResults {
    /// The age file.
    pub file: Vec<u8>,
    /// `output_sha256`.
    pub sha256: Digest,
    /// `rows`.
    pub rows: RowCounts,
}

/// Makes the result file of one partition for the recipients, under the policy and with the
/// padding that the user signed; nobody else's wishes are taken.
pub fn seal_results(
    batch: &VerifiedBatch,
    head: &ResultsHead,
    model: ModelOutput<'_>,
    rows: &[RowResult],
) -> Result<SealedResults, ResultsError> {
    let mut draft = ResultsDraft::begin(batch, head, model.limit)?;
    draft.push(model.labels, rows)?;
    draft.seal(batch)
}

/// One opened record.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRow {
    /// The name of the input row.
    pub custom_id: String,
    /// The label that each head gave, or why there is none.
    pub labels: Result<ByHead<String>, RowFault>,
    /// Rounded scores of each head, under [`crate::OutputPolicy::DangerousFullScores`].
    pub logits: Option<ByHead<Vec<f64>>>,
}

/// Results that a verified receipt stands for.
///
/// [`open_results`] is the only constructor.
#[derive(Clone, Debug)]
pub struct OpenedResults {
    head: ResultsHead,
    rows: Vec<ResultRow>,
    jsonl: Vec<u8>,
}

impl OpenedResults {
    /// What the records answer.
    pub fn head(&self) -> &ResultsHead {
        &self.head
    }

    /// The records in the order of the input rows.
    pub fn rows(&self) -> &[ResultRow] {
        &self.rows
    }

    /// The records as JSON lines without their padding.
    pub fn jsonl(&self) -> &[u8] {
        &self.jsonl
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(rename = "id")]
    _id: String,
    custom_id: String,
    response: Option<Response>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    #[serde(rename = "status_code")]
    _status_code: u16,
    body: Answer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    label: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    logits: Option<ByHead<Vec<f64>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    code: String,
}

/// Opens a result file that `receipt` is about.
///
/// `batch` is the batch that the receipt was verified for.
pub fn open_results(
    file: &[u8],
    identity: &AgeIdentity,
    batch: &VerifiedBatch,
    receipt: &VerifiedReceipt,
) -> Result<OpenedResults, ResultsError> {
    let receipt = receipt.document();
    let partition = receipt.partition;
    if receipt.batch_sha256 != batch.digest() || Digest::of(file) != receipt.output_sha256 {
        return Err(ResultsError::OtherFile(partition));
    }
    let plain =
        open_age(file, identity).map_err(|source| ResultsError::Sealed { partition, source })?;
    let expected = ResultsHead {
        batch_sha256: receipt.batch_sha256,
        partition,
        manifest_sha256: receipt.manifest_sha256,
        run: receipt.run.clone(),
        rows: receipt.rows.read,
    };
    let end = plain
        .iter()
        .position(|b| *b == b'\n')
        .ok_or(ResultsError::OtherHead(partition))?;
    let head: ResultsHead =
        parse_canonical(&plain[..end]).map_err(|_| ResultsError::OtherHead(partition))?;
    if head != expected {
        return Err(ResultsError::OtherHead(partition));
    }
    read_records(head, &plain[end + 1..], batch.document().pad as usize)
}

/// A line that is no opened result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no opened result; make the file with `sealift batch open`")]
pub struct ResultLineError {
    /// From 1.
    pub line: usize,
}

/// Reads JSON lines as [`OpenedResults::jsonl`] gives them, to compare them.
///
/// Nothing in a file of lines proves who wrote it: proofs end where results are opened.
pub fn parse_results(jsonl: &str) -> Result<Vec<ResultRow>, ResultLineError> {
    let parsed = |(index, line): (usize, &str)| {
        read_record(line.as_bytes()).ok_or(ResultLineError { line: index + 1 })
    };
    jsonl.lines().enumerate().map(parsed).collect()
}

fn read_records(
    head: ResultsHead,
    records: &[u8],
    pad: usize,
) -> Result<OpenedResults, ResultsError> {
    let partition = head.partition;
    let whole = records.len() / pad;
    if records.len() != head.rows as usize * pad {
        return Err(ResultsError::Record {
            partition,
            row: whole as u32,
        });
    }
    let mut rows = Vec::with_capacity(whole);
    let mut jsonl = Vec::with_capacity(records.len());
    for (index, record) in records.chunks_exact(pad).enumerate() {
        let malformed = ResultsError::Record {
            partition,
            row: index as u32,
        };
        let Some(record) = record.strip_suffix(b"\n") else {
            return Err(malformed);
        };
        rows.push(read_record(record).ok_or(malformed)?);
        jsonl.extend_from_slice(record.trim_ascii_end());
        jsonl.push(b'\n');
    }
    Ok(OpenedResults { head, rows, jsonl })
}

fn read_record(record: &[u8]) -> Option<ResultRow> {
    let Record {
        custom_id,
        response,
        error,
        ..
    } = serde_json::from_slice(record).ok()?;
    let (labels, logits) = match (response, error) {
        (Some(Response { body, .. }), None) => {
            let (labels, logits) = read_answer(body)?;
            (Ok(labels), logits)
        }
        (None, Some(Failure { code })) => (Err(RowFault::from_code(&code)?), None),
        _ => return None,
    };
    Some(ResultRow {
        custom_id,
        labels,
        logits,
    })
}

/// Labels of one head or of several, and scores of the same heads, if any.
type HeadAnswers = (ByHead<String>, Option<ByHead<Vec<f64>>>);

fn read_answer(answer: Answer) -> Option<HeadAnswers> {
    let labels = match (answer.label, answer.labels) {
        (Some(label), None) => ByHead::One(label),
        (None, Some(labels)) if !labels.is_empty() => ByHead::Named(labels),
        _ => return None,
    };
    let logits = answer.logits;
    let fits = |logits: &ByHead<_>| labels.has_heads_of(logits);
    logits.as_ref().is_none_or(fits).then_some((labels, logits))
}
