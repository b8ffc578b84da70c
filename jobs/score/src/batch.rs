//! The user's batch folder, as the operator reads it.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use sealift_encrypted_batch::{
    BatchError, FolderError, Partition, USER_KEY_FILE, VerifiedBatch, read_batch,
};
use sealift_signed_document::{Digest, DocumentError, VerifyingKey};
use serde::{Deserialize, Serialize};

/// Longest [`USER_KEY_FILE`]: 44 characters and a line feed.
const MAX_USER_KEY_BYTES: u64 = 64;

/// A batch, as jobs tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchReference {
    /// SHA-256 of the batch document's envelope, hex.
    #[schemars(with = "String")]
    pub sha256: Digest,
    /// The user's batch folder.
    pub folder: PathBuf,
    /// The key that signed the batch, standard base64.
    #[schemars(with = "String")]
    pub user_key: VerifyingKey,
}

/// A partition of a batch, as jobs tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartitionReference {
    /// Place in the batch, from 0.
    pub index: u32,
    /// Rows inside.
    pub rows: u32,
    /// Length of its sealed file.
    pub bytes: u64,
    /// SHA-256 of its sealed file, hex.
    #[schemars(with = "String")]
    pub sha256: Digest,
}

impl PartitionReference {
    pub(crate) fn of(partition: &Partition) -> Self {
        let Partition {
            index,
            sha256,
            bytes,
            rows,
            ..
        } = *partition;
        Self {
            index,
            rows,
            bytes,
            sha256,
        }
    }
}

/// Why a batch folder is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserBatchError {
    /// The document or a partition cannot be read.
    #[error("the batch folder is not complete")]
    Folder(#[source] FolderError),
    /// The key cannot be read.
    #[error("`{}` cannot be read", path.display())]
    UserKey {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// Not a key.
    #[error("`{}` does not hold a public key", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: DocumentError,
    },
    /// The document was not signed by that key, or is not well formed.
    #[error("the batch document is not accepted")]
    Batch(#[source] BatchError),
    /// Another batch stands in the folder than when the run began.
    #[error("`{}` holds another batch than this run began with", folder.display())]
    OtherBatch {
        /// The folder.
        folder: PathBuf,
    },
    /// The batch has no such partition.
    #[error("the batch has no partition {0} as this run knows it")]
    OtherPartition(u32),
    /// A partition that is not the one the user signed for.
    #[error("`{}` is not the partition that the batch lists; it was changed or cut off", path.display())]
    ChangedPartition {
        /// The file.
        path: PathBuf,
    },
}

impl UserBatchError {
    /// What a person can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Folder(_) | Self::ChangedPartition { .. } => {
                "restore the file from where the batch was sealed, or seal the batch again"
            }
            Self::UserKey { .. } | Self::NoKey { .. } => {
                "seal the batch again with this version of `sealift batch seal`, which leaves the \
                 user's public key beside it"
            }
            Self::Batch(_) => "seal the batch again",
            Self::OtherBatch { .. } | Self::OtherPartition(_) => {
                "start a new run for the batch that is there now"
            }
        }
    }
}

/// A batch folder whose document was signed by the key beside it.
#[derive(Clone, Debug)]
pub struct UserBatch {
    batch: VerifiedBatch,
    folder: PathBuf,
}

impl UserBatch {
    /// Reads the document and the key in `folder`; partitions are not looked at.
    ///
    /// # Errors
    /// [`UserBatchError`].
    pub fn open(folder: &Path) -> Result<Self, UserBatchError> {
        let user_key = read_user_key(&folder.join(USER_KEY_FILE))?;
        Self::open_signed_by(folder, &user_key)
    }

    /// Reads the batch that a job was told of; another one in its place is refused.
    pub(crate) fn open_referenced(reference: &BatchReference) -> Result<Self, UserBatchError> {
        let opened = Self::open_signed_by(&reference.folder, &reference.user_key)?;
        if opened.batch.digest() == reference.sha256 {
            return Ok(opened);
        }
        Err(UserBatchError::OtherBatch {
            folder: reference.folder.clone(),
        })
    }

    fn open_signed_by(folder: &Path, user_key: &VerifyingKey) -> Result<Self, UserBatchError> {
        let envelope = read_batch(folder).map_err(UserBatchError::Folder)?;
        let batch = VerifiedBatch::verify(&envelope, user_key).map_err(UserBatchError::Batch)?;
        Ok(Self {
            batch,
            folder: folder.to_owned(),
        })
    }

    /// The batch.
    pub fn batch(&self) -> &VerifiedBatch {
        &self.batch
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn reference(&self) -> BatchReference {
        BatchReference {
            sha256: self.batch.digest(),
            folder: self.folder.clone(),
            user_key: *self.batch.user_key(),
        }
    }

    /// The entry that a job was told of; the batch decides, not the job's input.
    pub(crate) fn partition(
        &self,
        reference: &PartitionReference,
    ) -> Result<&Partition, UserBatchError> {
        let other = UserBatchError::OtherPartition(reference.index);
        match self.batch.partition(reference.index) {
            Ok(entry) if PartitionReference::of(entry) == *reference => Ok(entry),
            _ => Err(other),
        }
    }
}

fn read_user_key(path: &Path) -> Result<VerifyingKey, UserBatchError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_USER_KEY_BYTES).read_to_string(&mut text))
        .map_err(|source| UserBatchError::UserKey {
            path: path.to_owned(),
            source,
        })?;
    text.trim_end()
        .parse()
        .map_err(|source| UserBatchError::NoKey {
            path: path.to_owned(),
            source,
        })
}
