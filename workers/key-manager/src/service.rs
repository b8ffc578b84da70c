//! The key manager as a whole: locked at boot, open after one unlock.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use sealift_attester::Attester;
use sealift_init_data::KeyManagerConfig;
use sealift_kbs_protocol::{
    Nonce,
    command::{AckOutcome, Acknowledged, KmAck},
    evidence::KeyManagerEvidence,
    unlock::UnlockMessage,
};
use sealift_pinned_tls::{CertificateSwitch, TlsIdentity};
use sealift_signed_document::{Digest, Document, Envelope, KeyId, SigningKey, VerifyingKey, sign};
use sealift_verifier::Anchors;
use tokio::sync::{Mutex, Semaphore};

use crate::{
    boot::{Boot, BootError},
    layers::Layers,
    ledger::Ledger,
    push_nonces::PushNonces,
    refusal::Refusal,
    sessions::Sessions,
    state::log::LogEntry,
    token::TokenKey,
    unlock::{OwnKeys, Unlocked, unlock},
};

/// Reads the host's clock: Unix seconds. Decisions use log time, which this can only push on.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Reports that the platform signs at one time; each takes it some milliseconds.
const EVIDENCE_SLOTS: usize = 4;

/// A key manager. Clones are handles of the same one.
#[derive(Clone)]
pub struct KeyManager(Arc<Shared>);

struct Shared {
    boot: Boot,
    state: PathBuf,
    clock: Clock,
    certificate: CertificateSwitch,
    evidence_slots: Semaphore,
    unlocking: Mutex<()>,
    open: OnceLock<Arc<Open>>,
}

impl KeyManager {
    /// Starts locked, over the state in the folder `state`, with the exact init-data that this
    /// process was launched with.
    pub fn boot(
        state: PathBuf,
        init_data: &str,
        attester: Arc<dyn Attester>,
        clock: Clock,
    ) -> Result<Self, BootError> {
        let boot = Boot::new(init_data, attester)?;
        let tls = TlsIdentity::generate_for(boot.config.config.tls_names());
        let certificate = CertificateSwitch::new(&tls.map_err(BootError::Tls)?);
        Ok(Self(Arc::new(Shared {
            boot,
            state,
            clock,
            certificate,
            evidence_slots: Semaphore::new(EVIDENCE_SLOTS),
            unlocking: Mutex::new(()),
            open: OnceLock::new(),
        })))
    }

    /// The certificate that a server of this key manager shows.
    pub fn certificate(&self) -> &CertificateSwitch {
        &self.0.certificate
    }

    /// The open key manager.
    pub(crate) fn open(&self) -> Result<Arc<Open>, Refusal> {
        self.0.open.get().cloned().ok_or(Refusal::Locked)
    }

    /// Evidence about this boot that answers `nonce`.
    pub(crate) async fn evidence(&self, nonce: Nonce) -> Result<KeyManagerEvidence, Refusal> {
        let full = Refusal::Full("requests for evidence");
        let _slot = self.0.evidence_slots.try_acquire().map_err(|_| full)?;
        let identity = self.0.open.get().map(|open| open.keys.identity.public());
        let shared = Arc::clone(&self.0);
        let signing =
            tokio::task::spawn_blocking(move || shared.boot.evidence(&nonce, identity.as_ref()));
        match signing.await {
            Ok(Ok(evidence)) => Ok(evidence),
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "no evidence");
                Err(Refusal::Full("reports that the platform signs"))
            }
            Err(error) => {
                tracing::error!(%error, "no evidence");
                Err(Refusal::Full("reports that the platform signs"))
            }
        }
    }

    /// Opens the key manager, once.
    pub(crate) async fn unlock(&self, message: &UnlockMessage) -> Result<Acknowledged, Refusal> {
        let _one_at_a_time = self.0.unlocking.lock().await;
        if self.0.open.get().is_some() {
            return Err(Refusal::AlreadyOpen);
        }
        let now = (self.0.clock)();
        let Unlocked {
            keys,
            ledger,
            entry,
        } = unlock(&self.0.boot, &self.0.state, message, now).await?;
        let open = Arc::new(Open::new(&self.0, keys, ledger)?);
        let answer = open.acknowledge(message.document.digest(), AckOutcome::Unlocked, &entry)?;
        self.0.certificate.switch_to(&open.keys.tls);
        tracing::info!(km_id = %open.km_id, "unlocked");
        self.0.open.set(open).map_err(|_| Refusal::AlreadyOpen)?;
        Ok(answer)
    }
}

