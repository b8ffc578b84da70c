//! What a guest answers to a challenge.

use std::collections::BTreeMap;

use sealift_evidence::{SnpEvidence, Tee};
use sealift_signed_document::{Digest, VerifyingKey};
use serde::{Deserialize, Serialize};

/// `GET ?nonce=<32 bytes, base64url without padding>`: [`GuestEvidence`].
pub const ATTEST_PATH: &str = "/sealift/v1/attest";

/// What a guest says about itself. Nothing in it has been appraised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestEvidence {
    /// The kind of attester.
    pub tee: Tee,
    /// KBS `snp` evidence JSON.
    pub evidence: SnpEvidence,
    /// The exact text whose digest the evidence holds.
    pub init_data: String,
    /// The key that signs this guest's receipts.
    pub receipt_key: VerifyingKey,
    /// SHA-256 of the SubjectPublicKeyInfo of the guest's TLS key.
    pub tls_spki_sha256: Digest,
}

impl GuestEvidence {
    /// The keys that the evidence must name: `receipt` by JWK thumbprint, `tls` by SPKI digest.
    ///
    /// The TLS key is the one of the asker's own connection, never the one in the answer.
    pub(crate) fn attested_keys(&self, connection: &Digest) -> BTreeMap<String, String> {
        BTreeMap::from([
            (
                "receipt".to_owned(),
                self.receipt_key.thumbprint().to_string(),
            ),
            ("tls".to_owned(), connection.to_string()),
        ])
    }
}
