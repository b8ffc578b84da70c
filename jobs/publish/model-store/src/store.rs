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
    pieces::{blob_path, model_path, named_by, revisions_path, version_path},
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

    /// The document of a version's newest revision.
    pub async fn document(
        &self,
        model: &Name,
        version: &Name,
    ) -> Result<VersionDocument, StoreError> {
        let revisions = self.revisions(model, version).await?;
        let (model, version) = (model.clone(), version.clone());
        revisions
            .into_iter()
            .next_back()
            .ok_or(StoreError::NoVersion { model, version })
    }

    /// The documents of all revisions of a version that the store holds, the oldest first: as a
    /// rule one, and two while it is being rotated.
    pub async fn revisions(
        &self,
        model: &Name,
        version: &Name,
    ) -> Result<Vec<VersionDocument>, StoreError> {
        let folder = revisions_path(model, version);
        let failed = |source| StoreError::of("list", &folder, source);
        let later: Vec<_> = self
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(failed)?;
        let mut numbers = vec![0];
        for object in later {
            let (_, _, revision) =
                named_by(&object.location).ok_or(StoreError::Foreign(object.location))?;
            numbers.push(revision);
        }
        numbers.sort_unstable();
        let mut documents = Vec::new();
        for revision in numbers {
            match self.revision(model, version, revision).await {
                // The first was rotated away, or one was removed since it was listed.
                Err(StoreError::NoVersion { .. }) => {}
                document => documents.push(document?),
            }
        }
        Ok(documents)
    }

    /// The document of one revision.
    pub(crate) async fn revision(
        &self,
        model: &Name,
        version: &Name,
        revision: u64,
    ) -> Result<VersionDocument, StoreError> {
        let location = version_path(model, version, revision);
        let parsed = match self.get(&location, DOCUMENT_BYTES_MAX).await? {
            Found::Object(bytes) => VersionDocument::parse(&bytes, (model, version, revision)),
            Found::TooLarge(bytes) => Err(VersionDocumentError::TooLarge(bytes)),
            Found::Nothing => {
                let (model, version) = (model.clone(), version.clone());
                return Err(StoreError::NoVersion { model, version });
            }
        };
        parsed.map_err(|source| StoreError::Document { location, source })
    }

    /// Fetches a version's newest revision: its table of contents, its manifest and its signature.
    /// Other files are fetched as they are read, each piece checked against its address every
    /// time.
    ///
    /// Which revision is the newest is the store's word; whoever needs a certain one knows its
    /// manifest and calls [`ModelStore::fetch_pinned`].
    ///
    /// What is returned reads blockingly: verify it anywhere, but call
    /// [`VerifiedManifest::open`] and its other readers on a thread that may block
    /// (`tokio::task::spawn_blocking`), while the runtime runs.
    pub async fn fetch(&self, model: &Name, version: &Name) -> Result<FetchedVersion, StoreError> {
        let document = self.document(model, version).await?;
        self.fetch_document(document).await
    }

    /// Fetches the version of `model` with the highest serial, as [`ModelStore::fetch`] does; none
    /// where the store has no version of it.
    pub async fn newest(&self, model: &Name) -> Result<Option<FetchedVersion>, StoreError> {
        let folder = model_path(model);
        let failed = |source| StoreError::of("list", &folder, source);
        let mut objects = self.store.list(Some(&folder));
        let mut newest: Option<VersionDocument> = None;
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            let (_, version, revision) =
                named_by(&object.location).ok_or(StoreError::Foreign(object.location))?;
            let document = self.revision(model, &version, revision).await?;
            let place = |document: &VersionDocument| (document.serial, document.revision);
            if newest.as_ref().map(place) < Some(place(&document)) {
                newest = Some(document);
            }
        }
        match newest {
            Some(document) => self.fetch_document(document).await.map(Some),
            None => Ok(None),
        }
    }

    /// Fetches the revision that is pinned, as [`ModelStore::fetch_manifest`] does.
    pub async fn fetch_pinned(&self, pinned: &PinnedVersion) -> Result<FetchedVersion, StoreError> {
        self.fetch_manifest(&pinned.model, &pinned.version, &pinned.manifest_sha256)
            .await
    }

    /// Fetches the revision of a version that has this manifest, as [`ModelStore::fetch`] does.
    /// Where there is none the newest is fetched, and verifying it says what it is instead.
    pub async fn fetch_manifest(
        &self,
        model: &Name,
        version: &Name,
        manifest_sha256: &Digest,
    ) -> Result<FetchedVersion, StoreError> {
        // Most versions are never rotated, and then nothing need be listed.
        match self.revision(model, version, 0).await {
            Err(StoreError::NoVersion { .. }) => {}
            first => {
                let first = first?;
                if first.manifest_sha256 == *manifest_sha256 {
                    return self.fetch_document(first).await;
                }
            }
        }
        let mut revisions = self.revisions(model, version).await?;
        let wanted = revisions
            .iter()
            .position(|document| document.manifest_sha256 == *manifest_sha256);
        let wanted = wanted
            .map(|at| revisions.swap_remove(at))
            .or_else(|| revisions.pop());
        let (model, version) = (model.clone(), version.clone());
        let document = wanted.ok_or(StoreError::NoVersion { model, version })?;
        self.fetch_document(document).await
    }

    async fn fetch_document(
        &self,
        document: VersionDocument,
    ) -> Result<FetchedVersion, StoreError> {
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
        let fetched = self.fetch_pinned(pinned).await?;
        let verified = fetched.verify(pinned).map_err(StoreError::Version)?;
        let target = target.to_owned();
        task::spawn_blocking(move || verified.write_folder(&target).map(|()| verified))
            .await
            .map_err(|_| StoreError::ShuttingDown)?
            .map_err(StoreError::Version)
    }

    /// Removes the document of the version's revision with this manifest; finding no document of
    /// the version at all is success.
    ///
    /// Takes back a publication that was never activated, or one that a rotation has replaced. Its
    /// pieces stay: other versions may have the same ones.
    pub async fn remove(
        &self,
        model: &Name,
        version: &Name,
        manifest_sha256: &Digest,
    ) -> Result<(), StoreError> {
        let revisions = self.revisions(model, version).await?;
        let wanted = revisions
            .iter()
            .find(|document| document.manifest_sha256 == *manifest_sha256);
        let Some(document) = wanted else {
            let (model, version) = (model.clone(), version.clone());
            return if revisions.is_empty() {
                Ok(())
            } else {
                Err(StoreError::VersionExists { model, version })
            };
        };
        let location = version_path(model, version, document.revision);
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
