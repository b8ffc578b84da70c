//! The challenge, and the proof that it was met.

use http::StatusCode;
use sealift_evidence::{Role, attested_keys_report_data};
use sealift_init_data::{RegisteredSlots, RenderedInitData, rerender_equals};
use sealift_kbs_protocol::Nonce;
use sealift_pinned_tls::{Answer, ClientError, ClientLimits, Connection, ServerUrl};
use sealift_signed_document::{Digest, VerifyingKey};
use sealift_trust_folder::TrustFolder;
use sealift_verifier::{AppraisedEvidence, Expected};
use serde::Serialize;

use crate::{ATTEST_PATH, AttestError, GuestEvidence};

/// What a guest is held against: all of it the asker's own.
#[derive(Clone, Copy)]
pub struct Expectation<'a> {
    /// Which guests count, and what they are started with.
    pub trust: &'a TrustFolder,
    /// The slots of this guest's init-data that are not the operator's.
    pub registered: &'a RegisteredSlots,
    /// Unix seconds.
    pub now_unix: u64,
}

/// A guest whose evidence was appraised over a connection that its evidence names.
///
/// [`AttestedGuest::challenge`] is the only constructor. What is sent through it goes to whoever
/// holds the TLS key in the evidence, and to nobody else.
#[derive(Clone, Debug)]
pub struct AttestedGuest {
    url: ServerUrl,
    tls_spki_sha256: Digest,
    receipt_key: VerifyingKey,
    init_data: RenderedInitData,
    appraised: AppraisedEvidence,
}

impl AttestedGuest {
    /// Connects to whoever answers at `url` and challenges them with a nonce of its own.
    ///
    /// # Errors
    /// [`AttestError`], one variant per check.
    pub async fn challenge(
        url: &ServerUrl,
        expected: Expectation<'_>,
    ) -> Result<Self, AttestError> {
        let mut connection = Connection::open_unverified(url, ClientLimits::DOCUMENTS)
            .await
            .map_err(AttestError::Transport)?;
        let nonce = Nonce::random();
        let path = format!("{ATTEST_PATH}?nonce={}", nonce.to_query());
        let answer = connection
            .get(&path)
            .await
            .map_err(AttestError::Transport)?;
        if answer.status != StatusCode::OK {
            return Err(AttestError::NoEvidence(answer.status));
        }
        let answer: GuestEvidence = answer.json().map_err(AttestError::Malformed)?;
        Self::appraise(url, &answer, (&nonce, connection.peer_spki()), expected)
    }

    fn appraise(
        url: &ServerUrl,
        answer: &GuestEvidence,
        (nonce, peer): (&Nonce, Digest),
        expected: Expectation<'_>,
    ) -> Result<Self, AttestError> {
        if answer.tls_spki_sha256 != peer {
            let (connection, evidence) = (peer, answer.tls_spki_sha256);
            return Err(AttestError::OtherKey {
                connection,
                evidence,
            });
        }
        let template = expected.trust.template().document();
        if !template.allows(answer.tee) {
            return Err(AttestError::Tee(answer.tee));
        }
        let init_data = rerender_equals(template, expected.registered, answer.init_data.as_bytes())
            .map_err(AttestError::InitData)?;
        let keys = answer.attested_keys(&peer);
        let report = Expected {
            report_data: attested_keys_report_data(Role::Guest, nonce.as_bytes(), &keys),
            host_data: *init_data.digest().as_bytes(),
        };
        let appraised = expected
            .trust
            .guest_verifier()
            .appraise(&answer.evidence, &report, expected.now_unix)
            .map_err(AttestError::Evidence)?;
        Ok(Self {
            url: url.clone(),
            tls_spki_sha256: peer,
            receipt_key: answer.receipt_key,
            init_data,
            appraised,
        })
    }

    /// What the verifier said.
    pub fn appraised(&self) -> &AppraisedEvidence {
        &self.appraised
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the guest's TLS key.
    pub fn tls_spki_sha256(&self) -> Digest {
        self.tls_spki_sha256
    }

    /// The key that signs this guest's receipts.
    pub fn receipt_key(&self) -> &VerifyingKey {
        &self.receipt_key
    }

    /// What the guest was started with.
    pub fn init_data(&self) -> &RenderedInitData {
        &self.init_data
    }

    /// `POST`s JSON to a path of this guest, over a connection of its own.
    ///
    /// # Errors
    /// [`ClientError`]; a guest with another key than the attested one fails the handshake, before
    /// anything is sent.
    pub async fn post_json<T: Serialize>(
        &self,
        path: &str,
        body: &T,
        limits: ClientLimits,
    ) -> Result<Answer, ClientError> {
        Connection::open_pinned(&self.url, self.tls_spki_sha256, limits)
            .await?
            .post_json(path, body)
            .await
    }
}
