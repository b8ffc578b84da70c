//! A key manager's identity, its evidence and what it signs.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sealift_encrypted_batch::{Assurance, BatchId, RunReceipt, receipts_root};
use sealift_evidence::{Measurement, Role, Tee, attested_keys_report_data};
use sealift_init_data::{InitData, KeyManagerConfig, KeyManagerConfigParts};
use sealift_kbs_protocol::{
    GuestCertificate, Nonce, SessionGrant, TeeKey,
    channel::SessionId,
    checkpoint::{CHECKPOINT_PATH, CheckpointAnswer, LogKey, sign_checkpoint},
    evidence::{EVIDENCE_PATH, KeyManagerEvidence},
    merkle::TreeHead,
    run_receipt::{RUN_RECEIPT_PATH, RunReceiptAnswer, RunReceiptRequest},
};
use sealift_pinned_tls::{CertificateSwitch, Server, ServerLimits, TlsIdentity};
use sealift_provision::{KeyManagerAddress, Pod};
use sealift_results_folder::CertifiedGuest;
use sealift_signed_document::{
    Digest, Envelope, KeyId, SigningKey, VerifyingKey, hpke_box::BoxSecret, sign,
};
use sealift_simulated_sp::{GuestContext, SimulatedSp};
use serde::Deserialize;

use crate::{GUEST_MEASUREMENT, KEY_MANAGER_MEASUREMENT, World};

/// Entries in the log when it signs its checkpoint.
const LOG_SIZE: u64 = 100;

/// A key manager without state: keys, evidence and signatures.
pub struct TestKeyManager {
    /// Signs everything that counts.
    pub identity: SigningKey,
    /// Signs checkpoints.
    pub log_key: SigningKey,
    /// What its executable measures.
    pub measurement: Measurement,
    firmware: SimulatedSp,
    boot: BoxSecret,
    init_data: InitData,
}

impl TestKeyManager {
    /// A key manager that the world's owner rules and trusts.
    pub fn new(world: &World) -> Self {
        let config = KeyManagerConfig::new(KeyManagerConfigParts {
            owner_roots: vec![world.root.public()],
            threshold: 1,
            mode: Assurance::Simulated,
            anchors: vec![world.firmware.ark_fingerprint()],
            tls: vec!["127.0.0.1".into()],
        });
        Self {
            identity: SigningKey::generate(),
            log_key: SigningKey::generate(),
            measurement: KEY_MANAGER_MEASUREMENT,
            firmware: world.firmware.clone(),
            boot: BoxSecret::generate(),
            init_data: config.unwrap().to_init_data(),
        }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.identity.public().thumbprint()
    }

    /// Evidence that answers `nonce`.
    pub fn evidence(&self, nonce: &Nonce) -> KeyManagerEvidence {
        let (boot_key, identity) = (self.boot.public(), self.identity.public());
        let keys = KeyManagerEvidence::attested_keys(&boot_key, Some(&identity));
        let report_data = attested_keys_report_data(Role::KeyManager, nonce.as_bytes(), &keys);
        let context = GuestContext {
            measurement: self.measurement,
            host_data: *self.init_data.digest().as_bytes(),
        };
        KeyManagerEvidence {
            tee: Tee::Snp,
            evidence: self.firmware.evidence(&context, &report_data).unwrap(),
            init_data: self.init_data.as_str().to_owned(),
            boot_key,
            boot_nonce: Nonce::from_bytes([1; 32]),
            identity: Some(identity),
        }
    }

    /// A certificate for a guest with these keys, under a grant.
    pub fn certify(
        &self,
        session: &SessionGrant,
        receipt_key: VerifyingKey,
        tls_spki_sha256: Digest,
    ) -> CertifiedGuest {
        let session_grant = sign(session, &self.identity).unwrap();
        let certificate = GuestCertificate {
            receipt_key,
            tls_spki_sha256,
            session_grant_sha256: session_grant.digest(),
            assurance: session.assurance,
            log_index: 3,
        };
        let guest_certificate = sign(&certificate, &self.identity).unwrap();
        CertifiedGuest {
            guest_certificate,
            session_grant,
        }
    }

    /// A grant for a guest of `pod`.
    pub fn session_grant(&self, pod: &Pod) -> SessionGrant {
        SessionGrant {
            session: SessionId::random(),
            nonce: "nonce".into(),
            tee_pubkey: *TeeKey::generate().public(),
            secret_hash: Digest::of(b"secret"),
            evidence_sha256: Digest::of(b"evidence"),
            measurement: GUEST_MEASUREMENT,
            init_data_sha256: Digest::of(b"init-data"),
            model: pod.model.clone(),
            version: pod.version.clone(),
            serial: pod.serial,
            manifest_sha256: pod.manifest_sha256,
            assurance: Assurance::Simulated,
            template_sha256: Digest::of(b"template"),
            not_after: crate::NOW + 3_600,
            log_index: 2,
        }
    }

    /// Its log's newest checkpoint.
    pub fn checkpoint(&self) -> String {
        let head = TreeHead {
            size: LOG_SIZE,
            root: Digest::of(b"root"),
        };
        sign_checkpoint(&self.id(), &head, &self.log_key)
    }

