//! The answer to an operator's challenge.

use std::collections::BTreeMap;

use sealift_attester::AttesterError;
use sealift_evidence::{Role, SnpEvidence, Tee, attested_keys_report_data};
use sealift_kbs_protocol::Nonce;
use sealift_signed_document::{Digest, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::boot::Boot;

/// What a guest says about itself. Nothing in it has been appraised.
///
/// The asker rebuilds `report_data` from role, its own nonce and [`attested_keys`], with the TLS
/// key that it saw on this very connection.
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

/// The keys that a guest's evidence names: `receipt` by JWK thumbprint, `tls` by SPKI digest.
pub fn attested_keys(
    receipt_key: &VerifyingKey,
    tls_spki_sha256: &Digest,
) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("receipt".to_owned(), receipt_key.thumbprint().to_string()),
        ("tls".to_owned(), tls_spki_sha256.to_string()),
    ])
}

/// Has the platform sign that this process holds its keys, in answer to `nonce`. Blocks while the
/// platform signs.
///
/// The asker chooses the nonce alone. Context, role and keys are this process's own, so no answer
/// is one to the key manager's challenge, whose preimage has no `context`.
pub(crate) fn answer(boot: &Boot, nonce: &Nonce) -> Result<GuestEvidence, AttesterError> {
    let (receipt_key, tls_spki_sha256) = (boot.keys.receipt_public(), boot.keys.tls_spki_sha256());
    let keys = attested_keys(&receipt_key, &tls_spki_sha256);
    let report_data = attested_keys_report_data(Role::Guest, nonce.as_bytes(), &keys);
    Ok(GuestEvidence {
        tee: Tee::Snp,
        evidence: boot.attester.evidence(&report_data)?,
        init_data: boot.init_data.as_str().to_owned(),
        receipt_key,
        tls_spki_sha256,
    })
}