/// An open key manager.
pub(crate) struct Open {
    pub(crate) keys: OwnKeys,
    pub(crate) km_id: KeyId,
    pub(crate) tokens: TokenKey,
    pub(crate) sessions: Sessions,
    pub(crate) push_nonces: PushNonces,
    pub(crate) layers: Layers,
    shared: BootFacts,
    ledger: Mutex<Ledger>,
}

/// What of the boot an open key manager needs.
struct BootFacts {
    config: KeyManagerConfig,
    anchors: Anchors,
    clock: Clock,
    boot: std::sync::Weak<Shared>,
}

impl Open {
    fn new(shared: &Arc<Shared>, keys: OwnKeys, ledger: Ledger) -> Result<Self, Refusal> {
        Ok(Self {
            km_id: keys.identity.public().thumbprint(),
            tokens: TokenKey::generate()?,
            sessions: Sessions::default(),
            push_nonces: PushNonces::default(),
            layers: Layers::default(),
            shared: BootFacts {
                config: shared.boot.config.config.clone(),
                anchors: shared.boot.anchors.clone(),
                clock: Arc::clone(&shared.clock),
                boot: Arc::downgrade(shared),
            },
            keys,
            ledger: Mutex::new(ledger),
        })
    }

    pub(crate) fn config(&self) -> &KeyManagerConfig {
        &self.shared.config
    }

    pub(crate) fn anchors(&self) -> &Anchors {
        &self.shared.anchors
    }

    pub(crate) fn clock(&self) -> u64 {
        (self.shared.clock)()
    }

    /// Runs `work` with the boot key.
    pub(crate) fn with_boot<T>(
        &self,
        work: impl FnOnce(&Boot) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let shared = self.shared.boot.upgrade().ok_or(Refusal::Locked)?;
        work(&shared.boot)
    }

    /// The state; whoever holds it is alone with it.
    pub(crate) async fn ledger(&self) -> tokio::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().await
    }

    /// Log time now.
    pub(crate) async fn time(&self) -> u64 {
        let now = self.clock();
        self.ledger.lock().await.time(now)
    }

    /// Signs with the identity.
    pub(crate) fn sign<D: Document>(&self, document: &D) -> Result<Envelope, Refusal> {
        sign(document, &self.keys.identity).map_err(Refusal::Document)
    }

    pub(crate) fn signing_keys(&self) -> (&SigningKey, &SigningKey) {
        (&self.keys.identity, &self.keys.log)
    }

    pub(crate) fn log_key(&self) -> VerifyingKey {
        self.keys.log.public()
    }

    /// The identity's word that a change is durable.
    pub(crate) fn acknowledge(
        &self,
        document_sha256: Digest,
        outcome: AckOutcome,
        entry: &LogEntry,
    ) -> Result<Acknowledged, Refusal> {
        let ack = KmAck {
            km_id: self.km_id.clone(),
            document_sha256,
            outcome,
            log_index: entry.seq,
            time: entry.time,
        };
        Ok(Acknowledged {
            ack: self.sign(&ack)?,
            grant_ack: None,
        })
    }

    /// Writes a refusal into the audit log.
    pub(crate) async fn record_refusal(
        &self,
        subjects: BTreeMap<&'static str, String>,
        refusal: &Refusal,
    ) {
        let now = self.clock();
        self.ledger
            .lock()
            .await
            .record_refusal(now, subjects, refusal)
            .await;
    }
}
