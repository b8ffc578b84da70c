//! Everything that this guest says to its key manager.

use std::{future::Future, sync::Arc};

use sealift_attester::{Attester, AttesterError};
use sealift_encrypted_batch::{FileKey, VerifiedBatch};
use sealift_kbs_protocol::{
    GuestCertificate, GuestClient, GuestClientError, GuestClientSettings, SessionGrant,
    call::{CommitAnswer, FheRequest},
};
use sealift_pinned_tls::{ClientError, ClientLimits};
use sealift_signed_document::{Digest, Envelope, SecretBytes, Signed, VerifyingKey};
use tokio::{
    sync::{Mutex, MutexGuard},
    task::spawn_blocking,
};

use crate::boot::Boot;

/// Largest answer of the key manager: the result file of a partition whose head it decrypts,
/// encoded.
const ANSWER_BYTES: usize = 64 << 20;

/// Why the key manager did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The platform signs no report.
    #[error("the platform gives no evidence for the key manager's challenge")]
    NoEvidence(#[source] AttesterError),
    /// Between the challenge and the certificate.
    #[error("the guest could not attest itself to the key manager")]
    Attestation(#[source] GuestClientError),
    /// Inside the session.
    #[error("the key manager did not answer the guest's call")]
    Call(#[source] GuestClientError),
    /// The runtime is shutting down.
    #[error("the guest is shutting down")]
    Interrupted,
}

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody: later it may work.
    Transient,
    /// The owner or user: the key manager said no, and says why in its log.
    Refused,
    /// Whoever runs the network: this was not the key manager.
    Untrusted,
    /// Whoever runs the platform.
    Platform,
}

impl SessionError {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::NoEvidence(_) => Verdict::Platform,
            Self::Interrupted => Verdict::Transient,
            Self::Attestation(error) | Self::Call(error) => verdict(error),
        }
    }
}

fn verdict(error: &GuestClientError) -> Verdict {
    match error {
        error if error.is_transient() => Verdict::Transient,
        // A key manager that was restarted shows another key until its witness has unlocked it.
        GuestClientError::Transport(ClientError::Handshake { .. }) => Verdict::Transient,
        GuestClientError::NotAttested
        | GuestClientError::Refused { .. }
        | GuestClientError::CallRefused { .. } => Verdict::Refused,
        _ => Verdict::Untrusted,
    }
}

/// What a session gives the guest to show to others.
pub(crate) struct Credentials {
    pub(crate) grant: Signed<SessionGrant>,
    pub(crate) certificate: Signed<GuestCertificate>,
}

/// The guest's end of its session, which it opens again whenever it has ended.
pub(crate) struct KeyManagerSession {
    client: GuestClient,
    attester: Arc<dyn Attester>,
    receipt_key: VerifyingKey,
    tls_spki_sha256: Digest,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    credentials: Option<Arc<Credentials>>,
    /// The batch that was registered last in this session: its document may have megabytes and
    /// thousands of partitions.
    batch: Option<Digest>,
}

impl KeyManagerSession {
    pub(crate) fn new(boot: &Boot) -> Self {
        let client = GuestClient::new(GuestClientSettings {
            url: boot.km_url.clone(),
            km_tls_sha256: boot.settings.km_tls_sha256,
            km_id: boot.settings.km_id.clone(),
            init_data: boot.init_data.as_str().to_owned(),
            limits: ClientLimits {
                body_bytes: ANSWER_BYTES,
                ..ClientLimits::DOCUMENTS
            },
        });
        Self {
            client,
            attester: Arc::clone(&boot.attester),
            receipt_key: boot.keys.receipt_public(),
            tls_spki_sha256: boot.keys.tls_spki_sha256(),
            current: Mutex::default(),
        }
    }

    /// Attests this guest: challenge, evidence, appraisal. The session before it has ended.
    pub(crate) async fn attest(&self) -> Result<(), SessionError> {
        let mut current = self.current.lock().await;
        self.handshake(&mut current).await
    }

    /// The key of the version in the init-data. Asked for once per attestation.
    pub(crate) async fn model_key(&self, boot: &Boot) -> Result<SecretBytes<32>, SessionError> {
        self.client
            .model_key(&boot.model, &boot.version)
            .await
            .map_err(SessionError::Attestation)
    }

    /// Opens the session and has the guest's keys certified, after [`Self::attest`].
    pub(crate) async fn certify(&self) -> Result<Arc<Credentials>, SessionError> {
        let mut current = self.current.lock().await;
        self.certified(&mut current).await
    }

    /// The session's credentials, where there are some and nobody is renewing them.
    pub(crate) fn shown(&self) -> Option<Arc<Credentials>> {
        self.current.try_lock().ok()?.credentials.clone()
    }

