//! The store and its plain operations.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path as Location,
};
use sealift_sealed_model::{FetchedVersion, Name, PinnedVersion, VerifiedManifest};
use sealift_signed_document::{Digest, DigestWriter};
use tokio::{runtime::Handle, sync::OnceCell, task};

use crate::{
    StoreError, VersionDocument, VersionDocumentError,
    document::DOCUMENT_BYTES_MAX,
    pieces::{blob_path, version_path},
    store_files::StoreFiles,
};

/// Model versions in an object store.
#[derive(Clone, Debug)]
pub struct ModelStore {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Set once the store has passed its self-test.
    pub(crate) tested: Arc<OnceCell<()>>,
}

impl ModelStore {
    /// Takes any object store; its root is the store's root.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            tested: Arc::default(),
        }
    }

    /// A folder as the store, made if absent. What is written is on disk when it is reported.
    pub fn in_folder(path: &Path) -> Result<Self, StoreError> {
        let refused = |source| StoreError::Folder {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(refused)?;
        let store = LocalFileSystem::new_with_prefix(path)
            .map_err(|source| refused(std::io::Error::other(source)))?;
        Ok(Self::new(Arc::new(store.with_fsync(true))))
    }

    /// The object store beneath.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    /// The document of a version.
    pub async fn document(
        &self,
        model: &Name,
        version: &Name,
    ) -> Result<VersionDocument, StoreError> {
        let location = version_path(model, version);
        let parsed = match self.get(&location, DOCUMENT_BYTES_MAX).await? {
            Found::Object(bytes) => VersionDocument::parse(&bytes, model, version),
            Found::TooLarge(bytes) => Err(VersionDocumentError::TooLarge(bytes)),
            Found::Nothing => {
                let (model, version) = (model.clone(), version.clone());
                return Err(StoreError::NoVersion { model, version });
            }
        };
        parsed.map_err(|source| StoreError::Document { location, source })
    }

    /// Fetches a version: its table of contents, its manifest and its signature. Other files are
    /// fetched as they are read, each piece checked against its address every time.
    ///
    /// What is returned reads blockingly: verify it anywhere, but call
    /// [`VerifiedManifest::open`] and its other readers on a thread that may block
    /// (`tokio::task::spawn_blocking`), while the runtime runs.
    pub async fn fetch(&self, model: &Name, version: &Name) -> Result<FetchedVersion, StoreError> {
        let document = self.document(model, version).await?;
        let files = Arc::new(StoreFiles::new(self.clone(), document, Handle::current()));
        task::spawn_blocking(move || FetchedVersion::new(files))
            .await
            .map_err(|_| StoreError::ShuttingDown)?
            .map_err(StoreError::Version)
    }

    /// Writes a version to the new folder `target`, as stock tools read it, after checking it
    /// against `pinned`.
    pub async fn pull(
        &self,
        pinned: &PinnedVersion,
        target: &Path,
    ) -> Result<VerifiedManifest, StoreError> {
        let fetched = self.fetch(&pinned.model, &pinned.version).await?;
        let verified = fetched.verify(pinned).map_err(StoreError::Version)?;
        let target = target.to_owned();
        task::spawn_blocking(move || verified.write_folder(&target).map(|()| verified))
            .await
            .map_err(|_| StoreError::ShuttingDown)?
            .map_err(StoreError::Version)
    }

    /// Removes the document of a version, if it names this manifest; finding none is success.
    ///
    /// Takes back a publication that was never activated. Its pieces stay: other versions may
    /// have the same ones.
    pub async fn remove(
        &self,
        model: &Name,
        version: &Name,
        manifest_sha256: &Digest,
    ) -> Result<(), StoreError> {
        let document = match self.document(model, version).await {
            Err(StoreError::NoVersion { .. }) => return Ok(()),
            document => document?,
        };
        if document.manifest_sha256 != *manifest_sha256 {
            let (model, version) = (model.clone(), version.clone());
            return Err(StoreError::VersionExists { model, version });
        }
        let location = version_path(model, version);
        match self.store.delete(&location).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(StoreError::of("delete", &location, source)),
        }
    }

    /// Fetches a piece and checks it against its address.
    pub(crate) async fn piece(&self, digest: &Digest, bytes: u64) -> Result<Bytes, StoreError> {
        match self.get(&blob_path(digest), bytes).await? {
            Found::Nothing => Err(StoreError::MissingPiece(*digest)),
            Found::Object(piece)
                if piece.len() as u64 == bytes && Digest::of(&piece) == *digest =>
            {
                Ok(piece)
            }
            Found::Object(_) | Found::TooLarge(_) => Err(StoreError::ChangedPiece(*digest)),
        }
    }

    /// Reads a piece and checks it against its address, without holding it.
    pub(crate) async fn check_piece(&self, digest: &Digest, bytes: u64) -> Result<(), StoreError> {
        let location = blob_path(digest);
        let failed = |source| StoreError::of("read", &location, source);
        let found = match self.store.get_opts(&location, GetOptions::default()).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(StoreError::MissingPiece(*digest));
            }
            found => found.map_err(failed)?,
        };
        if found.meta.size != bytes {
            return Err(StoreError::ChangedPiece(*digest));
        }
        let mut parts = found.into_stream();
        let mut writer = DigestWriter::new();
        while let Some(part) = parts.try_next().await.map_err(failed)? {
            writer.update(&part);
        }
        if writer.finish() == *digest {
            Ok(())
        } else {
            Err(StoreError::ChangedPiece(*digest))
        }
    }

    /// The bytes of an object, if it has at most `max`.
    pub(crate) async fn get(&self, location: &Location, max: u64) -> Result<Found, StoreError> {
        let failed = |source| StoreError::of("read", location, source);
        let found = match self.store.get_opts(location, GetOptions::default()).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(Found::Nothing),
            found => found.map_err(failed)?,
        };
        if found.meta.size > max {
            return Ok(Found::TooLarge(found.meta.size));
        }
        found.bytes().await.map(Found::Object).map_err(failed)
    }
}

/// What lies at a location.
pub(crate) enum Found {
    Nothing,
    /// More bytes than were asked for, none of which was read.
    TooLarge(u64),
    Object(Bytes),
}
