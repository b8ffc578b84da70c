//! The bodies of the RCAR handshake (request, challenge, attestation, response) of KBS 0.4.0.

use sealift_evidence::{SnpEvidence, Tee, rcar_report_data};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::TeePublicKey;

/// The only protocol version there is: server and clients compare it for equality.
pub const PROTOCOL_VERSION: &str = "0.4.0";
/// Path of the first message.
pub const AUTH_PATH: &str = "/kbs/v0/auth";
/// Path of the second message.
pub const ATTEST_PATH: &str = "/kbs/v0/attest";
/// What resource paths start with; `<model>/<version>/kek` follows.
pub const RESOURCE_PREFIX: &str = "/kbs/v0/resource/";
/// The cookie that ties the second message to the first.
pub const SESSION_COOKIE: &str = "kbs-session-id";
/// The third segment of the one resource that a version has.
pub const KEK_TAG: &str = "kek";

/// `POST /kbs/v0/auth`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Request {
    /// [`PROTOCOL_VERSION`].
    pub version: String,
    /// The guest's kind of attester.
    pub tee: Tee,
    /// What stock clients say about hash algorithms; SHA-384 is used whatever it says.
    pub extra_params: Value,
}

/// Answer to [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Challenge {
    /// Standard base64 of 32 random bytes; compared and hashed as text.
    pub nonce: String,
    /// Empty.
    pub extra_params: Value,
}

/// `POST /kbs/v0/attest`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Attestation {
    /// The measured init-data; Sealift's key manager demands it.
    #[serde(default)]
    pub init_data: Option<InitData>,
    /// What the evidence binds.
    pub runtime_data: RuntimeData,
    /// The evidence.
    pub tee_evidence: TeeEvidence,
}

/// Init-data as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitData {
    /// `toml`.
    pub format: String,
    /// The exact text whose digest the evidence holds.
    pub body: String,
}

/// What the evidence binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuntimeData {
    /// The challenge's text.
    pub nonce: String,
    /// Where the answer is to be encrypted to.
    pub tee_pubkey: TeePublicKey,
}

/// Evidence of a guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeeEvidence {
    /// The `snp` evidence JSON.
    pub primary_evidence: SnpEvidence,
    /// Empty: there is no second attester. (A JSON text in the KBS protocol.)
    pub additional_evidence: String,
}

/// Answer to [`Attestation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestationAnswer {
    /// An EAR JWT that stands for the session.
    pub token: String,
}

impl RuntimeData {
    /// The `report_data` that primary evidence about this must hold.
    pub fn report_data(&self, additional_evidence: &str) -> [u8; 64] {
        rcar_report_data(&self.nonce, &self.tee_pubkey.to_json(), additional_evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stock client (attestation-agent 0.4.0 protocol) sends first.
    #[test]
    fn a_stock_request_is_read() {
        let text = r#"{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":["sha256","sha384"]}}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        assert_eq!(
            (request.version.as_str(), request.tee),
            (PROTOCOL_VERSION, Tee::Snp)
        );
        assert!(serde_json::from_str::<Request>(r#"{"version":"0.4.0","tee":"snp"}"#).is_err());
    }

    #[test]
    fn an_unknown_attester_is_not_read() {
        let text = r#"{"version":"0.4.0","tee":"sample","extra-params":""}"#;
        assert!(serde_json::from_str::<Request>(text).is_err());
    }
}
