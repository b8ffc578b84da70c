//! Guests in this process, behind real TLS and with real evidence.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sealift_attest::{ATTEST_PATH, GuestEvidence};
use sealift_attester::Attester;
use sealift_encrypted_batch::{VerifiedBatch, result_object};
use sealift_evidence::{Measurement, Role, Tee, attested_keys_report_data};
use sealift_init_data::InitData;
use sealift_kbs_protocol::{Nonce, SessionGrant};
use sealift_pinned_tls::{CertificateSwitch, Server, ServerLimits, ServerUrl, TlsIdentity};
use sealift_provision::{
    Backend, BackendError, Guest, GuestEnd, GuestStart, Pod, Published, STATUS_PATH,
};
use sealift_results_folder::CertifiedGuest;
use sealift_signed_document::{Digest, Envelope, SigningKey, VerifyingKey, sign};
use sealift_simulated_sp::{GuestContext, InProcessGuest, SimulatedSp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;

use crate::{GUEST_MEASUREMENT, ServedKeyManager, World, batch::receipt, key_manager::Ledger};

/// What is wrong with a guest's answers.
#[derive(Clone, Debug, Default)]
pub enum Spoil {
    /// Nothing.
    #[default]
    Nothing,
    /// It runs something else.
    Measurement(Measurement),
    /// It says that its TLS key is another one, which its evidence names.
    NamesOtherTlsKey,
    /// Its evidence names another TLS key than its connection and answer have.
    EvidenceOfOtherTlsKey,
    /// Its evidence names another receipt key.
    EvidenceOfOtherReceiptKey,
    /// It answers every challenge with its answer to the first.
    Replay,
    /// Its evidence is in the role of a key manager.
    OtherRole,
    /// It was started with this init-data and says so.
    InitData(String),
    /// It was started with other init-data than it shows.
    HostData,
    /// It says that it runs on another TEE.
    Tee,
    /// It has no evidence.
    NoEvidence,
    /// It answers with something else.
    Malformed,
}

/// What a guest's status says.
#[derive(Clone, Debug)]
pub enum Stage {
    /// It serves.
    Serving,
    /// It will never serve, for this reason.
    Failed(&'static str),
}

/// How guests behave, and what they were asked. Shared with every guest of a backend.
#[derive(Default)]
pub struct Played {
    /// What is wrong with guests that are challenged from now on.
    pub spoil: Mutex<Spoil>,
    /// What statuses say from now on; serving if nothing.
    pub stage: Mutex<Option<Stage>>,
    /// Guests that were started.
    pub starts: AtomicU32,
    /// Challenges that were answered.
    pub challenges: AtomicU32,
    /// Dispatches that arrived.
    pub dispatches: AtomicU32,
    /// Dispatches from now on that are answered with this status and body.
    pub refusals: Mutex<Vec<(u16, serde_json::Value)>>,
    /// Whether statuses show the certificate.
    pub shows_certificate: AtomicBool,
    /// Whether answers carry a receipt that another key signed.
    pub foreign_receipts: AtomicBool,
    /// Whether a dispatch arrived while another one was being worked on.
    pub overlapped: AtomicBool,
    scoring: AtomicBool,
    /// Ends the guests that are running.
    ends: Mutex<Vec<Arc<AtomicBool>>>,
    switches: Mutex<Vec<CertificateSwitch>>,
    first: Mutex<Option<GuestEvidence>>,
}

impl Played {
    /// Ends every guest, as a crash does.
    pub fn end_guests(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            end.store(true, Ordering::SeqCst);
        }
    }

    /// Has every guest show another TLS key to new connections.
    pub fn switch_tls_keys(&self) {
        for switch in self.switches.lock().unwrap().iter() {
            switch.switch_to(&TlsIdentity::generate().unwrap());
        }
    }
}

/// Starts guests in this process.
pub struct GuestBackend {
    firmware: SimulatedSp,
    store: PathBuf,
    ledger: Option<Arc<Ledger>>,
    played: Arc<Played>,
}

impl GuestBackend {
    /// Guests that can be challenged.
    pub fn new(world: &World) -> (Self, Arc<Played>) {
        let played = Arc::new(Played::default());
        let (firmware, store) = (world.firmware.clone(), world.path("store"));
        (
            Self {
                firmware,
                store,
                ledger: None,
                played: Arc::clone(&played),
            },
            played,
        )
    }

    /// Guests that score, too.
    pub fn scoring(world: &World, key_manager: &ServedKeyManager) -> (Self, Arc<Played>) {
        let (backend, played) = Self::new(world);
        (
            Self {
                ledger: Some(key_manager.ledger()),
                ..backend
            },
            played,
        )
    }
}

#[async_trait]
impl Backend for GuestBackend {
    async fn start(&self, start: GuestStart) -> Result<Box<dyn Guest>, BackendError> {
        self.played.starts.fetch_add(1, Ordering::SeqCst);
        let tls = TlsIdentity::generate().unwrap();
        let switch = CertificateSwitch::new(&tls);
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, &switch, ServerLimits::DOCUMENTS)
            .await
            .unwrap();
        let url = format!("https://{}", server.address()).parse().unwrap();
        let receipt_key = SigningKey::generate();
        let certified = self.ledger.as_ref().map(|ledger| {
            let session = ledger.key_manager().session_grant(&pod_of(&start));
            let keys = (receipt_key.public(), tls.spki_sha256());
            (
                ledger.key_manager().certify(&session, keys.0, keys.1),
                session,
            )
        });
        let state = Arc::new(Running {
            tls_spki_sha256: tls.spki_sha256(),
            receipt_key,
            init_data: start.init_data,
            firmware: self.firmware.clone(),
            store: self.store.clone(),
            ledger: self.ledger.clone(),
            certified,
            played: Arc::clone(&self.played),
        });
        let router = Router::new()
            .route(STATUS_PATH, get(status))
            .route(ATTEST_PATH, get(attest))
            .route(sealift_score_path(), post(score))
            .with_state(state);
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server.serve(router, async {
            stopped.await.ok();
        }));
        let ended = Arc::new(AtomicBool::new(false));
        self.played.ends.lock().unwrap().push(Arc::clone(&ended));
        self.played.switches.lock().unwrap().push(switch);
        Ok(Box::new(InProcess {
            url,
            ended,
            _stop: stop,
        }))
    }
}

