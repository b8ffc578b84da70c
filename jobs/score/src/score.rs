//! `score@1`: has one partition scored by the pod's attested guest.
//!
//! Leaves a result file in the store under its own digest, a receipt with the key manager, and the
//! guest's certificate in the run's artifacts. Of all receipts of a partition the key manager
//! counts the first, so doing it twice changes nothing. There is nothing to undo.

use std::sync::Arc;

use schemars::JsonSchema;
use sealift_attest::AttestedGuests;
use sealift_job::{Job, JobContext, JobError, UndoError};
use sealift_provision::Pod;
use sealift_signed_document::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    BatchReference, PartitionReference, UserBatch,
    dispatch::{Dispatch, Dispatcher},
    partition::unusable,
};

/// What, and by which pod.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The pod.
    pub pod: Pod,
    /// The batch.
    pub batch: BatchReference,
    /// The partition.
    pub partition: PartitionReference,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The scored partition.
    pub part: Part,
}

/// A scored partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Place in the batch, from 0.
    pub index: u32,
    /// The serial of the version that scored it.
    pub serial: u64,
    /// Rows read.
    pub rows_in: u32,
    /// Rows answered.
    pub rows_ok: u32,
    /// Rows that have an error instead of an answer.
    pub rows_error: u32,
    /// SHA-256 of this attempt's result file, hex.
    #[schemars(with = "String")]
    pub output_sha256: Digest,
    /// Whether this attempt's receipt is the one that counts; otherwise an earlier one does.
    pub counted: bool,
}

/// `score@1`.
pub struct Score {
    dispatcher: Dispatcher,
}

impl Score {
    /// Dispatches to the guests of `guests`.
    pub fn new(guests: Arc<AttestedGuests>) -> Self {
        Self {
            dispatcher: Dispatcher::new(guests),
        }
    }
}

impl Job for Score {
    const KIND: &'static str = "score@1";

    type Input = Input;
    type Output = Output;

    async fn run(&self, input: &Input, context: &JobContext) -> Result<Output, JobError> {
        let operation = format!("score partition {}", input.partition.index);
        let opened = UserBatch::open_referenced(&input.batch)
            .map_err(|error| unusable(&operation, error))?;
        let entry = opened
            .partition(&input.partition)
            .map_err(|error| unusable(&operation, error))?;
        let rows = u64::from(entry.rows);
        context.progress(0, rows, "rows");
        let asked = Dispatch {
            batch: opened.batch().envelope().clone(),
            user_key: *opened.batch().user_key(),
            partition: entry.index,
            run: context.run().to_owned(),
            attempt: context.attempt(),
        };
        let scored = tokio::select! {
            scored = self.dispatcher.score(&input.pod, &asked, context) => scored,
            () = context.cancellation().cancelled() => {
                return Err(JobError::transient(operation, "the attempt was asked to stop"));
            }
        };
        let scored = scored.map_err(|error| error.into_job_error(operation))?;
        context.progress(rows, rows, "rows");
        let counts = if scored.counted {
            ""
        } else {
            "; an earlier receipt counts"
        };
        let (index, seconds) = (entry.index, scored.seconds);
        context.log(format!(
            "partition {index}: {rows} rows in {seconds:.1} s{counts}"
        ));
        let part = Part {
            index: entry.index,
            serial: input.pod.serial,
            rows_in: scored.rows.read,
            rows_ok: scored.rows.ok,
            rows_error: scored.rows.error,
            output_sha256: scored.output_sha256,
            counted: scored.counted,
        };
        Ok(Output { part })
    }

    async fn undo(
        &self,
        _input: &Input,
        _output: Option<&Output>,
        _context: &JobContext,
    ) -> Result<(), UndoError> {
        Ok(())
    }
}
