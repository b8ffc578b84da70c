//! `publish@1`: uploads a sealed version, verifies what the store holds, and activates its keys.
//!
//! Leaves content-addressed pieces and the version document in the store, and the version active
//! in the key manager; doing it again finds them there. Undo leaves them: published versions are
//! immutable, and without a channel or a batch that names them nothing uses them.

mod rotate;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::JsonSchema;
use sealift_cloud_store::{CloudOptions, StoreAddress};
use sealift_job::{Job, JobContext, JobError, UndoError};
use sealift_kbs_protocol::{
    Name,
    model_status::{VersionState, VersionStatus},
};
use sealift_model_store::{PublishedVersion, StoreError};
use sealift_owner_keys::{OwnerKeys, OwnerSession, SessionError};
use sealift_pinned_tls::ServerUrl;
use sealift_sealed_model::{
    FetchedVersion, FolderFiles, PinnedVersion, PublishVerifyingKey, VerifiedManifest,
};
use sealift_signed_document::Digest;
use sealift_trust_folder::TrustFolder;
use serde::{Deserialize, Serialize};

pub use rotate::{RotateVersion, Rotated, RotationError, RotationProgress, RotationStep};

/// What to publish.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What `seal` left.
    pub sealed: Sealed,
}

/// A sealed version on disk whose keys are staged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The folder.
    pub folder: PathBuf,
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// Its number.
    pub serial: u64,
    /// SHA-256 of its manifest, hex.
    pub manifest_sha256: String,
}

/// What was published.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The published version, for `provision`.
    pub published: Published,
    /// SHA-256 of the version document in the store, hex.
    pub document_sha256: String,
    /// Pieces that the store holds for it.
    pub pieces: u64,
}

/// A version that the store was seen to hold, and whose keys may be used.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// Its number.
    pub serial: u64,
    /// SHA-256 of its manifest, hex.
    pub manifest_sha256: String,
}

/// `publish@1`, with what the owner's worker holds.
pub struct Publish {
    /// The owner's keys.
    pub keys: OwnerKeys,
    /// What the owner trusts.
    pub trust: PathBuf,
    /// Where the key manager listens.
    pub key_manager: ServerUrl,
    /// The store.
    pub store: StoreAddress,
    /// How to reach it, if it is a cloud's.
    pub cloud_options: CloudOptions,
}

impl Job for Publish {
    const KIND: &'static str = "publish@1";

    type Input = Input;
    type Output = Output;

    async fn run(&self, input: &Input, context: &JobContext) -> Result<Output, JobError> {
        let trust = self.trust(context)?;
        let verified = verify_folder(&input.sealed, &trust)?;
        let published = self.upload(&verified, context).await?;
        self.activate(&verified, trust, context).await?;
        let manifest = verified.manifest();
        let pieces = published.document.blobs().len() as u64;
        context.log(format!(
            "published {} {} (serial {}): {pieces} pieces, {} bytes sent",
            manifest.model, manifest.version, manifest.serial, published.sent_bytes
        ));
        Ok(Output {
            published: Published {
                model: manifest.model.to_string(),
                version: manifest.version.to_string(),
                serial: manifest.serial,
                manifest_sha256: verified.digest().to_string(),
            },
            document_sha256: published.document_sha256.to_string(),
            pieces,
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

impl Publish {
    fn trust(&self, context: &JobContext) -> Result<TrustFolder, JobError> {
        TrustFolder::open(&self.trust, context.now_unix()).map_err(|error| {
            let remedy = "renew it: sealift reference accept --simulated";
            JobError::permanent("use the trust folder", remedy, error)
        })
    }

    async fn upload(
        &self,
        verified: &VerifiedManifest,
        context: &JobContext,
    ) -> Result<PublishedVersion, JobError> {
        let store = self.store.open(&self.cloud_options).map_err(|error| {
            let remedy =
                "start the owner's worker with another --store, or with what the cause names";
            JobError::permanent(format!("open the store `{}`", self.store), remedy, error)
        })?;
        let mut progress = |progress: sealift_model_store::PublishProgress| {
            context.progress(progress.done_bytes, progress.total_bytes, "bytes");
            if context.cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        store
            .publish(verified, &mut progress)
            .await
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: StoreError) -> JobError {
        let operation = format!("publish to the store `{}`", self.store);
        if error.is_transient() {
            return JobError::transient(operation, error);
        }
        let remedy =
            "mend what the cause names and run again; pieces that arrived are not sent again";
        JobError::permanent(operation, remedy, error)
    }

    /// Lets the key manager release what the store was just seen to hold.
    async fn activate(
        &self,
        verified: &VerifiedManifest,
        trust: TrustFolder,
        context: &JobContext,
    ) -> Result<(), JobError> {
        let manifest = verified.manifest();
        let model: Name =
            manifest.model.as_str().parse().map_err(|error| {
                JobError::permanent("name the model", "choose another name", error)
            })?;
        let (url, now) = (self.key_manager.clone(), context.now_unix());
        let session = OwnerSession::open(url, &self.keys, trust, now)
            .await
            .map_err(refused)?;
        let status = session.status(&model).await.map_err(refused)?;
        let staged = status.versions.iter().find(|known| {
            known.manifest_sha256 == verified.digest() && known.serial == manifest.serial
        });
        match staged {
            Some(VersionStatus {
                state: VersionState::Active,
                ..
            }) => Ok(()),
            Some(staged) => session.activate(&model, staged).await.map_err(refused),
            None => Err(JobError::permanent(
                "activate the version",
                "seal it again under a new version name",
                "the key manager has no keys for this manifest",
            )),
        }
    }
}

fn verify_folder(sealed: &Sealed, trust: &TrustFolder) -> Result<VerifiedManifest, JobError> {
    let remedy = "seal the version again; the folder was changed after it was signed";
    let failed = |error: sealift_job::BoxError| {
        let operation = format!("verify the sealed folder `{}`", sealed.folder.display());
        JobError::permanent(operation, remedy, error)
    };
    let pinned = pinned(sealed, trust).map_err(&failed)?;
    let verified = open_folder(&sealed.folder, &pinned).map_err(&failed)?;
    verified
        .check_files()
        .map_err(|error| failed(error.into()))?;
    Ok(verified)
}

fn pinned(sealed: &Sealed, trust: &TrustFolder) -> Result<PinnedVersion, sealift_job::BoxError> {
    let manifest_sha256: Digest = sealed.manifest_sha256.parse()?;
    Ok(PinnedVersion {
        publish_key: PublishVerifyingKey::from_spki_der(trust.publish_key())?,
        manifest_sha256,
        model: sealed.model.parse()?,
        version: sealed.version.parse()?,
        serial: sealed.serial,
    })
}

fn open_folder(
    folder: &Path,
    pinned: &PinnedVersion,
) -> Result<VerifiedManifest, sealift_job::BoxError> {
    let files = Arc::new(FolderFiles::new(folder));
    Ok(FetchedVersion::new(files)?.verify(pinned)?)
}

fn refused(error: SessionError) -> JobError {
    if error.is_transient() {
        return JobError::transient("activate the version at the key manager", error);
    }
    JobError::permanent(
        "activate the version at the key manager",
        "the key manager's audit log says why it refused",
        error,
    )
}
