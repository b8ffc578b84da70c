//! Paths, bodies and statuses. Nothing is decided here.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sealift_kbs_protocol::Nonce;
use sealift_pinned_tls::ServerLimits;
use sealift_signed_document::Envelope;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::{
    evidence,
    failure::ScoreFailure,
    guest::Guest,
    phase::Phase,
    score::{self, ScoreRequest},
};

/// `GET ?nonce=<32 bytes, base64url without padding>`: [`crate::GuestEvidence`].
pub const ATTEST_PATH: &str = "/sealift/v1/attest";
/// `GET`: [`Status`].
pub const STATUS_PATH: &str = "/sealift/v1/status";
/// `POST` [`ScoreRequest`]: [`crate::ScoreAnswer`].
pub const SCORE_PATH: &str = "/sealift/v1/score";

/// What an operator may hold of the guest. A partition has half an hour; its work goes on to the
/// end after that, and the same dispatch later finds it done.
pub const SERVER_LIMITS: ServerLimits = ServerLimits {
    connections: 64,
    request: Duration::from_mins(30),
    ..ServerLimits::DOCUMENTS
};

/// How far the guest is, and what it is for. Nothing in it is signed: it is for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// `booted`, `listening`, `attested`, `keys_released`, `serving` or `failed`.
    pub phase: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The version's number.
    pub serial: u64,
    /// `guest-cert.v1` of the key that signs receipts, from the first certificate on. Operators
    /// keep it before they dispatch: should they never see the answer, the receipt that then
    /// counts would lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_certificate: Option<Envelope>,
    /// `session-grant.v1` that the certificate names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_grant: Option<Envelope>,
}

impl Guest {
    /// All paths.
    pub fn router(&self) -> Router {
        Router::new()
            .route(ATTEST_PATH, get(attest))
            .route(STATUS_PATH, get(status))
            .route(SCORE_PATH, post(scored))
            .fallback(|| async { ScoreFailure::NotFound })
            .method_not_allowed_fallback(|| async { ScoreFailure::NotFound })
            .with_state(self.clone())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestQuery {
    nonce: String,
}

async fn attest(
    State(guest): State<Guest>,
    query: Result<Query<AttestQuery>, QueryRejection>,
) -> Result<Response, ScoreFailure> {
    let malformed = "`nonce` is 32 bytes in base64url without padding, and the only parameter";
    let Query(AttestQuery { nonce }) = query.map_err(|_| ScoreFailure::Malformed(malformed))?;
    let nonce = Nonce::from_query(&nonce).map_err(|_| ScoreFailure::Malformed(malformed))?;
    let _slot = guest
        .shared()
        .evidence
        .try_acquire()
        .map_err(|_| ScoreFailure::Busy)?;
    let signer = guest.clone();
    let signing = spawn_blocking(move || evidence::answer(signer.boot(), &nonce));
    let answer = signing.await.map_err(|_| ScoreFailure::Interrupted)?;
    answer
        .map(|evidence| Json(evidence).into_response())
        .map_err(ScoreFailure::NoReport)
}

async fn status(State(guest): State<Guest>) -> Json<Status> {
    let (phase, settings) = (guest.shared().phase.current(), &guest.boot().settings);
    let reason = match phase {
        Phase::Failed(reason) => Some(reason.text().to_owned()),
        _ => None,
    };
    let credentials = guest.shared().session.shown();
    let shown = credentials.as_deref();
    Json(Status {
        guest_certificate: shown.map(|shown| shown.certificate.envelope().clone()),
        session_grant: shown.map(|shown| shown.grant.envelope().clone()),
        phase: phase.name().to_owned(),
        reason,
        model: settings.model.clone(),
        version: settings.version.clone(),
        serial: settings.serial,
    })
}

async fn scored(State(guest): State<Guest>, body: Bytes) -> Result<Response, ScoreFailure> {
    let malformed = "it has exactly `batch`, `user_key`, `partition`, `run` and `attempt`";
    let request: ScoreRequest =
        serde_json::from_slice(&body).map_err(|_| ScoreFailure::Malformed(malformed))?;
    drop(body);
    // To its end whatever the operator does: an operator that hangs up must neither break the
    // session's channel nor keep a finished result from its receipt.
    let work = tokio::spawn(async move { score::score(guest.shared(), request).await });
    let answer = work.await.map_err(|_| ScoreFailure::Interrupted)?;
    answer.map(|answer| Json(answer).into_response())
}
