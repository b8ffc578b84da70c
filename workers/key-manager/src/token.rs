//! Attestation tokens: EAR in a JWT (ES256), as stock clients carry them. A token stands for the
//! session it was given in; it opens no call and is worth nothing without the guest's key.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sealift_signed_document::DocumentError;
use serde_json::json;

use crate::{refusal::Refusal, sessions::AttestedGuest};

/// What an EAR says it is.
const PROFILE: &str = "tag:github.com,2024:confidential-containers/Trustee";
/// AR4SI claims (draft-ietf-rats-ar4si section 2.3): genuine hardware (2), recognised executables
/// (3) and configuration (2). A guest that is anything less gets no token at all.
const HARDWARE: u8 = 2;
const EXECUTABLES: u8 = 3;
const CONFIGURATION: u8 = 2;

/// Signs tokens. Made anew at every boot, like the sessions that tokens stand for.
pub(crate) struct TokenKey(EcdsaKeyPair);

impl TokenKey {
    pub(crate) fn generate() -> Result<Self, Refusal> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map(Self)
            .map_err(|_| Refusal::Document(DocumentError::BadKey))
    }

    /// A token for `guest`, issued at `now`.
    pub(crate) fn issue(&self, guest: &AttestedGuest, now: u64) -> Result<String, Refusal> {
        let header = json!({ "typ": "JWT", "alg": "ES256", "jwk": self.jwk() });
        let parts = [header, claims(guest, now)].map(|part| part.to_string());
        let text = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = self
            .0
            .sign(&SystemRandom::new(), text.as_bytes())
            .map_err(|_| Refusal::Document(DocumentError::BadKey))?;
        Ok(format!(
            "{text}.{}",
            URL_SAFE_NO_PAD.encode(signature.as_ref())
        ))
    }

    fn jwk(&self) -> serde_json::Value {
        // The uncompressed point: 0x04 ‖ x ‖ y.
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y })
    }
}

fn claims(guest: &AttestedGuest, now: u64) -> serde_json::Value {
    let facts = &guest.facts;
    json!({
        "eat_profile": PROFILE,
        "iat": now,
        "exp": facts.not_after,
        "iss": "sealift-key-manager",
        "ear.verifier-id": {
            "developer": "sealift",
            "build": concat!("sealift-key-manager ", env!("CARGO_PKG_VERSION")),
        },
        "submods": { "cpu0": {
            "ear.status": "affirming",
            "ear.trustworthiness-vector": {
                "hardware": HARDWARE,
                "executables": EXECUTABLES,
                "configuration": CONFIGURATION,
            },
            "ear.appraisal-policy-id": facts.reference_values_sha256.to_string(),
            "ear.veraison.annotated-evidence": {
                "snp": { "measurement": facts.measurement.to_string() },
                "init_data": facts.init_data_sha256.to_string(),
                "runtime_data_claims": {
                    "tee-pubkey": facts.tee_pubkey.to_json(),
                    "nonce": facts.nonce,
                    "additional-evidence": "",
                },
                "sealift": { "assurance": facts.assurance },
            },
        } },
    })
}
