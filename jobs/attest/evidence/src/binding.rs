//! What `report_data` stands for: the two objects whose digest an attester signs.
//!
//! Both are SHA-384 over canonical JSON (RFC 8785), zero-padded to the 64 bytes of the field. The
//! RCAR object never has the member `context` and ours always has it, so that no answer to one
//! question can be passed off as an answer to the other.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA384, digest};
use sealift_signed_document::canonical_json;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who answers with attested keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A confidential guest that runs a model.
    Guest,
    /// A key manager.
    KeyManager,
}

#[derive(Serialize)]
struct AttestedKeys<'a> {
    context: &'static str,
    role: Role,
    nonce: String,
    keys: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Rcar<'a> {
    additional_evidence: &'a str,
    nonce: &'a str,
    tee_pubkey: &'a Value,
}

/// The `report_data` of evidence that Sealift itself asks for.
///
/// The asker chooses only `nonce`; `role` and `keys` (name → JWK thumbprint or SPKI SHA-256) are
/// the answering side's own. Relying parties rebuild this object and never accept a digest.
pub fn attested_keys_report_data(
    role: Role,
    nonce: &[u8; 32],
    keys: &BTreeMap<String, String>,
) -> [u8; 64] {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let nonce = STANDARD.encode(nonce);
    padded_sha384(&AttestedKeys {
        context: "sealift:v1:attested-keys",
        role,
        nonce,
        keys,
    })
}

/// The `report_data` of evidence in the RCAR handshake of KBS 0.4.0.
///
/// `nonce` is the challenge's text, `tee_pubkey` the JWK as it is sent, `additional` the text of
/// `additional_evidence` ("" when there is none).
pub fn rcar_report_data(nonce: &str, tee_pubkey: &Value, additional: &str) -> [u8; 64] {
    padded_sha384(&Rcar {
        additional_evidence: additional,
        nonce,
        tee_pubkey,
    })
}

fn padded_sha384<T: Serialize>(object: &T) -> [u8; 64] {
    let bytes = canonical_json(object).expect("strings, maps and JSON values always serialize");
    let mut report_data = [0; 64];
    report_data[..48].copy_from_slice(digest(&SHA384, &bytes).as_ref());
    report_data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha384_padded(text: &str) -> [u8; 64] {
        let mut expected = [0; 64];
        expected[..48].copy_from_slice(digest(&SHA384, text.as_bytes()).as_ref());
        expected
    }

    #[test]
    fn attested_keys_hash_the_documented_object() {
        let keys = BTreeMap::from([
            ("tls".to_owned(), "bb".to_owned()),
            ("receipt".to_owned(), "aa".to_owned()),
        ]);
        assert_eq!(
            attested_keys_report_data(Role::KeyManager, &[0; 32], &keys),
            sha384_padded(
                r#"{"context":"sealift:v1:attested-keys","keys":{"receipt":"aa","tls":"bb"},"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","role":"key-manager"}"#
            )
        );
    }

    #[test]
    fn rcar_hashes_the_object_of_kbs_0_4_0() {
        let jwk = serde_json::json!({"kty": "EC", "crv": "P-256", "y": "y", "x": "x"});
        assert_eq!(
            rcar_report_data("bm9uY2U=", &jwk, ""),
            sha384_padded(
                r#"{"additional-evidence":"","nonce":"bm9uY2U=","tee-pubkey":{"crv":"P-256","kty":"EC","x":"x","y":"y"}}"#
            )
        );
    }

    /// The relay attack: a caller cannot pick a nonce or key that makes the answer to our question
    /// equal the RCAR binding of its own key, because the preimages differ in `context`.
    #[test]
    fn every_part_of_the_binding_changes_the_report_data() {
        let keys = BTreeMap::from([("tls".to_owned(), "aa".to_owned())]);
        let good = attested_keys_report_data(Role::Guest, &[1; 32], &keys);
        let other_keys = BTreeMap::from([("tls".to_owned(), "ab".to_owned())]);
        let other_name = BTreeMap::from([("boot".to_owned(), "aa".to_owned())]);
        for other in [
            attested_keys_report_data(Role::KeyManager, &[1; 32], &keys),
            attested_keys_report_data(Role::Guest, &[2; 32], &keys),
            attested_keys_report_data(Role::Guest, &[1; 32], &other_keys),
            attested_keys_report_data(Role::Guest, &[1; 32], &other_name),
        ] {
            assert_ne!(good, other);
        }
        assert_eq!(good[48..], [0; 16]);
    }
}
