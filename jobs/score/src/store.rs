//! Sealed partitions into the store, result files out of it. The store is believed nothing.

use std::{path::Path as FilePath, sync::Arc};

use object_store::{
    GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, local::LocalFileSystem, path::Path,
};
use sealift_encrypted_batch::result_object;
use sealift_signed_document::Digest;

/// Why an object was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchStoreError {
    /// The folder that is to be the store.
    #[error("the folder `{folder}` cannot be the store")]
    Folder {
        /// The folder.
        folder: String,
        /// What the store answered.
        #[source]
        source: object_store::Error,
    },
    /// There is no such object.
    #[error("the store has no object `{0}`")]
    Missing(Path),
    /// Something else stands at the address.
    #[error("the store has other bytes at `{0}` than belong there")]
    Changed(Path),
    /// The store did not do what it was asked.
    #[error("the store failed to {operation} `{object}`")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        object: Path,
        /// What the store answered.
        #[source]
        source: object_store::Error,
    },
}

impl BatchStoreError {
    /// Whether trying again later can help without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store { .. })
    }
}

/// The store that guests read partitions from and leave result files in.
#[derive(Clone, Debug)]
pub struct BatchStore(Arc<dyn ObjectStore>);

impl BatchStore {
    /// Takes any object store; its root is the store's root.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self(store)
    }

    /// An existing folder as the store. What is written is on disk when it is reported.
    ///
    /// # Errors
    /// [`BatchStoreError::Folder`].
    pub fn in_folder(folder: &FilePath) -> Result<Self, BatchStoreError> {
        let store =
            LocalFileSystem::new_with_prefix(folder).map_err(|source| BatchStoreError::Folder {
                folder: folder.display().to_string(),
                source,
            })?;
        Ok(Self(Arc::new(store.with_fsync(true))))
    }

    /// Keeps the sealed file of a partition, whose digest is `sha256`. An object that is there
    /// already is success if it is this very file.
    ///
    /// # Errors
    /// [`BatchStoreError`].
    pub async fn keep_partition(
        &self,
        batch: &Digest,
        index: u32,
        (sha256, file): (&Digest, Vec<u8>),
    ) -> Result<(), BatchStoreError> {
        let object = Path::from(format!("batches/{batch}/{index}.age"));
        let bytes = file.len() as u64;
        let create = PutOptions::from(PutMode::Create);
        match self
            .0
            .put_opts(&object, PutPayload::from(file), create)
            .await
        {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => {
                self.read(object, sha256, bytes).await.map(drop)
            }
            Err(source) => Err(BatchStoreError::Store {
                operation: "create",
                object,
                source,
            }),
        }
    }

    /// Reads the result file of a partition whose digest is `sha256`, of at most `max` bytes.
    ///
    /// # Errors
    /// [`BatchStoreError`].
    pub async fn result(
        &self,
        batch: &Digest,
        index: u32,
        sha256: &Digest,
        max: u64,
    ) -> Result<Vec<u8>, BatchStoreError> {
        self.read(Path::from(result_object(batch, index, sha256)), sha256, max)
            .await
    }

    async fn read(
        &self,
        object: Path,
        sha256: &Digest,
        max: u64,
    ) -> Result<Vec<u8>, BatchStoreError> {
        let failed = |source| BatchStoreError::Store {
            operation: "read",
            object: object.clone(),
            source,
        };
        let found = match self.0.get_opts(&object, GetOptions::default()).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(BatchStoreError::Missing(object));
            }
            found => found.map_err(failed)?,
        };
        if found.meta.size > max {
            return Err(BatchStoreError::Changed(object));
        }
        let bytes = found.bytes().await.map_err(failed)?;
        if Digest::of(&bytes) == *sha256 {
            Ok(Vec::from(bytes))
        } else {
            Err(BatchStoreError::Changed(object))
        }
    }
}
