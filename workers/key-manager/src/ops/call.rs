//! Granting a session, and taking its calls.

use std::sync::Arc;

use sealift_kbs_protocol::{
    OpenedSession, SessionGrant,
    call::{CallOutcome, Op},
    channel::{CallAnswer, CallMessage, Received, ServerChannel, SessionId},
    jwe::{self, Jwe},
    secret_hash,
};
use sealift_signed_document::SecretBytes;
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{batch, certify, commit, fhe, unwrap};
use crate::{
    refusal::Refusal,
    release::check_current,
    service::Open,
    sessions::{AttestedGuest, CallSession, CallState},
    state::{
        log::{EntryType, Event},
        vault::Change,
    },
};

/// Grants a guest its session, once; asked again, the same grant is encrypted again.
pub(crate) async fn session(open: &Open, guest: &Arc<AttestedGuest>) -> Result<Jwe, Refusal> {
    let mut state = guest.call.lock().await;
    if state.session.is_none() {
        let granted = grant(open, guest).await;
        if let Err(refusal) = &granted {
            open.record_refusal(guest.subjects([]), refusal).await;
        }
        let (id, session) = granted?;
        state.session = Some(session);
        open.sessions.name_session(id, guest);
    }
    let session = state.session.as_ref().ok_or(Refusal::UnknownSession)?;
    let identity = open.keys.identity.public();
    let bytes = OpenedSession::to_bytes(&session.secret, &session.grant, &identity)
        .map_err(Refusal::Document)?;
    jwe::seal(&guest.facts.tee_pubkey, &bytes).map_err(Refusal::Jwe)
}

async fn grant(open: &Open, guest: &AttestedGuest) -> Result<(SessionId, CallSession), Refusal> {
    let (facts, id, secret) = (&guest.facts, SessionId::random(), SecretBytes::random());
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    guest.check_live(ledger.time(clock))?;
    let version = check_current(&ledger, guest)?;
    let grant = open.sign(&SessionGrant {
        session: id.clone(),
        nonce: facts.nonce.clone(),
        tee_pubkey: facts.tee_pubkey,
        secret_hash: secret_hash(&secret),
        evidence_sha256: facts.evidence_sha256,
        measurement: facts.measurement,
        init_data_sha256: facts.init_data_sha256,
        model: facts.model.clone(),
        version: facts.version.clone(),
        serial: facts.serial,
        manifest_sha256: facts.manifest_sha256,
        assurance: facts.assurance,
        template_sha256: facts.template_sha256,
        not_after: facts.not_after,
        log_index: facts.log_index,
    })?;
    let event = Event {
        subjects: guest.subjects([("session_grant_sha256", grant.digest().to_string())]),
        ..Event::new(EntryType::SessionGranted, []).under(version.register_sha256)
    };
    ledger.record(clock, Change::none(), event).await?;
    let channel = ServerChannel::new(id.clone(), &secret);
    Ok((
        id,
        CallSession {
            secret,
            grant,
            channel,
        },
    ))
}

/// Takes a call: in order, once, and only with the session's secret.
pub(crate) async fn call(
    open: &Open,
    guest: &AttestedGuest,
    message: &CallMessage,
) -> Result<CallAnswer, Refusal> {
    let mut state = guest.call.lock().await;
    let session = session_of(&mut state)?;
    let request = match session.channel.receive(message).map_err(Refusal::Channel) {
        Ok(Received::Repeated(answer)) => return Ok(answer),
        Ok(Received::New(request)) => request,
        Err(refusal) => {
            if session.channel.has_ended() {
                guest.end();
            }
            open.record_refusal(guest.subjects([]), &refusal).await;
            return Err(refusal);
        }
    };
    let outcome = match perform(open, guest, &mut state, (message.op, &request)).await {
        Ok(answer) => CallOutcome::Granted(answer),
        // Not a verdict on the request: it may be repeated under the same number.
        Err(refusal @ (Refusal::BeyondWitness | Refusal::State(_) | Refusal::Interrupted)) => {
            return Err(refusal);
        }
        // Reported where it was found; nothing is answered, not even a refusal.
        Err(refusal @ Refusal::DishonestRow { .. }) => {
            session_of(&mut state)?.channel.end();
            return Err(refusal);
        }
        Err(refusal) => {
            let subjects = guest.subjects([("op", message.op.name().to_owned())]);
            open.record_refusal(subjects, &refusal).await;
            CallOutcome::Refused
        }
    };
    session_of(&mut state)?
        .channel
        .answer(&outcome.to_bytes())
        .map_err(Refusal::Channel)
}

fn session_of(state: &mut CallState) -> Result<&mut CallSession, Refusal> {
    state.session.as_mut().ok_or(Refusal::UnknownSession)
}

async fn perform(
    open: &Open,
    guest: &AttestedGuest,
    state: &mut CallState,
    (op, request): (Op, &[u8]),
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    match op {
        Op::Batch => batch::register(open, guest, &read(request)?).await,
        Op::Certify => certify::certify(open, guest, state, &read(request)?).await,
        Op::Commit => commit::commit(open, guest, state, &read(request)?).await,
        Op::Fhe => fhe::decrypt(open, guest, &mut state.unfinished, read(request)?).await,
        Op::Unwrap => unwrap::unwrap(open, guest, &read(request)?).await,
    }
}

fn read<T: DeserializeOwned>(request: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(request).map_err(|_| Refusal::Malformed)
}

/// An answer in JSON.
pub(super) fn write<T: Serialize>(answer: &T) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    serde_json::to_vec(answer)
        .map(Zeroizing::new)
        .map_err(|_| Refusal::Malformed)
}
