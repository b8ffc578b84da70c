//! Partitions in, result files out. The store is believed nothing: what is read is checked by
//! whoever asked, and what is written has its digest in its name.

use std::{path::Path as FilePath, sync::Arc};

use object_store::{
    GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, local::LocalFileSystem, path::Path,
};
use sealift_encrypted_batch::{partition_object, result_object};
use sealift_model_store::ModelStore;
use sealift_signed_document::Digest;
use sealift_store_relay::RelayedStore;

/// How an address of a folder begins.
const FOLDER_SCHEME: &str = "file://";

/// How the address of a relay begins.
const RELAY_SCHEME: &str = "https://";

/// Why the store of the init-data cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// Another scheme, or characters with a meaning in an address.
    #[error(
        "`{0}` is not an address of the form file:///folder without `%`, `?` and `#`, or \
         https://host:port"
    )]
    Address(String),
    /// The folder is not there.
    #[error("the folder `{folder}` cannot be read; is the store mounted?")]
    Folder {
        /// The folder.
        folder: String,
        /// What the store answered.
        #[source]
        source: object_store::Error,
    },
}

impl StoreUrlError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Address(_) => 6,
            Self::Folder { .. } => 8,
        }
    }
}

/// Why an object was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// There is no such object.
    #[error("the store has no object `{0}`; upload it first")]
    Missing(Path),
    /// Another length than asked for.
    #[error("the store's object `{object}` has {found} bytes where {expected} belong")]
    Length {
        /// The object.
        object: Path,
        /// Its length.
        found: u64,
        /// The length that was asked for.
        expected: u64,
    },
    /// Something else stands under a content address.
    #[error("the store has other bytes under the address `{0}`; remove them")]
    Conflict(Path),
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

/// The one store that the measured init-data names.
#[derive(Clone)]
pub(crate) struct GuestStore(Arc<dyn ObjectStore>);

impl GuestStore {
    /// Opens the store at a `file:` address, or behind the operator's relay at an `https:` one.
    /// Nothing is made there, and nothing is sent yet.
    pub(crate) fn open(url: &str) -> Result<Self, StoreUrlError> {
        if url.starts_with(RELAY_SCHEME) {
            let relay = url.parse();
            let relay = relay.map_err(|_| StoreUrlError::Address(url.to_owned()))?;
            return Ok(Self(Arc::new(RelayedStore::new(relay))));
        }
        Self::in_folder(url)
    }

    fn in_folder(url: &str) -> Result<Self, StoreUrlError> {
        let folder = url
            .strip_prefix(FOLDER_SCHEME)
            .filter(|path| path.starts_with('/') && !path.contains(['%', '?', '#']))
            .ok_or_else(|| StoreUrlError::Address(url.to_owned()))?;
        let store = LocalFileSystem::new_with_prefix(FilePath::new(folder)).map_err(|source| {
            StoreUrlError::Folder {
                folder: folder.to_owned(),
                source,
            }
        })?;
        // A receipt is signed over a result file only when the file outlives a power cut.
        Ok(Self(Arc::new(store.with_fsync(true))))
    }

    /// The model versions in this store.
    pub(crate) fn models(&self) -> ModelStore {
        ModelStore::new(Arc::clone(&self.0))
    }

    /// Reads the sealed file of a partition, if it has the length that the batch lists.
    pub(crate) async fn partition(
        &self,
        batch_sha256: &Digest,
        index: u32,
        bytes: u64,
    ) -> Result<Vec<u8>, ObjectError> {
        self.read(&Path::from(partition_object(batch_sha256, index)), bytes)
            .await
    }

    /// Keeps a result file under its own digest. An object that is there already is success if it
    /// is this very file.
    pub(crate) async fn keep_result(
        &self,
        batch_sha256: &Digest,
        index: u32,
        sha256: &Digest,
        file: Vec<u8>,
    ) -> Result<(), ObjectError> {
        let object = Path::from(result_object(batch_sha256, index, sha256));
        let bytes = file.len() as u64;
        let create = PutOptions::from(PutMode::Create);
        match self
            .0
            .put_opts(&object, PutPayload::from(file), create)
            .await
        {
            Ok(_) => return Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(source) => {
                return Err(ObjectError::Store {
                    operation: "create",
                    object,
                    source,
                });
            }
        }
        match self.read(&object, bytes).await {
            Ok(found) if Digest::of(&found) == *sha256 => Ok(()),
            Ok(_) | Err(ObjectError::Length { .. }) => Err(ObjectError::Conflict(object)),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, object: &Path, expected: u64) -> Result<Vec<u8>, ObjectError> {
        let failed = |source| ObjectError::Store {
            operation: "read",
            object: object.clone(),
            source,
        };
        let found = match self.0.get_opts(object, GetOptions::default()).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(ObjectError::Missing(object.clone()));
            }
            found => found.map_err(failed)?,
        };
        if found.meta.size != expected {
            let (object, found) = (object.clone(), found.meta.size);
            return Err(ObjectError::Length {
                object,
                found,
                expected,
            });
        }
        found.bytes().await.map(Vec::from).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, GuestStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = GuestStore::open(&format!("file://{}", folder.path().display())).unwrap();
        (folder, store)
    }

    #[test]
    fn a_store_is_an_existing_folder_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        for bad in [
            path.clone(),
            format!("file:{path}"),
            format!("file://host{path}"),
            format!("file://{path}/%2e%2e"),
            format!("file://{path}?x"),
            "s3://bucket".to_owned(),
            "http://127.0.0.1:1".to_owned(),
            "https://127.0.0.1".to_owned(),
            "https://127.0.0.1:1/objects".to_owned(),
            String::new(),
        ] {
            assert!(
                matches!(GuestStore::open(&bad), Err(StoreUrlError::Address(_))),
                "{bad}"
            );
        }
        let absent = GuestStore::open(&format!("file://{path}/absent"));
        assert!(matches!(absent, Err(StoreUrlError::Folder { .. })));
        assert!(!folder.path().join("absent").exists());
    }

    #[tokio::test]
    async fn a_result_is_created_once_and_the_same_one_again_is_success() {
        let (folder, store) = store();
        let (batch, file) = (Digest::of(b"batch"), b"results".to_vec());
        let sha256 = Digest::of(&file);
        store
            .keep_result(&batch, 3, &sha256, file.clone())
            .await
            .unwrap();
        store
            .keep_result(&batch, 3, &sha256, file.clone())
            .await
            .unwrap();
        let path = folder
            .path()
            .join(format!("results/{batch}/3/{sha256}.age"));
        assert_eq!(std::fs::read(&path).unwrap(), file);

        std::fs::write(&path, b"resultz").unwrap();
        let refused = store.keep_result(&batch, 3, &sha256, file).await;
        assert!(matches!(refused, Err(ObjectError::Conflict(_))));
    }

    #[tokio::test]
    async fn a_partition_of_another_length_is_not_read() {
        let (folder, store) = store();
        let batch = Digest::of(b"batch");
        let missing = store.partition(&batch, 0, 3).await;
        assert!(matches!(missing, Err(ObjectError::Missing(_))));
        let objects = folder.path().join(format!("batches/{batch}"));
        std::fs::create_dir_all(&objects).unwrap();
        std::fs::write(objects.join("0.age"), b"age").unwrap();
        assert_eq!(store.partition(&batch, 0, 3).await.unwrap(), b"age");
        let longer = store.partition(&batch, 0, 2).await;
        assert!(matches!(
            longer,
            Err(ObjectError::Length {
                found: 3,
                expected: 2,
                ..
            })
        ));
    }
}
