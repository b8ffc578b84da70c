//! A published version under another key-encryption key.
//!
//! What is done, in this order: the current revision is fetched and verified; the key manager wraps
//! its data keys under a KEK that nobody receives yet; the new headers are written and published
//! as the next revision; the key manager puts that revision in the place of the current one; the
//! older documents are removed from the store. KEKs never leave the key manager.
//!
//! Stopped anywhere, the version is what it was or what it is to be, and running it again finishes:
//! with a KEK of its own, over whatever an earlier attempt left. An attempt whose revision the key
//! manager had already taken is finished, and is followed by another rotation.

use std::{
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use sealift_kbs_protocol::{
    Name as KeyName,
    model_status::{VersionState, VersionStatus},
};
use sealift_model_store::{ModelStore, PublishedVersion, StoreError};
use sealift_owner_keys::{KeysError, OwnerKeys, OwnerSession, SessionError};
use sealift_pinned_tls::ServerUrl;
use sealift_sealed_model::{
    FetchedVersion, FolderFiles, Name, PinnedVersion, PublishKeyError, PublishVerifyingKey,
    RotateError, RotatedVersion, Rotation, SealingKeys, VerifiedManifest, VersionError,
};
use sealift_signed_document::Digest;
use sealift_trust_folder::TrustFolder;
use sealift_wrapped_key::WrappedKeys;

/// Name of the folder that the next revision is written to before it is published.
const FOLDER: &str = "rotated";

/// Why a version was not rotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// The key manager does not know it.
    #[error("the key manager knows no version `{version}` of model `{model}`; was it published?")]
    Unknown {
        /// The model.
        model: Name,
        /// The version.
        version: Name,
    },
    /// Only what is released is rotated.
    #[error("version `{version}` is {}, and only an active version can be rotated", named(*state))]
    State {
        /// The version.
        version: Name,
        /// What it is.
        state: VersionState,
    },
    /// The key manager.
    #[error("the key manager did not take its part")]
    KeyManager(#[source] SessionError),
    /// The store.
    #[error("the store did not take its part; run it again when the cause is mended")]
    Store(#[source] StoreError),
    /// The version in the store.
    #[error("the published version is refused; nothing was rotated")]
    Version(#[source] VersionError),
    /// The headers.
    #[error("the next revision was not written")]
    Headers(#[source] RotateError),
    /// The owner's keys.
    #[error("the owner's keys are not usable")]
    Keys(#[source] KeysError),
    /// The publish key of the trust folder.
    #[error("the trust folder's publish key is not a P-256 key")]
    PublishKey(#[source] PublishKeyError),
    /// The working folder.
    #[error("cannot remove the working folder `{}`", path.display())]
    Work {
        /// The folder.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The program ends.
    #[error("the program is shutting down")]
    Interrupted,
    /// The caller asked to stop.
    #[error("the rotation was stopped; run it again to finish it")]
    Stopped,
}

fn named(state: VersionState) -> &'static str {
    match state {
        VersionState::Staged => "not activated yet",
        VersionState::Active => "active",
        VersionState::Withdrawn => "withdrawn",
        VersionState::Erased => "erased",
    }
}

/// What has been done of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationStep {
    /// The key manager has wrapped the data keys anew.
    Rewrapped,
    /// The next revision stands in the working folder.
    Written,
    /// The store holds it.
    Published,
    /// The key manager releases it and nothing else.
    Rotated,
    /// The store has forgotten the older revisions.
    Removed,
}

impl RotationStep {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [
        Self::Rewrapped,
        Self::Written,
        Self::Published,
        Self::Rotated,
        Self::Removed,
    ];
}

/// Told after every step; stops the rotation by `Break`.
pub type RotationProgress<'a> = dyn FnMut(RotationStep) -> ControlFlow<()> + Send + 'a;

/// What a rotation came to.
#[derive(Debug)]
pub struct Rotated {
    /// What the key manager releases now.
    pub version: VersionStatus,
    /// The manifest that it released before.
    pub replaced: Digest,
    /// Data keys that were wrapped anew.
    pub keys: usize,
    /// Bytes that were sent to the store: headers, manifest and signature.
    pub sent_bytes: u64,
    /// SHA-256 of the version document in the store.
    pub document_sha256: Digest,
}

/// What a rotation needs.
pub struct RotateVersion<'a> {
    /// The owner's keys.
    pub keys: &'a OwnerKeys,
    /// What the owner trusts.
    pub trust: &'a TrustFolder,
    /// Where the key manager listens.
    pub key_manager: ServerUrl,
    /// Where the version is published.
    pub store: &'a ModelStore,
    /// A folder for the next revision until it is published.
    pub work: &'a Path,
    /// The model.
    pub model: Name,
    /// The version.
    pub version: Name,
    /// Reads the clock, Unix seconds: every change has an end soon after it is signed.
    pub now_unix: &'a (dyn Fn() -> u64 + Send + Sync),
}

impl RotateVersion<'_> {
    /// Rotates the version.
    ///
    /// Blocking reads happen on threads that may block. The key manager's witness has to cosign
    /// meanwhile.
    ///
    /// # Errors
    /// [`RotationError`] for whatever stopped it.
    pub async fn run(&self, progress: &mut RotationProgress<'_>) -> Result<Rotated, RotationError> {
        let current = self.current().await?;
        let verified = self.fetch(&current).await?;
        let wrapped = blocking({
            let verified = verified.clone();
            move || Rotation::read(&verified)?.wrapped_keys()
        });
        let wrapped = wrapped.await?.map_err(RotationError::Headers)?;
        let rewrapped = self.rewrap(&current, &wrapped).await?;
        go_on(progress, RotationStep::Rewrapped)?;

        let next = self.write(&verified, &rewrapped).await?;
        go_on(progress, RotationStep::Written)?;

        self.remove_others(&current).await?;
        let published = self.publish(&current, &next).await?;
        go_on(progress, RotationStep::Published)?;

        let version = VersionStatus {
            revision: next.manifest.revision,
            manifest_sha256: next.manifest_sha256,
            ..current.clone()
        };
        let session = self.session().await?;
        session
            .rotate(&self.key_name()?, &version, &rewrapped)
            .await
            .map_err(RotationError::KeyManager)?;
        go_on(progress, RotationStep::Rotated)?;

        self.remove_others(&version).await?;
        self.clear()?;
        go_on(progress, RotationStep::Removed)?;
        Ok(Rotated {
            version,
            replaced: current.manifest_sha256,
            keys: rewrapped.keys().len(),
            sent_bytes: published.sent_bytes,
            document_sha256: published.document_sha256,
        })
    }

    /// What the key manager releases now.
    async fn current(&self) -> Result<VersionStatus, RotationError> {
        let session = self.session().await?;
        let status = session.status(&self.key_name()?).await;
        let status = status.map_err(RotationError::KeyManager)?;
        let mut versions = status.versions.into_iter();
        let known = versions.find(|known| known.version.as_str() == self.version.as_str());
        let known = known.ok_or_else(|| RotationError::Unknown {
            model: self.model.clone(),
            version: self.version.clone(),
        })?;
        match known.state {
            VersionState::Active => Ok(known),
            state => Err(RotationError::State {
                version: self.version.clone(),
                state,
            }),
        }
    }

    async fn fetch(&self, current: &VersionStatus) -> Result<VerifiedManifest, RotationError> {
        let pinned = self.pinned(current)?;
        let fetched = self.store.fetch_pinned(&pinned).await;
        let fetched = fetched.map_err(RotationError::Store)?;
        fetched.verify(&pinned).map_err(RotationError::Version)
    }

    fn pinned(&self, version: &VersionStatus) -> Result<PinnedVersion, RotationError> {
        let publish_key = PublishVerifyingKey::from_spki_der(self.trust.publish_key());
        Ok(PinnedVersion {
            publish_key: publish_key.map_err(RotationError::PublishKey)?,
            manifest_sha256: version.manifest_sha256,
            model: self.model.clone(),
            version: self.version.clone(),
            serial: version.serial,
        })
    }

    async fn rewrap(
        &self,
        current: &VersionStatus,
        wrapped: &WrappedKeys,
    ) -> Result<WrappedKeys, RotationError> {
        let session = self.session().await?;
        session
            .rewrap(&self.key_name()?, current, wrapped)
            .await
            .map_err(RotationError::KeyManager)
    }

    /// Writes the next revision to the working folder.
    async fn write(
        &self,
        verified: &VerifiedManifest,
        rewrapped: &WrappedKeys,
    ) -> Result<RotatedVersion, RotationError> {
        self.clear()?;
        let publish = self.keys.oms().map_err(RotationError::Keys)?;
        let header = self.keys.header().map_err(RotationError::Keys)?;
        let (verified, rewrapped) = (verified.clone(), rewrapped.clone());
        let out = self.work.join(FOLDER);
        let written = blocking(move || {
            let keys = SealingKeys {
                publish: &publish,
                header: &header,
            };
            Rotation::read(&verified)?.write(&rewrapped, keys, &out)
        });
        written.await?.map_err(RotationError::Headers)
    }

    /// Removes every document of the version but that of `counts`: what an attempt left that was
    /// cut off, and what was rotated away.
    async fn remove_others(&self, counts: &VersionStatus) -> Result<(), RotationError> {
        let revisions = self.store.revisions(&self.model, &self.version).await;
        for document in revisions.map_err(RotationError::Store)? {
            if document.manifest_sha256 != counts.manifest_sha256 {
                let removed = self
                    .store
                    .remove(&self.model, &self.version, &document.manifest_sha256)
                    .await;
                removed.map_err(RotationError::Store)?;
            }
        }
        Ok(())
    }

    /// Publishes what was written, after verifying it as any reader does.
    async fn publish(
        &self,
        current: &VersionStatus,
        next: &RotatedVersion,
    ) -> Result<PublishedVersion, RotationError> {
        let pinned = self.pinned(&VersionStatus {
            manifest_sha256: next.manifest_sha256,
            ..current.clone()
        })?;
        let files = Arc::new(FolderFiles::new(&next.folder));
        let verified = FetchedVersion::new(files)
            .and_then(|fetched| fetched.verify(&pinned))
            .map_err(RotationError::Version)?;
        self.store
            .publish(&verified, &mut |_| ControlFlow::Continue(()))
            .await
            .map_err(RotationError::Store)
    }

    fn clear(&self) -> Result<(), RotationError> {
        let path = self.work.join(FOLDER);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|source| RotationError::Work { path, source }),
        }
    }

    async fn session(&self) -> Result<OwnerSession, RotationError> {
        let (url, trust) = (self.key_manager.clone(), self.trust.clone());
        OwnerSession::open(url, self.keys, trust, (self.now_unix)())
            .await
            .map_err(RotationError::KeyManager)
    }

    /// The model's name at the key manager.
    fn key_name(&self) -> Result<KeyName, RotationError> {
        let name = self.model.as_str().parse();
        name.map_err(|source| {
            RotationError::KeyManager(SessionError::Name {
                name: self.model.to_string(),
                source,
            })
        })
    }
}

fn go_on(progress: &mut RotationProgress<'_>, done: RotationStep) -> Result<(), RotationError> {
    match progress(done) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(RotationError::Stopped),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RotationError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| RotationError::Interrupted)
}
