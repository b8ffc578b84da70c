//! The key manager's word for a guest's own keys.

use sealift_evidence::Assurance;
use sealift_signed_document::{Digest, Document, VerifyingKey};
use serde::{Deserialize, Serialize};

/// `guest-cert.v1`, signed by the key manager's identity: these keys are held by the guest that
/// was granted that session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestCertificate {
    /// The key that the guest signs receipts with.
    pub receipt_key: VerifyingKey,
    /// SHA-256 of the SubjectPublicKeyInfo of the guest's TLS key.
    pub tls_spki_sha256: Digest,
    /// SHA-256 of the `session-grant.v1` envelope.
    pub session_grant_sha256: Digest,
    /// What stood behind the guest's evidence.
    pub assurance: Assurance,
    /// Where the certificate stands in the log.
    pub log_index: u64,
}

impl Document for GuestCertificate {
    const TYPE: &'static str = "guest-cert.v1";
}