    /// The identity's word for the log key.
    pub fn log_key_document(&self) -> Envelope {
        let document = LogKey {
            km_id: self.id(),
            log_key: self.log_key.public(),
        };
        sign(&document, &self.identity).unwrap()
    }

    /// Its word for the receipts of a run.
    pub fn run_receipt(&self, run: &str, batch: BatchId, receipts: &[Envelope]) -> Envelope {
        let document = RunReceipt {
            run: run.to_owned(),
            batch,
            receipts_root: receipts_root(receipts),
            checkpoint: self.checkpoint(),
        };
        sign(&document, &self.identity).unwrap()
    }
}

/// A key manager behind real TLS, which counts receipts.
pub struct ServedKeyManager {
    /// The key manager.
    pub key_manager: Arc<TestKeyManager>,
    /// Where it listens.
    pub address: KeyManagerAddress,
    ledger: Arc<Ledger>,
}

/// What it has counted.
pub(crate) struct Ledger {
    key_manager: Arc<TestKeyManager>,
    batch: Mutex<Option<BatchId>>,
    /// Partition and receipt; the first of a partition stays.
    receipts: Mutex<Vec<(u32, Envelope)>>,
    refusals: AtomicU32,
}

impl ServedKeyManager {
    /// Serves `key_manager` until the test ends.
    pub async fn start(key_manager: TestKeyManager) -> Self {
        let identity = TlsIdentity::generate().unwrap();
        let switch = CertificateSwitch::new(&identity);
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, &switch, ServerLimits::DOCUMENTS)
            .await
            .unwrap();
        let address = KeyManagerAddress {
            url: format!("https://{}", server.address()).parse().unwrap(),
            id: key_manager.id(),
            tls_sha256: identity.spki_sha256(),
        };
        let key_manager = Arc::new(key_manager);
        let ledger = Arc::new(Ledger {
            key_manager: Arc::clone(&key_manager),
            batch: Mutex::default(),
            receipts: Mutex::default(),
            refusals: AtomicU32::new(0),
        });
        let router = Router::new()
            .route(EVIDENCE_PATH, get(evidence))
            .route(RUN_RECEIPT_PATH, post(run_receipt))
            .route(CHECKPOINT_PATH, get(checkpoint))
            .with_state(Arc::clone(&ledger));
        tokio::spawn(server.serve(router, pending()));
        Self {
            key_manager,
            address,
            ledger,
        }
    }

    /// Refuses the next requests for a run receipt, as before a witness has cosigned.
    pub fn refuse_run_receipts(&self, count: u32) {
        self.ledger.refusals.store(count, Ordering::SeqCst);
    }

    /// Counts a receipt; false if one of its partition counts already.
    pub fn commit(&self, batch: BatchId, partition: u32, receipt: &Envelope) -> bool {
        self.ledger.commit(batch, partition, receipt)
    }

    pub(crate) fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }
}

impl Ledger {
    pub(crate) fn key_manager(&self) -> &TestKeyManager {
        &self.key_manager
    }

    pub(crate) fn commit(&self, batch: BatchId, partition: u32, receipt: &Envelope) -> bool {
        *self.batch.lock().unwrap() = Some(batch);
        let mut receipts = self.receipts.lock().unwrap();
        if receipts.iter().any(|(counted, _)| *counted == partition) {
            return false;
        }
        receipts.push((partition, receipt.clone()));
        receipts.sort_by_key(|(partition, _)| *partition);
        true
    }
}

#[derive(Deserialize)]
struct EvidenceQuery {
    nonce: String,
}

async fn evidence(
    State(ledger): State<Arc<Ledger>>,
    Query(EvidenceQuery { nonce }): Query<EvidenceQuery>,
) -> Json<KeyManagerEvidence> {
    Json(
        ledger
            .key_manager
            .evidence(&Nonce::from_query(&nonce).unwrap()),
    )
}

async fn run_receipt(
    State(ledger): State<Arc<Ledger>>,
    Json(request): Json<RunReceiptRequest>,
) -> Response {
    let refused = ledger.refusals.load(Ordering::SeqCst);
    if refused > 0 {
        ledger.refusals.store(refused - 1, Ordering::SeqCst);
        return StatusCode::FORBIDDEN.into_response();
    }
    let receipts: Vec<_> = ledger
        .receipts
        .lock()
        .unwrap()
        .iter()
        .map(|(_, receipt)| receipt.clone())
        .collect();
    let batch = ledger.batch.lock().unwrap().unwrap();
    let run_receipt = ledger
        .key_manager
        .run_receipt(&request.run, batch, &receipts);
    Json(RunReceiptAnswer {
        run_receipt,
        receipts,
    })
    .into_response()
}

async fn checkpoint(State(ledger): State<Arc<Ledger>>) -> Json<CheckpointAnswer> {
    Json(CheckpointAnswer {
        checkpoint: ledger.key_manager.checkpoint(),
        log_key: ledger.key_manager.log_key.public(),
        log_key_document: ledger.key_manager.log_key_document(),
        consistency: Vec::new(),
        cosigned: None,
    })
}
