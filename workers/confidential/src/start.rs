//! From a listening process to a serving one: keys, fetch, verification, loading.

use std::{future::Future, sync::Arc, time::Duration};

use sealift_model_store::StoreError;
use sealift_sealed_model::{VerifiedManifest, VersionError};
use sealift_signed_document::SecretBytes;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::{
    chain::Chain,
    guest::{Guest, Shared},
    model::{LoadedModel, ModelError},
    phase::{FailReason, Phase},
    session::{SessionError, Verdict},
};

/// Pause after the first failure; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause: a key manager that comes back is noticed this late at the most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the key manager and the store may be away. An operator has replaced the guest by then.
const PATIENCE: Duration = Duration::from_mins(10);

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the key manager released no key")]
    Session(#[source] SessionError),
    #[error("the model version was not fetched")]
    Store(#[source] StoreError),
    #[error("the model version was not opened")]
    Version(#[source] VersionError),
    #[error("the model version was not loaded")]
    Model(#[source] ModelError),
    #[error("the guest is shutting down")]
    Interrupted,
}

impl StartError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Session(error) => error.verdict() == Verdict::Transient,
            Self::Store(error) => error.is_transient(),
            Self::Version(_) | Self::Model(_) | Self::Interrupted => false,
        }
    }

    fn reason(&self) -> FailReason {
        match self {
            Self::Session(error) => match error.verdict() {
                Verdict::Transient => FailReason::KeyManagerSilent,
                Verdict::Refused => FailReason::RefusedByKeyManager,
                Verdict::Untrusted => FailReason::KeyManagerUntrusted,
                Verdict::Platform => FailReason::NoEvidence,
            },
            Self::Store(error) if error.is_transient() => FailReason::StoreUnavailable,
            Self::Store(_) | Self::Version(_) => FailReason::ModelUnverified,
            Self::Model(_) => FailReason::ModelUnusable,
            Self::Interrupted => FailReason::Interrupted,
        }
    }
}

impl Guest {
    /// Gets the model key, then the model. Ends in [`Phase::Serving`] or [`Phase::Failed`].
    pub async fn start(&self) {
        let (started, guest) = (Instant::now(), self.shared());
        match bring_up(guest).await {
            Ok(()) => {
                let (model, version) = (&guest.boot.model, &guest.boot.version);
                let seconds = started.elapsed().as_secs_f64();
                tracing::info!(%model, %version, seconds, "serving");
            }
            Err(error) => guest.fail(error.reason(), &error),
        }
    }
}

async fn bring_up(guest: &Shared) -> Result<(), StartError> {
    let kek = Arc::new(retrying("attest", || release(guest)).await?);
    let verified = retrying("fetch", || fetch(guest)).await?;
    let model = retrying("open", || open(guest, &verified, &kek)).await?;
    // The last of the key; tensor keys went with the opened files.
    drop(kek);
    guest.serve(model);
    Ok(())
}

/// One whole handshake; a failure anywhere in it starts the next one from its beginning.
async fn release(guest: &Shared) -> Result<SecretBytes<32>, StartError> {
    let session = &guest.session;
    session.attest().await.map_err(StartError::Session)?;
    guest.phase.advance(Phase::Attested);
    let kek = session
        .model_key(&guest.boot)
        .await
        .map_err(StartError::Session)?;
    guest.phase.advance(Phase::KeysReleased);
    session.certify().await.map_err(StartError::Session)?;
    Ok(kek)
}

/// Fetches the version and checks, in this order, the owner's signature with the delegated key,
/// the manifest's digest against the measured init-data, and that exactly the listed files are
/// there. Nothing of a tensor file is read before.
async fn fetch(guest: &Shared) -> Result<VerifiedManifest, StartError> {
    let pinned = &guest.boot.pinned;
    guest
        .boot
        .store
        .models()
        .fetch_pinned(pinned)
        .await
        .map_err(StartError::Store)?
        .verify(pinned)
        .map_err(StartError::Version)
}

/// Checks each file's digest, then opens every tensor — header signatures, then tags and chunk
/// roots over the buffers that are used — and builds the model from them.
///
/// The digests are a reading of their own, of which nothing is used: what they add is that a guest
/// serves only a version that everybody else who checks it finds whole.
async fn open(
    guest: &Shared,
    verified: &VerifiedManifest,
    kek: &Arc<SecretBytes<32>>,
) -> Result<LoadedModel, StartError> {
    let (verified, kek, threads) = (verified.clone(), Arc::clone(kek), guest.threads);
    let opening = spawn_blocking(move || {
        // What a store answers badly stands inside the version's own read error.
        let refused = |error| StartError::Store(StoreError::Version(error));
        verified.check_files().map_err(refused)?;
        let opened = verified.open(&kek, threads).map_err(refused)?;
        drop(kek);
        LoadedModel::load(opened, threads).map_err(|error| match error {
            ModelError::File(source) => refused(source),
            error => StartError::Model(error),
        })
    });
    opening.await.map_err(|_| StartError::Interrupted)?
}

/// Repeats `attempt` while its error is transient, with growing pauses, for [`PATIENCE`].
async fn retrying<T, F>(what: &'static str, attempt: impl Fn() -> F) -> Result<T, StartError>
where
    F: Future<Output = Result<T, StartError>>,
{
    let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        match attempt().await {
            Err(error) if error.is_transient() && started.elapsed() + pause < PATIENCE => {
                let (error, pause_ms) = (Chain(&error), pause.as_millis() as u64);
                tracing::warn!(%error, what, pause_ms, "trying again");
            }
            done => return done,
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
