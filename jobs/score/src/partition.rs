//! `partition@1`: puts the sealed partitions of a user's batch where guests read them.
//!
//! Leaves one object per partition in the store, under the batch's digest, created once. Undo
//! leaves them: they are ciphertext that another run of the same batch may be using.

use std::path::PathBuf;

use schemars::JsonSchema;
use sealift_encrypted_batch::{FolderError, Partition, partition_file, read_partition};
use sealift_job::{Job, JobContext, JobError, UndoError};
use sealift_signed_document::Digest;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::{
    BatchReference, BatchStore, BatchStoreError, PartitionReference, UserBatch, UserBatchError,
};

/// Which batch.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder that `sealift batch seal` made.
    pub batch: PathBuf,
}

/// The batch and its parts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The batch.
    pub batch: BatchReference,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionReference>,
}

/// `partition@1`.
pub struct SplitBatch {
    store: BatchStore,
}

impl SplitBatch {
    /// Uploads to `store`.
    pub fn new(store: BatchStore) -> Self {
        Self { store }
    }
}

impl Job for SplitBatch {
    const KIND: &'static str = "partition@1";

    type Input = Input;
    type Output = Output;

    async fn run(&self, input: &Input, context: &JobContext) -> Result<Output, JobError> {
        let opened =
            UserBatch::open(&input.batch).map_err(|error| unusable("read the batch", error))?;
        let partitions = &opened.batch().document().partitions;
        let total = partitions.len() as u64;
        context.progress(0, total, "partitions");
        for (done, partition) in partitions.iter().enumerate() {
            context.stop_if_cancelled()?;
            self.upload(&opened, partition).await?;
            context.progress(done as u64 + 1, total, "partitions");
        }
        let partitions = partitions.iter().map(PartitionReference::of).collect();
        Ok(Output {
            batch: opened.reference(),
            partitions,
        })
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

impl SplitBatch {
    async fn upload(&self, opened: &UserBatch, entry: &Partition) -> Result<(), JobError> {
        let operation = format!("upload partition {}", entry.index);
        let (folder, entry) = (opened.folder().to_owned(), entry.clone());
        let (batch, index, sha256) = (opened.batch().digest(), entry.index, entry.sha256);
        let reading = spawn_blocking(move || checked(folder, &entry));
        let read = reading
            .await
            .map_err(|error| JobError::transient(&operation, error))?;
        let file = read.map_err(|error| unusable(&operation, error))?;
        let kept = self
            .store
            .keep_partition(&batch, index, (&sha256, file))
            .await;
        kept.map_err(|error| store_failure(operation, error))
    }
}

/// A partition's file, if it is the one that the user signed for.
fn checked(folder: PathBuf, entry: &Partition) -> Result<Vec<u8>, UserBatchError> {
    let changed = |folder: PathBuf| UserBatchError::ChangedPartition {
        path: folder.join(partition_file(entry.index)),
    };
    match read_partition(&folder, entry.index) {
        Ok(file) if file.len() as u64 == entry.bytes && Digest::of(&file) == entry.sha256 => {
            Ok(file)
        }
        Ok(_) | Err(FolderError::TooLarge { .. }) => Err(changed(folder)),
        Err(error) => Err(UserBatchError::Folder(error)),
    }
}

pub(crate) fn unusable(operation: &str, error: UserBatchError) -> JobError {
    let remedy = error.remedy();
    JobError::permanent(operation, remedy, error)
}

pub(crate) fn store_failure(operation: String, error: BatchStoreError) -> JobError {
    if error.is_transient() {
        JobError::transient(operation, error)
    } else {
        let remedy = "look at the object in the store; remove it if it was damaged, then run again";
        JobError::permanent(operation, remedy, error)
    }
}
