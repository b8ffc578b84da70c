//! The client of a confidential guest: handshake, model key, session and calls.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sealift_encrypted_batch::FileKey;
use sealift_evidence::{SnpEvidence, Tee};
use sealift_pinned_tls::{Answer, ClientError, ClientLimits, PinnedClient, ServerUrl};
use sealift_signed_document::{Digest, Envelope, KeyId, SecretBytes, Signed, VerifyingKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::{
    GuestCertificate, GuestClientError, Name, OpenedSession, SessionGrant, TeeKey,
    call::{
        BadAnswer, BatchRequest, Bytes, CALL_PATH, CallOutcome, CertifyAnswer, CertifyRequest,
        CommitAnswer, CommitRequest, FheRequest, Op, SESSION_PATH, UnwrapRequest, file_key,
    },
    channel::{CallAnswer, CallMessage, ClientChannel},
    jwe::{self, Jwe},
    rcar::{
        ATTEST_PATH, AUTH_PATH, Attestation, AttestationAnswer, Challenge, InitData, KEK_TAG,
        PROTOCOL_VERSION, RESOURCE_PREFIX, Request, RuntimeData, SESSION_COOKIE, TeeEvidence,
    },
    session_grant::ExpectedSession,
};

/// How often a call is sent before its connection failure is reported. Repeating is harmless: the
/// key manager answers one number once.
const CALL_ATTEMPTS: u32 = 3;

/// What a guest knows from its measured init-data.
pub struct GuestClientSettings {
    /// Where the key manager listens.
    pub url: ServerUrl,
    /// The TLS key that it must have.
    pub km_tls_sha256: Digest,
    /// The identity that it must have.
    pub km_id: KeyId,
    /// The exact text of the init-data.
    pub init_data: String,
    /// What the server may cost.
    pub limits: ClientLimits,
}

/// A challenge that was received and not answered yet.
pub struct Challenged {
    cookie: HeaderValue,
    runtime_data: RuntimeData,
}

impl Challenged {
    /// What the evidence must hold: a digest of the nonce and this guest's own key.
    pub fn report_data(&self) -> [u8; 64] {
        self.runtime_data.report_data("")
    }
}

/// A guest's client. Its TEE key lives as long as it does.
pub struct GuestClient {
    http: PinnedClient,
    km_id: KeyId,
    init_data: String,
    tee_key: TeeKey,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    attested: Option<Attested>,
    session: Option<Session>,
}

struct Attested {
    cookie: HeaderValue,
    nonce: String,
}

struct Session {
    opened: OpenedSession,
    channel: ClientChannel,
}

impl GuestClient {
    /// A client that has not connected yet.
    pub fn new(settings: GuestClientSettings) -> Self {
        let GuestClientSettings {
            url,
            km_tls_sha256,
            km_id,
            init_data,
            limits,
        } = settings;
        let http = PinnedClient::new(url, km_tls_sha256, limits);
        Self {
            http,
            km_id,
            init_data,
            tee_key: TeeKey::generate(),
            state: Mutex::default(),
        }
    }

    /// Asks for a challenge.
    pub async fn challenge(&self) -> Result<Challenged, GuestClientError> {
        let request = Request {
            version: PROTOCOL_VERSION.into(),
            tee: Tee::Snp,
            extra_params: serde_json::Value::String(String::new()),
        };
        let answer = self.http.post_json(AUTH_PATH, &request).await;
        let answer = accepted(answer)?;
        let cookie = session_cookie(&answer).ok_or(GuestClientError::BadHandshake)?;
        let challenge: Challenge = answer.json().map_err(GuestClientError::Transport)?;
        let tee_pubkey = *self.tee_key.public();
        let runtime_data = RuntimeData {
            nonce: challenge.nonce,
            tee_pubkey,
        };
        Ok(Challenged {
            cookie,
            runtime_data,
        })
    }

    /// Answers a challenge with evidence over [`Challenged::report_data`].
    pub async fn attest(
        &self,
        challenged: Challenged,
        evidence: SnpEvidence,
    ) -> Result<(), GuestClientError> {
        let nonce = challenged.runtime_data.nonce.clone();
        let attestation = Attestation {
            init_data: Some(InitData {
                format: "toml".into(),
                body: self.init_data.clone(),
            }),
            runtime_data: challenged.runtime_data,
            tee_evidence: TeeEvidence {
                primary_evidence: evidence,
                additional_evidence: String::new(),
            },
        };
        let body = serde_json::to_vec(&attestation)
            .map_err(|error| GuestClientError::Transport(ClientError::BadJson(error)))?;
        let headers = with_cookie(&challenged.cookie);
        let answer = self
            .http
            .send(Method::POST, ATTEST_PATH, headers, body)
            .await;
        // The token is for clients that present it elsewhere; this one keeps its cookie.
        drop(read::<AttestationAnswer>(answer)?);
        let attested = Some(Attested {
            cookie: challenged.cookie,
            nonce,
        });
        *self.state.lock().await = State {
            attested,
            session: None,
        };
        Ok(())
    }

    /// Fetches the model key of the version in the init-data.
    pub async fn model_key(
        &self,
        model: &Name,
        version: &Name,
    ) -> Result<SecretBytes<32>, GuestClientError> {
        let path = format!("{RESOURCE_PREFIX}{model}/{version}/{KEK_TAG}");
        let state = self.state.lock().await;
        let attested = state
            .attested
            .as_ref()
            .ok_or(GuestClientError::NotAttested)?;
        let bytes = self.resource(&path, attested).await?;
        SecretBytes::from_slice(&bytes).ok_or(GuestClientError::BadKey)
    }

    /// Opens the session that calls are made in, once per handshake.
    pub async fn open_session(&self) -> Result<Signed<SessionGrant>, GuestClientError> {
        let mut state = self.state.lock().await;
        let attested = state
            .attested
            .as_ref()
            .ok_or(GuestClientError::NotAttested)?;
        let bytes = self.resource(SESSION_PATH, attested).await?;
        let expected = ExpectedSession {
            km_id: &self.km_id,
            nonce: &attested.nonce,
            tee_pubkey: self.tee_key.public(),
        };
        let opened = OpenedSession::accept(&bytes, &expected).map_err(GuestClientError::Session)?;
        let grant = opened.grant().clone();
        let same = state
            .session
            .as_ref()
            .is_some_and(|session| session.opened.grant().digest() == grant.digest());
        // The key manager grants one session per handshake; a second channel under the same
        // secret would use its sequence numbers twice.
        if !same {
            let id = grant.document().session.clone();
            let channel = ClientChannel::new(id, opened.secret());
            state.session = Some(Session { opened, channel });
        }
        Ok(grant)
    }

    /// Has the guest's own keys certified.
    pub async fn certify(
        &self,
        receipt_key: VerifyingKey,
        tls_spki_sha256: Digest,
    ) -> Result<Signed<GuestCertificate>, GuestClientError> {
        let request = CertifyRequest {
            receipt_key,
            tls_spki_sha256,
        };
        let answer: CertifyAnswer = self.call_json(Op::Certify, &request).await?;
        let state = self.state.lock().await;
        let session = state
            .session
            .as_ref()
            .ok_or(GuestClientError::NotAttested)?;
        let certificate: Signed<GuestCertificate> = answer
            .guest_certificate
            .verify(session.opened.identity())
            .map_err(GuestClientError::Document)?;
        let said = certificate.document();
        let fits = said.receipt_key == receipt_key
            && said.tls_spki_sha256 == tls_spki_sha256
            && said.session_grant_sha256 == session.opened.grant().digest();
        if fits {
            Ok(certificate)
        } else {
            Err(GuestClientError::OtherCertificate)
        }
    }

    /// Registers a user's batch document.
    pub async fn batch(&self, document: &Envelope) -> Result<(), GuestClientError> {
        let request = BatchRequest {
            document: document.clone(),
        };
        self.call_json(Op::Batch, &request).await.map(|Empty {}| ())
    }

    /// Unwraps the file key of a partition from its age header.
    pub async fn unwrap(
        &self,
        batch_sha256: Digest,
        partition: u32,
        header: &[u8],
    ) -> Result<FileKey, GuestClientError> {
        let header = Bytes(header.to_vec());
        let request = UnwrapRequest {
            batch_sha256,
            partition,
            header,
        };
        let answer = self.call(Op::Unwrap, &request).await?;
        file_key(&answer).map_err(GuestClientError::Answer)
    }

    /// Has the rows of a partition decrypted into the user's result file.
    pub async fn fhe(&self, request: &FheRequest) -> Result<Vec<u8>, GuestClientError> {
        // The result file is encrypted to the user, so it needs no wiping.
        self.call(Op::Fhe, request)
            .await
            .map(|answer| answer.to_vec())
    }

    /// Commits the receipt of a partition.
    pub async fn commit(&self, receipt: &Envelope) -> Result<CommitAnswer, GuestClientError> {
        let request = CommitRequest {
            receipt: receipt.clone(),
        };
        self.call_json(Op::Commit, &request).await
    }

    async fn resource(
        &self,
        path: &str,
        attested: &Attested,
    ) -> Result<Zeroizing<Vec<u8>>, GuestClientError> {
        let headers = with_cookie(&attested.cookie);
        let answer = self.http.send(Method::GET, path, headers, Vec::new()).await;
        let jwe: Jwe = read(answer)?;
        jwe::open(&self.tee_key, &jwe).map_err(GuestClientError::Jwe)
    }

    async fn call_json<B: Serialize, T: DeserializeOwned>(
        &self,
        op: Op,
        request: &B,
    ) -> Result<T, GuestClientError> {
        let answer = self.call(op, request).await?;
        serde_json::from_slice(&answer).map_err(|_| GuestClientError::Answer(BadAnswer))
    }

    async fn call<B: Serialize>(
        &self,
        op: Op,
        request: &B,
    ) -> Result<Zeroizing<Vec<u8>>, GuestClientError> {
        let plain = serde_json::to_vec(request)
            .map_err(|error| GuestClientError::Transport(ClientError::BadJson(error)))?;
        let mut state = self.state.lock().await;
        let session = state
            .session
            .as_mut()
            .ok_or(GuestClientError::NotAttested)?;
        let message = session
            .channel
            .request(op, &plain)
            .map_err(GuestClientError::Channel)?;
        let answer = self.send_call(&message).await?;
        let bytes = session
            .channel
            .open(&answer)
            .map_err(GuestClientError::Channel)?;
        match CallOutcome::from_bytes(&bytes).map_err(GuestClientError::Answer)? {
            CallOutcome::Granted(answer) => Ok(answer),
            CallOutcome::Refused => Err(GuestClientError::CallRefused { op }),
        }
    }

    async fn send_call(&self, message: &CallMessage) -> Result<CallAnswer, GuestClientError> {
        let mut attempt = 1;
        loop {
            match read(self.http.post_json(CALL_PATH, message).await) {
                Err(GuestClientError::Transport(error))
                    if error.is_transient() && attempt < CALL_ATTEMPTS =>
                {
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// The answer of an operation that has nothing to say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

fn with_cookie(cookie: &HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, cookie.clone());
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers
}

/// The pair `kbs-session-id=…` of a `Set-Cookie` line, without its attributes.
fn session_cookie(answer: &Answer) -> Option<HeaderValue> {
    let lines = answer.headers.get_all(header::SET_COOKIE);
    lines
        .iter()
        .filter_map(|line| line.to_str().ok())
        .find_map(|line| {
            let pair = line.split(';').next()?.trim();
            let (name, _) = pair.split_once('=')?;
            (name == SESSION_COOKIE)
                .then(|| HeaderValue::from_str(pair).ok())
                .flatten()
        })
}

fn accepted(answer: Result<Answer, ClientError>) -> Result<Answer, GuestClientError> {
    let answer = answer.map_err(GuestClientError::Transport)?;
    match answer.status {
        StatusCode::OK => Ok(answer),
        StatusCode::UNAUTHORIZED => Err(GuestClientError::NotAttested),
        status => Err(GuestClientError::Refused { status }),
    }
}

fn read<T: DeserializeOwned>(answer: Result<Answer, ClientError>) -> Result<T, GuestClientError> {
    accepted(answer)?
        .json()
        .map_err(GuestClientError::Transport)
}
