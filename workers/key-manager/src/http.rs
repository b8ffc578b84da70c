//! Paths, bodies and statuses. Nothing is decided here.

use std::{future::Future, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sealift_encrypted_batch::GrantId;
use sealift_kbs_protocol::{
    Name, Nonce, PublicError,
    call::{CALL_PATH, SESSION_PATH},
    channel::CallMessage,
    checkpoint::{CHECKPOINT_PATH, COSIGNATURE_PATH, LOG_ENTRY_PATH},
    command::{COMMAND_PATH, GRANT_ACK_PATH, PUSH_NONCE_PATH, PushNonce, REGISTER_PATH},
    erasure::{ERASURE_PATH, REKEY_PATH},
    evidence::EVIDENCE_PATH,
    model_status::{MODEL_STATUS_PATH, ModelStatusAnswer},
    rcar::{ATTEST_PATH, AUTH_PATH, KEK_TAG, RESOURCE_PREFIX, SESSION_COOKIE},
    rotation::REWRAP_PATH,
    run_receipt::RUN_RECEIPT_PATH,
    unlock::UNLOCK_PATH,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

use crate::{
    commands, erasure, handshake, ops, push,
    refusal::Refusal,
    release, rotation,
    service::{KeyManager, Open},
    sessions::{AttestedGuest, CHALLENGE_SECONDS},
};

/// Body of a message that peers send before anybody knows them: evidence with its certificates
/// and init-data stays below.
const SMALL_BODY_BYTES: usize = 1 << 20;
/// Body of a push or command: envelopes of at most 8 MiB, and a key bundle of a few layers.
const DOCUMENT_BODY_BYTES: usize = 16 << 20;
/// Body of a call: a batch document, or the evaluated rows of a partition (eight bytes for each
/// output and row, in base64 twice).
pub const CALL_BODY_BYTES: usize = 64 << 20;
/// Calls and pushes whose bodies are in memory at one time.
const LARGE_BODIES: usize = 8;

impl KeyManager {
    /// All paths. While the key manager is locked only evidence and unlock answer.
    pub fn router(&self) -> Router {
        let large = Arc::new(Semaphore::new(LARGE_BODIES));
        let large_body = |limit: usize| {
            let slots = Arc::clone(&large);
            move |router: Router<Self>| {
                router
                    .layer(DefaultBodyLimit::max(limit))
                    .layer(middleware::from_fn_with_state(slots, with_slot))
            }
        };
        let documents = Router::new()
            .route(REGISTER_PATH, post(register))
            .route(REWRAP_PATH, post(rewrap))
            .route(COMMAND_PATH, post(command));
        let calls = Router::new().route(CALL_PATH, post(call));
        Router::new()
            .route(EVIDENCE_PATH, get(evidence))
            .route(UNLOCK_PATH, post(unlock))
            .route(PUSH_NONCE_PATH, post(push_nonce))
            .route(MODEL_STATUS_PATH, post(model_status))
            .route(REKEY_PATH, post(rekey))
            .route(ERASURE_PATH, get(erasure_receipt))
            .route(GRANT_ACK_PATH, get(grant_ack))
            .route(CHECKPOINT_PATH, get(checkpoint))
            .route(COSIGNATURE_PATH, post(cosignature))
            .route(LOG_ENTRY_PATH, get(log_entry))
            .route(RUN_RECEIPT_PATH, post(run_receipt))
            .route(AUTH_PATH, post(auth))
            .route(ATTEST_PATH, post(attest))
            .route(SESSION_PATH, get(session))
            .route(&format!("{RESOURCE_PREFIX}{{*path}}"), get(resource))
            .layer(DefaultBodyLimit::max(SMALL_BODY_BYTES))
            .merge(large_body(DOCUMENT_BODY_BYTES)(documents))
            .merge(large_body(CALL_BODY_BYTES)(calls))
            .fallback(|| async { Refusal::NotFound })
            .method_not_allowed_fallback(|| async { Refusal::NotFound })
            .with_state(self.clone())
    }
}

/// Holds one of the places for large bodies while a request is read and worked on.
async fn with_slot(State(slots): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match slots.try_acquire() {
        Ok(_slot) => next.run(request).await,
        Err(_) => Refusal::Full("large requests").into_response(),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        tracing::info!(reason = self.reason(), "refused");
        let public: PublicError = self.public();
        (public.status(), Json(public.information())).into_response()
    }
}

type Answer<T> = Result<Json<T>, Refusal>;

/// Runs `work` to its end whatever the peer does: a peer that hangs up must not stop a change
/// between its log entry and what follows from it.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(%error, "a request was not worked on to its end");
            Err(Refusal::Interrupted)
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|_| Refusal::Malformed)
}