/// As the operator's jobs have it; a fixture of theirs cannot link them all.
fn sealift_score_path() -> &'static str {
    "/sealift/v1/score"
}

fn pod_of(start: &GuestStart) -> Pod {
    let sealift = sealift_init_data::SealiftToml::of(&start.init_data).unwrap();
    let published = Published {
        model: sealift.model.parse().unwrap(),
        version: sealift.version.parse().unwrap(),
        serial: sealift.serial,
        manifest_sha256: sealift.manifest_sha256,
    };
    Pod {
        name: start.name.clone(),
        ..Pod::of("", &published)
    }
}

struct InProcess {
    url: ServerUrl,
    ended: Arc<AtomicBool>,
    _stop: oneshot::Sender<()>,
}

impl Guest for InProcess {
    fn url(&self) -> &ServerUrl {
        &self.url
    }

    fn ended(&mut self) -> Option<GuestEnd> {
        let ended = self.ended.load(Ordering::SeqCst);
        ended.then(|| GuestEnd {
            transient: true,
            text: "signal: 9 (SIGKILL)".into(),
        })
    }
}

struct Running {
    tls_spki_sha256: Digest,
    receipt_key: SigningKey,
    init_data: InitData,
    firmware: SimulatedSp,
    store: PathBuf,
    ledger: Option<Arc<Ledger>>,
    certified: Option<(CertifiedGuest, SessionGrant)>,
    played: Arc<Played>,
}

async fn status(State(guest): State<Arc<Running>>) -> Json<serde_json::Value> {
    let mut status = match *guest.played.stage.lock().unwrap() {
        None | Some(Stage::Serving) => json!({ "phase": "serving" }),
        Some(Stage::Failed(reason)) => json!({ "phase": "failed", "reason": reason }),
    };
    status["model"] = json!("display only");
    if let (true, Some((certified, _))) = (
        guest.played.shows_certificate.load(Ordering::SeqCst),
        &guest.certified,
    ) {
        status["guest_certificate"] = json!(certified.guest_certificate);
        status["session_grant"] = json!(certified.session_grant);
    }
    Json(status)
}

#[derive(Deserialize)]
struct AttestQuery {
    nonce: String,
}

async fn attest(
    State(guest): State<Arc<Running>>,
    Query(AttestQuery { nonce }): Query<AttestQuery>,
) -> Response {
    guest.played.challenges.fetch_add(1, Ordering::SeqCst);
    let spoil = guest.played.spoil.lock().unwrap().clone();
    match spoil {
        Spoil::NoEvidence => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Spoil::Malformed => Json(json!({ "evidence": "trust me" })).into_response(),
        spoil => Json(guest.evidence(&Nonce::from_query(&nonce).unwrap(), &spoil)).into_response(),
    }
}

