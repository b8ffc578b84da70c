//! The result file of one partition in the making.

use sealift_output_layer::Labels;
use sealift_signed_document::{Digest, canonical_json};
use zeroize::Zeroizing;

use crate::{
    OutputPolicy, ResultsError, ResultsHead, RowCounts, RowResult, SealedResults, VerifiedBatch,
    age_file::seal_age,
    result_record::{RecordWriter, needed_pad},
};

/// Most bytes of the records of one partition that a key manager makes: a longer file, encoded,
/// does not fit its answer of 64 MiB.
pub const MAX_DECRYPTED_BYTES: u64 = 46 << 20;

/// The records of a partition that are known so far. Rows come in order, in as many parts as
/// their maker computes them in; every part is under the policy and with the padding that the
/// user signed, and nobody else's wishes are taken.
pub struct ResultsDraft {
    partition: u32,
    policy: OutputPolicy,
    pad: u32,
    /// Records that the file will have.
    expected: u32,
    /// Records that it has.
    rows: u32,
    errors: u32,
    plain: Zeroizing<Vec<u8>>,
}

/// A copy has the room of the original: a vector's own would grow, and leave copies behind.
impl Clone for ResultsDraft {
    fn clone(&self) -> Self {
        let mut plain = Zeroizing::new(Vec::with_capacity(self.plain.capacity()));
        plain.extend_from_slice(&self.plain);
        Self { plain, ..*self }
    }
}

impl ResultsDraft {
    /// A draft without a row, if `head` is about a partition of `batch` and the batch asks for no
    /// more than `limit`.
    pub fn begin(
        batch: &VerifiedBatch,
        head: &ResultsHead,
        limit: OutputPolicy,
    ) -> Result<Self, ResultsError> {
        let document = batch.document();
        let known = batch.partition(head.partition);
        let fits = known.is_ok_and(|entry| entry.rows == head.rows);
        if !fits || head.batch_sha256 != batch.digest() {
            return Err(ResultsError::OtherRows(head.partition));
        }
        if !document.output_policy.within(limit) {
            return Err(ResultsError::OutputPolicy);
        }
        let line = canonical_json(head).map_err(ResultsError::Head)?;
        // Reserved in full, so that no growing buffer leaves copies of answers behind. The bound
        // holds for key managers; a guest makes longer files, of rows that it has already read.
        let records = u64::from(head.rows).saturating_mul(u64::from(document.pad));
        let room = line.len() + 1 + records.min(MAX_DECRYPTED_BYTES) as usize;
        let mut plain = Zeroizing::new(Vec::with_capacity(room));
        plain.extend_from_slice(&line);
        plain.push(b'\n');
        Ok(Self {
            partition: head.partition,
            policy: document.output_policy,
            pad: document.pad,
            expected: head.rows,
            rows: 0,
            errors: 0,
            plain,
        })
    }

    /// Records so far.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Whether every row of the partition has its record.
    pub fn is_complete(&self) -> bool {
        self.rows == self.expected
    }

    /// Appends the records of the next rows. Whether it is refused depends on names and sizes
    /// only, and so says nothing about an answer.
    pub fn push(&mut self, labels: &Labels, rows: &[RowResult]) -> Result<(), ResultsError> {
        let left = (self.expected - self.rows) as usize;
        if rows.len() > left {
            return Err(ResultsError::OtherRows(self.partition));
        }
        let ids = rows.iter().map(|row| row.custom_id.as_str());
        if needed_pad(self.policy, labels, ids) > self.pad {
            return Err(ResultsError::PadTooSmall { pad: self.pad });
        }
        let writer = RecordWriter {
            partition: self.partition,
            policy: self.policy,
            labels,
            pad: self.pad,
        };
        let room = self.plain.capacity();
        for row in rows {
            self.errors += u32::from(writer.write(self.rows, row, &mut self.plain)?);
            self.rows += 1;
        }
        debug_assert!(
            self.plain.capacity() == room || self.plain.len() as u64 > MAX_DECRYPTED_BYTES,
            "records are no longer than their room"
        );
        Ok(())
    }

    /// Makes the file for the recipients that `batch`, the one it was begun for, names.
    pub fn seal(&self, batch: &VerifiedBatch) -> Result<SealedResults, ResultsError> {
        if !self.is_complete() {
            return Err(ResultsError::OtherRows(self.partition));
        }
        let file = seal_age(&self.plain, &batch.document().result_recipients)
            .map_err(ResultsError::Age)?;
        let rows = RowCounts {
            read: self.rows,
            ok: self.rows - self.errors,
            error: self.errors,
        };
        Ok(SealedResults {
            sha256: Digest::of(&file),
            file,
            rows,
        })
    }
}
