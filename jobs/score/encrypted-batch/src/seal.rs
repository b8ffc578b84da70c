//! The model user's first step: rows in, a signed batch and sealed partitions out.

use std::path::Path;

use sealift_signed_document::{Digest, DocumentError, Envelope, SigningKey, sign};

use crate::{
    AgeRecipient, AgeSealError, Assurance, Batch, BatchError, BatchId, GrantRecipient, HeaderError,
    InputRow, OutputPolicy, Partition, RowsError, VersionScope,
    age_file::seal_age,
    age_header::AgeHeader,
    batch::check_structure,
    folder::{BatchFolder, FolderError},
    row::{parse_rows, write_rows},
};

/// What the user decides about a batch.
#[derive(Clone, Debug)]
pub struct SealOptions {
    /// Rows per sealed file: one file is one task, retried as a whole.
    pub rows_per_partition: usize,
    /// Length of each result record in bytes; [`crate::needed_pad`] computes the least.
    pub pad: u32,
    /// Who may open the results.
    pub result_recipients: Vec<AgeRecipient>,
    /// The versions that may score the batch.
    pub versions: VersionScope,
    /// The guests that are accepted: [`crate::guest_policy_sha256`].
    pub guest_policy_sha256: Digest,
    /// The weakest attestation that is accepted.
    pub min_assurance: Assurance,
    /// What an answer may say.
    pub output_policy: OutputPolicy,
    /// End of the batch, Unix seconds.
    pub not_after: u64,
    /// How often one partition may be unwrapped.
    pub max_attempts: u32,
}

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchSealError {
    /// Lines that are not rows.
    #[error("the input has lines that are not rows")]
    Rows(#[source] RowsError),
    /// No rows in a partition.
    #[error("a partition needs at least one row; raise rows per partition above 0")]
    NoRowsPerPartition,
    /// A file could not be encrypted.
    #[error("partition {index} could not be encrypted")]
    Age {
        /// The partition.
        index: u32,
        /// Why.
        #[source]
        source: AgeSealError,
    },
    /// A file was written that would not be read.
    #[error("partition {index} was encrypted into a header that is not accepted")]
    Header {
        /// The partition.
        index: u32,
        /// Why.
        #[source]
        source: HeaderError,
    },
    /// The options do not make a batch.
    #[error("the batch would be refused")]
    Batch(#[source] BatchError),
    /// The batch could not be signed.
    #[error("the batch document could not be signed")]
    Sign(#[source] DocumentError),
    /// The folder could not be written.
    #[error("the batch folder could not be written")]
    Folder(#[source] FolderError),
}

/// A batch that was written.
#[derive(Clone, Debug)]
pub struct SealedBatch {
    /// The signed document, as `batch.dsse.json` holds it.
    pub envelope: Envelope,
    /// What it says.
    pub batch: Batch,
}

/// Seals the rows of `jsonl` for the recipient of a grant into the new folder `folder`.
///
/// Partitions come first and the signed document last, so a folder with a document is whole.
/// The folder must not exist; one without a document is what an interrupted call leaves.
pub fn seal_batch(
    jsonl: &[u8],
    to: &GrantRecipient,
    user: &SigningKey,
    options: &SealOptions,
    folder: &Path,
) -> Result<SealedBatch, BatchSealError> {
    let (shape, rows) = parse_rows(jsonl).map_err(BatchSealError::Rows)?;
    if options.rows_per_partition == 0 {
        return Err(BatchSealError::NoRowsPerPartition);
    }
    let mut batch = draft(to, shape.digest(), options);
    let folder = BatchFolder::create(folder).map_err(BatchSealError::Folder)?;
    for (index, rows) in rows.chunks(options.rows_per_partition).enumerate() {
        let (entry, file) = seal_partition(index as u32, rows, &to.ack().age_recipient)?;
        folder
            .write_partition(entry.index, &file)
            .map_err(BatchSealError::Folder)?;
        batch.partitions.push(entry);
    }
    check_structure(&batch).map_err(BatchSealError::Batch)?;
    let envelope = sign(&batch, user).map_err(BatchSealError::Sign)?;
    folder
        .write_document(&envelope)
        .map_err(BatchSealError::Folder)?;
    Ok(SealedBatch { envelope, batch })
}

fn draft(to: &GrantRecipient, schema_sha256: Digest, options: &SealOptions) -> Batch {
    Batch {
        batch: BatchId::random(),
        grant: to.ack().grant,
        model: to.ack().model.clone(),
        versions: options.versions.clone(),
        guest_policy_sha256: options.guest_policy_sha256,
        min_assurance: options.min_assurance,
        output_policy: options.output_policy,
        result_recipients: options.result_recipients.clone(),
        pad: options.pad,
        schema_sha256,
        not_after: options.not_after,
        max_attempts: options.max_attempts,
        partitions: Vec::new(),
    }
}

fn seal_partition(
    index: u32,
    rows: &[InputRow],
    to: &AgeRecipient,
) -> Result<(Partition, Vec<u8>), BatchSealError> {
    let file = seal_age(&write_rows(rows), std::slice::from_ref(to))
        .map_err(|source| BatchSealError::Age { index, source })?;
    let (header, _) = AgeHeader::parse_prefix(&file)
        .map_err(|source| BatchSealError::Header { index, source })?;
    let entry = Partition {
        index,
        sha256: Digest::of(&file),
        bytes: file.len() as u64,
        rows: rows.len() as u32,
        header_sha256: header.digest(),
    };
    Ok((entry, file))
}