impl Running {
    fn evidence(&self, nonce: &Nonce, spoil: &Spoil) -> GuestEvidence {
        let mut answer = self.good(nonce, spoil);
        if matches!(spoil, Spoil::Tee) {
            answer.tee = Tee::AzSnpVtpm;
        }
        let mut first = self.played.first.lock().unwrap();
        let first = first.get_or_insert_with(|| answer.clone());
        if matches!(spoil, Spoil::Replay) {
            first.clone()
        } else {
            answer
        }
    }

    fn good(&self, nonce: &Nonce, spoil: &Spoil) -> GuestEvidence {
        let other = Digest::of(b"another key");
        let (named, attested) = match spoil {
            Spoil::NamesOtherTlsKey => (other, other),
            Spoil::EvidenceOfOtherTlsKey => (self.tls_spki_sha256, other),
            _ => (self.tls_spki_sha256, self.tls_spki_sha256),
        };
        let receipt_key = self.receipt_key.public();
        let attested_receipt = match spoil {
            Spoil::EvidenceOfOtherReceiptKey => SigningKey::generate().public(),
            _ => receipt_key,
        };
        let keys = [
            (
                "receipt".to_owned(),
                attested_receipt.thumbprint().to_string(),
            ),
            ("tls".to_owned(), attested.to_string()),
        ];
        let role = if matches!(spoil, Spoil::OtherRole) {
            Role::KeyManager
        } else {
            Role::Guest
        };
        let report_data = attested_keys_report_data(role, nonce.as_bytes(), &keys.into());
        let init_data = match spoil {
            Spoil::InitData(text) => text.clone(),
            _ => self.init_data.as_str().to_owned(),
        };
        let host_data = match spoil {
            Spoil::HostData => other,
            _ => Digest::of(init_data.as_bytes()),
        };
        let measurement = match spoil {
            Spoil::Measurement(measurement) => *measurement,
            _ => GUEST_MEASUREMENT,
        };
        let context = GuestContext {
            measurement,
            host_data: *host_data.as_bytes(),
        };
        let attester = InProcessGuest::new(self.firmware.clone(), context);
        GuestEvidence {
            tee: Tee::Snp,
            evidence: attester.evidence(&report_data).unwrap(),
            init_data,
            receipt_key,
            tls_spki_sha256: named,
        }
    }
}

/// A dispatch, as guests read it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dispatch {
    batch: Envelope,
    user_key: VerifyingKey,
    partition: u32,
    run: String,
    attempt: u32,
}

/// A scored partition, as guests write it.
#[derive(Serialize)]
struct Scored {
    receipt: Envelope,
    guest_certificate: Envelope,
    session_grant: Envelope,
    counted: bool,
    output_sha256: Digest,
    rows: sealift_encrypted_batch::RowCounts,
    seconds: f64,
}

async fn score(State(guest): State<Arc<Running>>, Json(asked): Json<Dispatch>) -> Response {
    guest.played.dispatches.fetch_add(1, Ordering::SeqCst);
    if guest.played.scoring.swap(true, Ordering::SeqCst) {
        guest.played.overlapped.store(true, Ordering::SeqCst);
    }
    // Lets a dispatch that should have waited arrive meanwhile.
    tokio::task::yield_now().await;
    let answer = scored(&guest, asked);
    guest.played.scoring.store(false, Ordering::SeqCst);
    answer
}

fn scored(guest: &Running, asked: Dispatch) -> Response {
    if let Some((status, body)) = guest.played.refusals.lock().unwrap().pop() {
        return (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    }
    let (Some(ledger), Some((certified, session))) = (&guest.ledger, &guest.certified) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let batch = VerifiedBatch::verify(&asked.batch, &asked.user_key).unwrap();
    let output = format!(
        "results of {} by {}",
        asked.partition, guest.tls_spki_sha256
    );
    let output_sha256 = Digest::of(output.as_bytes());
    let object = guest.store.join(result_object(
        &batch.digest(),
        asked.partition,
        &output_sha256,
    ));
    fs::create_dir_all(object.parent().unwrap()).unwrap();
    fs::write(object, &output).unwrap();
    let mut said = receipt(&batch, asked.partition, output_sha256, (certified, session));
    (said.run, said.attempt) = (asked.run, asked.attempt);
    let key = if guest.played.foreign_receipts.load(Ordering::SeqCst) {
        &SigningKey::generate()
    } else {
        &guest.receipt_key
    };
    let signed = sign(&said, key).unwrap();
    let counted = ledger.commit(batch.document().batch, asked.partition, &signed);
    Json(Scored {
        receipt: signed,
        guest_certificate: certified.guest_certificate.clone(),
        session_grant: certified.session_grant.clone(),
        counted,
        output_sha256,
        rows: said.rows,
        seconds: 0.1,
    })
    .into_response()
}