    /// Makes a user's batch known to the key manager.
    pub(crate) async fn register(&self, batch: &VerifiedBatch) -> Result<(), SessionError> {
        let digest = batch.digest();
        if self.current.lock().await.batch == Some(digest) {
            return Ok(());
        }
        self.in_session(|_| self.client.batch(batch.envelope()))
            .await?;
        self.current.lock().await.batch = Some(digest);
        Ok(())
    }

    /// The file key of a partition.
    pub(crate) async fn unwrap(
        &self,
        (batch_sha256, partition): (Digest, u32),
        header: &[u8],
    ) -> Result<FileKey, SessionError> {
        self.in_session(|_| self.client.unwrap(batch_sha256, partition, header))
            .await
    }

    /// The result file that the key manager makes of evaluated rows, which it is sent part by
    /// part. It keeps what came before in the session, so a new session begins with the first.
    pub(crate) async fn fhe<P, F, E>(
        &self,
        parts: impl Iterator<Item = P> + Clone,
        request: impl Fn(P) -> F,
    ) -> Result<Result<Vec<u8>, E>, SessionError>
    where
        F: Future<Output = Result<FheRequest, E>>,
    {
        let (parts, request) = (&parts, &request);
        self.in_session(|_| async move {
            let mut answer = Vec::new();
            for part in parts.clone() {
                match request(part).await {
                    Ok(request) => answer = self.client.fhe(&request).await?,
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(answer))
        })
        .await
    }

    /// Signs a receipt under the credentials that it is committed with, and commits it.
    pub(crate) async fn commit<E>(
        &self,
        sign: impl Fn(&Credentials) -> Result<Envelope, E>,
    ) -> Result<Result<Committed, E>, SessionError> {
        let sign = &sign;
        self.in_session(|credentials| async move {
            let receipt = match sign(&credentials) {
                Ok(receipt) => receipt,
                Err(error) => return Ok(Err(error)),
            };
            let answer = self.client.commit(&receipt).await?;
            Ok(Ok(Committed {
                receipt,
                answer,
                credentials,
            }))
        })
        .await
    }

    /// Makes a call, and once more in a new session if the old one has ended: its lease ran out,
    /// or the key manager was restarted.
    async fn in_session<T, F>(
        &self,
        call: impl Fn(Arc<Credentials>) -> F,
    ) -> Result<T, SessionError>
    where
        F: Future<Output = Result<T, GuestClientError>>,
    {
        let credentials = self.credentials(None).await?;
        match call(Arc::clone(&credentials)).await {
            Err(error) if error.wants_attestation() => {
                tracing::info!("the session has ended; attesting again");
            }
            done => return done.map_err(SessionError::Call),
        }
        let credentials = self.credentials(Some(&credentials)).await?;
        call(credentials).await.map_err(SessionError::Call)
    }

    /// The session's credentials; of a new session if there is none, or if it is the `ended` one.
    async fn credentials(
        &self,
        ended: Option<&Arc<Credentials>>,
    ) -> Result<Arc<Credentials>, SessionError> {
        let mut current = self.current.lock().await;
        if let Some(credentials) = &current.credentials
            && !ended.is_some_and(|ended| Arc::ptr_eq(ended, credentials))
        {
            return Ok(Arc::clone(credentials));
        }
        self.handshake(&mut current).await?;
        self.certified(&mut current).await
    }

    async fn handshake(&self, current: &mut MutexGuard<'_, Current>) -> Result<(), SessionError> {
        **current = Current::default();
        match self.handshake_once().await {
            // Also the answer to a challenge that ran out or that a restart forgot.
            Err(SessionError::Attestation(GuestClientError::NotAttested)) => {
                self.handshake_once().await
            }
            done => done,
        }
    }

    async fn handshake_once(&self) -> Result<(), SessionError> {
        let challenged = self
            .client
            .challenge()
            .await
            .map_err(SessionError::Attestation)?;
        let (attester, report_data) = (Arc::clone(&self.attester), challenged.report_data());
        let evidence = spawn_blocking(move || attester.evidence(&report_data))
            .await
            .map_err(|_| SessionError::Interrupted)?
            .map_err(SessionError::NoEvidence)?;
        self.client
            .attest(challenged, evidence)
            .await
            .map_err(SessionError::Attestation)
    }

    async fn certified(
        &self,
        current: &mut MutexGuard<'_, Current>,
    ) -> Result<Arc<Credentials>, SessionError> {
        let grant = self
            .client
            .open_session()
            .await
            .map_err(SessionError::Attestation)?;
        let certificate = self
            .client
            .certify(self.receipt_key, self.tls_spki_sha256)
            .await
            .map_err(SessionError::Attestation)?;
        let credentials = Arc::new(Credentials { grant, certificate });
        current.credentials = Some(Arc::clone(&credentials));
        Ok(credentials)
    }
}

/// A receipt that the key manager has in its log.
pub(crate) struct Committed {
    pub(crate) receipt: Envelope,
    pub(crate) answer: CommitAnswer,
    pub(crate) credentials: Arc<Credentials>,
}