type Asked<T> = Result<Query<T>, QueryRejection>;

fn asked<T>(query: Asked<T>) -> Result<T, Refusal> {
    query
        .map(|Query(query)| query)
        .map_err(|_| Refusal::Malformed)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EvidenceQuery {
    nonce: String,
}

async fn evidence(
    State(km): State<KeyManager>,
    query: Asked<EvidenceQuery>,
) -> Result<Response, Refusal> {
    let nonce = Nonce::from_query(&asked(query)?.nonce).map_err(|_| Refusal::Malformed)?;
    Ok(Json(km.evidence(nonce).await?).into_response())
}

async fn unlock(State(km): State<KeyManager>, body: Bytes) -> Result<Response, Refusal> {
    let message = read(&body)?;
    to_the_end(async move { km.unlock(&message).await })
        .await
        .map(|ack| Json(ack).into_response())
}

async fn push_nonce(State(km): State<KeyManager>) -> Answer<PushNonce> {
    Ok(Json(PushNonce {
        push_nonce: km.open()?.push_nonces.give(),
    }))
}

async fn register(State(km): State<KeyManager>, body: Bytes) -> Result<Response, Refusal> {
    let (open, message) = (km.open()?, read(&body)?);
    to_the_end(async move {
        let done = push::register(&open, &message).await;
        logged(&open, "register", done).await
    })
    .await
    .map(|ack| Json(ack).into_response())
}

async fn command(State(km): State<KeyManager>, body: Bytes) -> Result<Response, Refusal> {
    let (open, message) = (km.open()?, read(&body)?);
    to_the_end(async move {
        let done = commands::command(&open, &message).await;
        logged(&open, "command", done).await
    })
    .await
    .map(|ack| Json(ack).into_response())
}

async fn rewrap(State(km): State<KeyManager>, body: Bytes) -> Result<Response, Refusal> {
    let (open, message) = (km.open()?, read(&body)?);
    to_the_end(async move {
        let done = rotation::rewrap(&open, &message).await;
        logged(&open, "rewrap", done).await
    })
    .await
    .map(|answer| Json(answer).into_response())
}

async fn rekey(State(km): State<KeyManager>, body: Bytes) -> Result<Response, Refusal> {
    let (open, message) = (km.open()?, read(&body)?);
    to_the_end(async move {
        let done = erasure::rekey(&open, &message).await;
        logged(&open, "rekey", done).await
    })
    .await
    .map(|ack| Json(ack).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionQuery {
    model: Name,
    version: Name,
}

async fn erasure_receipt(
    State(km): State<KeyManager>,
    query: Asked<VersionQuery>,
) -> Result<Response, Refusal> {
    let VersionQuery { model, version } = asked(query)?;
    let receipt = erasure::receipt(&*km.open()?, &model, &version).await?;
    Ok(Json(receipt).into_response())
}

/// Writes a refused change into the audit log.
async fn logged<T>(
    open: &Open,
    change: &'static str,
    done: Result<T, Refusal>,
) -> Result<T, Refusal> {
    if let Err(refusal) = &done {
        let subjects = std::collections::BTreeMap::from([("change", change.to_owned())]);
        open.record_refusal(subjects, refusal).await;
    }
    done
}

async fn model_status(State(km): State<KeyManager>, body: Bytes) -> Answer<ModelStatusAnswer> {
    Ok(Json(ops::model_status(&*km.open()?, &read(&body)?).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantQuery {
    grant: GrantId,
}

async fn grant_ack(
    State(km): State<KeyManager>,
    query: Asked<GrantQuery>,
) -> Result<Response, Refusal> {
    let ack = commands::grant_ack(&*km.open()?, asked(query)?.grant).await?;
    Ok(Json(ack).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointQuery {
    since: u64,
}

async fn checkpoint(
    State(km): State<KeyManager>,
    query: Asked<CheckpointQuery>,
) -> Result<Response, Refusal> {
    let open = km.open()?;
    let ledger = open.ledger().await;
    let answer = ledger.checkpoint(asked(query)?.since, open.signing_keys())?;
    Ok(Json(answer).into_response())
}

#[derive(Serialize)]
struct Empty {}

async fn cosignature(State(km): State<KeyManager>, body: Bytes) -> Result<Response, Refusal> {
    let (open, message) = (km.open()?, read(&body)?);
    let mut ledger = open.ledger().await;
    let log = (&open.km_id, &open.log_key(), open.config().owner_roots());
    ledger.cosign(open.clock(), &message, log)?;
    Ok(Json(Empty {}).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogEntryQuery {
    index: u64,
    size: u64,
}

async fn log_entry(
    State(km): State<KeyManager>,
    query: Asked<LogEntryQuery>,
) -> Result<Response, Refusal> {
    let LogEntryQuery { index, size } = asked(query)?;
    let open = km.open()?;
    let answer = open.ledger().await.entry(index, size).await?;
    Ok(Json(answer).into_response())
}

async fn run_receipt(State(km): State<KeyManager>, body: Bytes) -> Result<Response, Refusal> {
    let (open, request) = (km.open()?, read(&body)?);
    to_the_end(async move { ops::run_receipt(&open, &request).await })
        .await
        .map(|answer| Json(answer).into_response())
}

async fn auth(State(km): State<KeyManager>, body: Bytes) -> Result<Response, Refusal> {
    // What cannot be read is another version or attester, and stock clients look for 401.
    let request = serde_json::from_slice(&body).map_err(|_| Refusal::Protocol)?;
    let challenged = handshake::challenge(&*km.open()?, &request).await?;
    let cookie = set_cookie(&challenged.cookie, CHALLENGE_SECONDS)?;
    Ok((cookie, Json(challenged.challenge)).into_response())
}

async fn attest(
    State(km): State<KeyManager>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let open = km.open()?;
    let cookie = session_cookie(&headers)
        .ok_or(Refusal::UnknownSession)?
        .to_owned();
    let answered =
        to_the_end(async move { handshake::attest(&open, &cookie, &body).await }).await?;
    let cookie = set_cookie(&answered.cookie, answered.seconds)?;
    Ok((cookie, Json(answered.answer)).into_response())
}

async fn resource(
    State(km): State<KeyManager>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    // The raw path, as it was sent: a name has one spelling.
    let path = uri
        .path()
        .strip_prefix(RESOURCE_PREFIX)
        .ok_or(Refusal::NotFound)?
        .to_owned();
    if uri.query().is_some() || !is_key_path(&path) {
        return Err(Refusal::NotFound);
    }
    let open = km.open()?;
    let guest = attested(&open, &headers).await?;
    to_the_end(async move { release::release(&open, &guest, &path).await })
        .await
        .map(|jwe| Json(jwe).into_response())
}

/// Exactly `<model>/<version>/kek`.
fn is_key_path(path: &str) -> bool {
    let segments: Vec<_> = path.split('/').collect();
    match segments.as_slice() {
        [model, version, tag] => {
            model.parse::<Name>().is_ok() && version.parse::<Name>().is_ok() && *tag == KEK_TAG
        }
        _ => false,
    }
}

async fn session(State(km): State<KeyManager>, headers: HeaderMap) -> Result<Response, Refusal> {
    let open = km.open()?;
    let guest = attested(&open, &headers).await?;
    to_the_end(async move { ops::session(&open, &guest).await })
        .await
        .map(|jwe| Json(jwe).into_response())
}

async fn call(State(km): State<KeyManager>, body: Bytes) -> Result<Response, Refusal> {
    let open = km.open()?;
    let message: CallMessage = read(&body)?;
    drop(body);
    let now = open.time().await;
    let guest = open.sessions.by_session(&message.session, now)?;
    to_the_end(async move { ops::call(&open, &guest, &message).await })
        .await
        .map(|answer| Json(answer).into_response())
}

/// The guest behind a cookie or, without one, behind a bearer token. Either only says whose key
/// the answer is encrypted to.
async fn attested(open: &Open, headers: &HeaderMap) -> Result<Arc<AttestedGuest>, Refusal> {
    let now = open.time().await;
    if let Some(cookie) = session_cookie(headers) {
        return open.sessions.by_cookie(cookie, now);
    }
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    open.sessions
        .by_token(bearer.ok_or(Refusal::UnknownSession)?, now)
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == SESSION_COOKIE).then_some(value)
        })
}

fn set_cookie(
    cookie: &str,
    seconds: u64,
) -> Result<[(header::HeaderName, HeaderValue); 1], Refusal> {
    let line =
        format!("{SESSION_COOKIE}={cookie}; Path=/kbs/v0; Max-Age={seconds}; Secure; HttpOnly");
    let value = HeaderValue::try_from(line).map_err(|_| Refusal::Malformed)?;
    Ok([(header::SET_COOKIE, value)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_path() {
        assert!(is_key_path("m/v/kek"));
        for other in [
            "M/v/kek",
            "m/V/kek",
            "m/v/KEK",
            "m/v/fhe",
            "m/v",
            "m/v/kek/",
            "/m/v/kek",
            "m//kek",
            "m/v/kek/x",
            "m/v/%6bek",
            "m%2fv/kek",
            "./v/kek",
            "m/../kek",
            "",
        ] {
            assert!(!is_key_path(other), "{other}");
        }
    }
}
