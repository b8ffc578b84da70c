//! Handshakes and attested guests of this boot. All in memory: after a restart guests attest
//! again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sealift_evidence::{Assurance, Measurement};
use sealift_kbs_protocol::{
    Name, TeePublicKey,
    call::CertifyRequest,
    channel::{ServerChannel, SessionId},
};
use sealift_signed_document::{Digest, Envelope, SecretBytes};

use crate::{ops::UnfinishedResults, refusal::Refusal};

/// How long a challenge may be answered, in seconds: five minutes, as stock servers give.
pub(crate) const CHALLENGE_SECONDS: u64 = 300;
/// Challenges that are kept at one time. Anybody may ask for one.
const MAX_CHALLENGES: usize = 4_096;
/// Attested guests that are kept at one time.
const MAX_GUESTS: usize = 1_024;

/// What was found out about a guest when it attested.
pub(crate) struct GuestFacts {
    pub(crate) nonce: String,
    pub(crate) tee_pubkey: TeePublicKey,
    pub(crate) model: Name,
    pub(crate) version: Name,
    pub(crate) serial: u64,
    pub(crate) manifest_sha256: Digest,
    pub(crate) template_sha256: Digest,
    pub(crate) reference_values_sha256: Digest,
    /// SHA-256 of the register document that the version was attested under.
    pub(crate) register_sha256: Digest,
    pub(crate) init_data_sha256: Digest,
    pub(crate) evidence_sha256: Digest,
    pub(crate) measurement: Measurement,
    pub(crate) assurance: Assurance,
    /// Unix seconds of log time.
    pub(crate) not_after: u64,
    /// Where the attestation stands in the log.
    pub(crate) log_index: u64,
}

/// A guest whose evidence was appraised, until its session ends.
pub(crate) struct AttestedGuest {
    pub(crate) facts: GuestFacts,
    ended: AtomicBool,
    /// One request of a guest is worked on at a time.
    pub(crate) call: tokio::sync::Mutex<CallState>,
}

/// What a guest's calls have come to.
#[derive(Default)]
pub(crate) struct CallState {
    pub(crate) session: Option<CallSession>,
    pub(crate) certified: Option<Certified>,
    /// The partition whose rows are coming in: a guest works on one at a time.
    pub(crate) unfinished: Option<UnfinishedResults>,
}

/// A session that was granted.
pub(crate) struct CallSession {
    pub(crate) secret: SecretBytes<32>,
    pub(crate) grant: Envelope,
    pub(crate) channel: ServerChannel,
}

/// Keys of the guest that were certified.
pub(crate) struct Certified {
    pub(crate) keys: CertifyRequest,
    pub(crate) certificate: Envelope,
}

impl AttestedGuest {
    pub(crate) fn new(facts: GuestFacts) -> Self {
        Self {
            facts,
            ended: AtomicBool::new(false),
            call: tokio::sync::Mutex::default(),
        }
    }

    /// Ends everything that was given to this guest, as far as it can be taken back.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Checks that the guest's time is not over.
    pub(crate) fn check_live(&self, now: u64) -> Result<(), Refusal> {
        if self.ended.load(Ordering::Acquire) || now >= self.facts.not_after {
            return Err(Refusal::UnknownSession);
        }
        Ok(())
    }

    /// Digests and names for the log.
    pub(crate) fn subjects<const N: usize>(
        &self,
        more: [(&'static str, String); N],
    ) -> std::collections::BTreeMap<&'static str, String> {
        let facts = &self.facts;
        [
            ("model", facts.model.to_string()),
            ("version", facts.version.to_string()),
            ("serial", facts.serial.to_string()),
            ("evidence_sha256", facts.evidence_sha256.to_string()),
            ("tee_pubkey", facts.tee_pubkey.thumbprint().to_string()),
        ]
        .into_iter()
        .chain(more)
        .collect()
    }
}

struct Challenge {
    nonce: String,
    /// Unix seconds.
    expires: u64,
}

/// Handshakes and guests by what they show.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    challenges: HashMap<String, Challenge>,
    by_cookie: HashMap<String, Arc<AttestedGuest>>,
    by_token: HashMap<Digest, Arc<AttestedGuest>>,
    by_session: HashMap<SessionId, Arc<AttestedGuest>>,
}

