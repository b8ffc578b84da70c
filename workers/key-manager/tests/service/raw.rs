//! A guest that builds its own messages, so that it can spoil them.

use http::{HeaderMap, HeaderValue, Method, header};
use sealift_attester::Attester as _;
use sealift_evidence::Tee;
use sealift_kbs_protocol::{
    ExpectedSession, OpenedSession, TeeKey,
    call::{CALL_PATH, Op, SESSION_PATH},
    channel::{CallMessage, ClientChannel},
    jwe::{self, Jwe},
    rcar::{
        ATTEST_PATH, AUTH_PATH, Attestation, Challenge, InitData, PROTOCOL_VERSION, Request,
        RuntimeData, TeeEvidence,
    },
};
use sealift_pinned_tls::{Answer, ClientLimits, Connection};

use crate::harness::{Launched, OpenKm, TestGuest};

pub(crate) struct RawGuest {
    pub(crate) connection: Connection,
    pub(crate) tee_key: TeeKey,
    pub(crate) launched: Launched,
    pub(crate) init_data: String,
    pub(crate) cookie: HeaderValue,
    pub(crate) nonce: String,
}

impl RawGuest {
    /// Connects and takes a challenge.
    pub(crate) async fn challenged(open: &OpenKm<'_>) -> Self {
        let mut init_data = String::new();
        let guest = open
            .guest_with(|plan| init_data.clone_from(&plan.init_data))
            .await;
        let TestGuest { launched, .. } = guest;
        let url = &open.running.url;
        let mut connection = Connection::open_unverified(url, ClientLimits::DOCUMENTS)
            .await
            .unwrap();
        let answer = connection.post_json(AUTH_PATH, &request()).await.unwrap();
        let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
        let cookie = HeaderValue::from_str(cookie.split(';').next().unwrap()).unwrap();
        let nonce = answer.json::<Challenge>().unwrap().nonce;
        let tee_key = TeeKey::generate();
        Self {
            connection,
            tee_key,
            launched,
            init_data,
            cookie,
            nonce,
        }
    }

    pub(crate) async fn attested(open: &OpenKm<'_>) -> Self {
        let mut guest = Self::challenged(open).await;
        let attestation = guest.attestation();
        assert_eq!(guest.attest(&attestation).await.status, 200);
        guest
    }

    /// A right answer to the challenge.
    pub(crate) fn attestation(&self) -> Attestation {
        let tee_pubkey = *self.tee_key.public();
        let runtime_data = RuntimeData {
            nonce: self.nonce.clone(),
            tee_pubkey,
        };
        let report_data = runtime_data.report_data("");
        Attestation {
            init_data: Some(InitData {
                format: "toml".into(),
                body: self.init_data.clone(),
            }),
            runtime_data,
            tee_evidence: TeeEvidence {
                primary_evidence: self.launched.evidence(&report_data).unwrap(),
                additional_evidence: String::new(),
            },
        }
    }

    pub(crate) async fn attest(&mut self, attestation: &Attestation) -> Answer {
        let body = serde_json::to_vec(attestation).unwrap();
        self.send(Method::POST, ATTEST_PATH, body).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, Vec::new()).await
    }

    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, self.cookie.clone());
        self.connection
            .send(method, path, headers, body)
            .await
            .unwrap()
    }

    /// Fetches and opens the session.
    pub(crate) async fn session(&mut self, open: &OpenKm<'_>) -> OpenedSession {
        let answer = self.get(SESSION_PATH).await;
        assert_eq!(answer.status, 200);
        let bytes = jwe::open(&self.tee_key, &answer.json::<Jwe>().unwrap()).unwrap();
        let expected = ExpectedSession {
            km_id: &open.km.km_id().unwrap(),
            nonce: &self.nonce,
            tee_pubkey: self.tee_key.public(),
        };
        OpenedSession::accept(&bytes, &expected).unwrap()
    }

    pub(crate) async fn channel(&mut self, open: &OpenKm<'_>) -> ClientChannel {
        let opened = self.session(open).await;
        ClientChannel::new(opened.grant().document().session.clone(), opened.secret())
    }

    pub(crate) async fn call(&mut self, message: &CallMessage) -> Answer {
        self.connection.post_json(CALL_PATH, message).await.unwrap()
    }
}

/// A right first message.
pub(crate) fn request() -> Request {
    Request {
        version: PROTOCOL_VERSION.into(),
        tee: Tee::Snp,
        extra_params: serde_json::Value::String(String::new()),
    }
}

/// A request that every session may make.
pub(crate) fn certify_request(channel: &mut ClientChannel) -> CallMessage {
    let keys = sealift_kbs_protocol::call::CertifyRequest {
        receipt_key: sealift_signed_document::SigningKey::generate().public(),
        tls_spki_sha256: sealift_signed_document::Digest::of(b"tls"),
    };
    channel
        .request(Op::Certify, &serde_json::to_vec(&keys).unwrap())
        .unwrap()
}
