//! How far a guest is, in its own words.

use std::time::Duration;

use http::StatusCode;
use sealift_pinned_tls::{ClientError, ClientLimits, Connection, ServerUrl};
use sealift_signed_document::Envelope;
use serde::Deserialize;

/// `GET`: [`GuestStatus`].
pub const STATUS_PATH: &str = "/sealift/v1/status";

/// A status is one small document that a guest answers without waiting for anything.
const LIMITS: ClientLimits = ClientLimits {
    connect: Duration::from_secs(5),
    request: Duration::from_secs(5),
    body_bytes: 256 << 10,
};

/// What a guest says of itself without evidence: for display and for waiting, never for trust.
///
/// Members that are not named here are left unread, so that guests may come to say more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GuestStatus {
    /// How far it is: `serving` once it scores, `failed` when it never will.
    pub phase: String,
    /// Why it failed.
    #[serde(default)]
    pub reason: Option<String>,
    /// `guest-cert.v1` of the key that will sign its receipts, from a guest that shows it.
    #[serde(default)]
    pub guest_certificate: Option<Envelope>,
    /// `session-grant.v1` that the certificate names.
    #[serde(default)]
    pub session_grant: Option<Envelope>,
}

impl GuestStatus {
    /// Asks the guest at `url`, over a connection that nobody vouches for.
    ///
    /// # Errors
    /// [`ClientError`] if nothing answers, or something that is no status.
    pub async fn ask(url: &ServerUrl) -> Result<Self, ClientError> {
        let answer = Connection::open_unverified(url, LIMITS)
            .await?
            .get(STATUS_PATH)
            .await?;
        if answer.status == StatusCode::OK {
            answer.json()
        } else {
            Ok(Self::unsaid(answer.status))
        }
    }

    fn unsaid(status: StatusCode) -> Self {
        Self {
            phase: format!("unknown (HTTP {status})"),
            reason: None,
            guest_certificate: None,
            session_grant: None,
        }
    }

    pub(crate) fn serves(&self) -> bool {
        self.phase == "serving"
    }

    pub(crate) fn failed(&self) -> bool {
        self.phase == "failed"
    }
}