impl Sessions {
    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a challenge and returns its cookie.
    pub(crate) fn challenge(&self, nonce: String, now: u64) -> Result<String, Refusal> {
        let mut tables = self.tables();
        if tables.challenges.len() >= MAX_CHALLENGES {
            tables
                .challenges
                .retain(|_, challenge| now < challenge.expires);
        }
        if tables.challenges.len() >= MAX_CHALLENGES {
            return Err(Refusal::Full("challenges"));
        }
        let cookie = SessionId::random().to_string();
        let expires = now + CHALLENGE_SECONDS;
        tables
            .challenges
            .insert(cookie.clone(), Challenge { nonce, expires });
        Ok(cookie)
    }

    /// Takes the nonce of a challenge away: it is used up by the first answer, right or wrong.
    pub(crate) fn take_challenge(&self, cookie: &str, now: u64) -> Result<String, Refusal> {
        let challenge = self.tables().challenges.remove(cookie);
        let live = challenge.filter(|challenge| now < challenge.expires);
        live.map(|challenge| challenge.nonce)
            .ok_or(Refusal::UnknownSession)
    }

    /// Makes room for one more guest.
    pub(crate) fn make_room(&self, now: u64) -> Result<(), Refusal> {
        let mut tables = self.tables();
        tables.drop_ended(now);
        if tables.by_cookie.len() >= MAX_GUESTS {
            return Err(Refusal::Full("attested guests"));
        }
        Ok(())
    }

    /// Keeps a guest. An earlier session of the same guest key ends.
    pub(crate) fn admit(&self, cookie: &str, token: &str, guest: &Arc<AttestedGuest>, now: u64) {
        let mut tables = self.tables();
        for other in tables.by_cookie.values() {
            if other.facts.tee_pubkey == guest.facts.tee_pubkey {
                other.end();
            }
        }
        tables.drop_ended(now);
        tables
            .by_cookie
            .insert(cookie.to_owned(), Arc::clone(guest));
        tables
            .by_token
            .insert(Digest::of(token.as_bytes()), Arc::clone(guest));
    }

    /// The live guest behind a cookie.
    pub(crate) fn by_cookie(&self, cookie: &str, now: u64) -> Result<Arc<AttestedGuest>, Refusal> {
        live(self.tables().by_cookie.get(cookie), now)
    }

    /// The live guest behind a token.
    pub(crate) fn by_token(&self, token: &str, now: u64) -> Result<Arc<AttestedGuest>, Refusal> {
        live(
            self.tables().by_token.get(&Digest::of(token.as_bytes())),
            now,
        )
    }

    /// The live guest of a session that was granted.
    pub(crate) fn by_session(
        &self,
        session: &SessionId,
        now: u64,
    ) -> Result<Arc<AttestedGuest>, Refusal> {
        live(self.tables().by_session.get(session), now)
    }

    /// The live guests of a version.
    pub(crate) fn live_of(
        &self,
        model: &Name,
        version: &Name,
        now: u64,
    ) -> Vec<Arc<AttestedGuest>> {
        let tables = self.tables();
        let of_version = |guest: &&Arc<AttestedGuest>| {
            (&guest.facts.model, &guest.facts.version) == (model, version)
                && guest.check_live(now).is_ok()
        };
        let guests = tables.by_cookie.values();
        guests.filter(of_version).cloned().collect()
    }

    /// Keeps the name of a session that was granted.
    pub(crate) fn name_session(&self, session: SessionId, guest: &Arc<AttestedGuest>) {
        self.tables().by_session.insert(session, Arc::clone(guest));
    }
}

impl Tables {
    fn drop_ended(&mut self, now: u64) {
        let live = |guest: &Arc<AttestedGuest>| guest.check_live(now).is_ok();
        self.by_cookie.retain(|_, guest| live(guest));
        self.by_token.retain(|_, guest| live(guest));
        self.by_session.retain(|_, guest| live(guest));
    }
}

fn live(guest: Option<&Arc<AttestedGuest>>, now: u64) -> Result<Arc<AttestedGuest>, Refusal> {
    let guest = guest.ok_or(Refusal::UnknownSession)?;
    guest.check_live(now)?;
    Ok(Arc::clone(guest))
}
