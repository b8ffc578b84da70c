//! What a guest asks for inside its session.
//!
//! Requests are JSON; answers start with one byte that says whether the request was refused, and
//! nothing else about why.

use sealift_encrypted_batch::FileKey;
use sealift_signed_document::{Digest, Envelope, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

/// Path that a session's grant is fetched from.
pub const SESSION_PATH: &str = "/kbs/v0/sealift/session";
/// Path that calls are posted to.
pub const CALL_PATH: &str = "/kbs/v0/sealift/call";

/// An operation of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Registers a user's batch document.
    Batch,
    /// Certifies the guest's receipt and TLS keys.
    Certify,
    /// Commits the receipt of a partition.
    Commit,
    /// Decrypts the evaluated ciphertexts of an encrypted layer.
    Fhe,
    /// Unwraps the file key of a partition.
    Unwrap,
}

impl Op {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Certify => "certify",
            Self::Commit => "commit",
            Self::Fhe => "fhe",
            Self::Unwrap => "unwrap",
        }
    }
}

/// Request of [`Op::Certify`]; the answer is a [`CertifyAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifyRequest {
    /// The key that the guest signs receipts with.
    pub receipt_key: VerifyingKey,
    /// SHA-256 of the SubjectPublicKeyInfo of the guest's TLS key.
    pub tls_spki_sha256: Digest,
}

/// Answer of [`Op::Certify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifyAnswer {
    /// `guest-cert.v1`.
    pub guest_certificate: Envelope,
}

/// Request of [`Op::Batch`]; the answer is empty JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// `batch.v1`, signed by the user.
    pub document: Envelope,
}

/// Request of [`Op::Unwrap`]; the answer is the file key's 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnwrapRequest {
    /// SHA-256 of the batch document's envelope.
    pub batch_sha256: Digest,
    /// The partition's index.
    pub partition: u32,
    /// The age header with its MAC line.
    pub header: Bytes,
}

/// Request of [`Op::Commit`]; the answer is a [`CommitAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitRequest {
    /// `receipt.v1`, signed by the guest's certified receipt key.
    pub receipt: Envelope,
}

/// Answer of [`Op::Commit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitAnswer {
    /// Whether this receipt is the one that counts for its partition and serial.
    pub first: bool,
    /// Where it stands in the log.
    pub log_index: u64,
}

/// Request of [`Op::Fhe`]: consecutive rows of a partition, those that follow the rows of the
/// request before it. The answer to the one with the last row is the result file's bytes, and to
/// the others it is empty; a request with the first row begins anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FheRequest {
    /// SHA-256 of the batch document's envelope.
    pub batch_sha256: Digest,
    /// The partition's index.
    pub partition: u32,
    /// The run that the result file names.
    pub run: String,
    /// The encrypted layer's name in the manifest.
    pub layer: String,
    /// The rows, in the partition's order.
    pub rows: Vec<FheRow>,
    /// The rows that have no activation and get a fault as their answer; each row is here or in
    /// `rows`.
    pub faults: Vec<FheFault>,
}

/// One row that could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FheFault {
    /// Index of the row in the partition.
    pub row: u64,
    /// The user's name for the row.
    pub id: String,
    /// The code of a `sealift_encrypted_batch::RowFault`.
    pub code: String,
}

/// One evaluated row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FheRow {
    /// Index of the row in the partition.
    pub row: u64,
    /// The user's name for the row.
    pub id: String,
    /// The quantised activation, one byte (`i8`) each.
    pub x: Bytes,
    /// The activation's scale.
    pub s: f32,
    /// The evaluated bodies as exact integers, `i64` little-endian each.
    #[serde(rename = "Y")]
    pub y: Bytes,
}

/// Bytes as standard base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD
            .decode(String::deserialize(deserializer)?)
            .map(Self)
            .map_err(de::Error::custom)
    }
}

const GRANTED: u8 = 0;
const REFUSED: u8 = 1;

/// What the key manager says to a call.
pub enum CallOutcome {
    /// The operation's answer.
    Granted(Zeroizing<Vec<u8>>),
    /// No; why stands in the key manager's log.
    Refused,
}

/// Text that is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key manager's answer does not have the form of this operation's answers")]
pub struct BadAnswer;

impl CallOutcome {
    /// The bytes that are encrypted to the guest.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Granted(answer) => {
                let mut bytes = Zeroizing::new(Vec::with_capacity(answer.len() + 1));
                bytes.push(GRANTED);
                bytes.extend_from_slice(answer);
                bytes
            }
            Self::Refused => Zeroizing::new(vec![REFUSED]),
        }
    }

    /// Reads decrypted bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadAnswer> {
        match bytes.split_first() {
            Some((&GRANTED, answer)) => Ok(Self::Granted(Zeroizing::new(answer.to_vec()))),
            Some((&REFUSED, [])) => Ok(Self::Refused),
            _ => Err(BadAnswer),
        }
    }
}

/// Reads the answer of [`Op::Unwrap`].
pub fn file_key(answer: &[u8]) -> Result<FileKey, BadAnswer> {
    answer
        .try_into()
        .map(FileKey::from_bytes)
        .map_err(|_| BadAnswer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_written_by_its_name() {
        for op in [Op::Batch, Op::Certify, Op::Commit, Op::Fhe, Op::Unwrap] {
            assert_eq!(
                serde_json::to_string(&op).unwrap(),
                format!("\"{}\"", op.name())
            );
        }
    }

    #[test]
    fn a_refusal_says_nothing_else() {
        assert_eq!(CallOutcome::Refused.to_bytes().as_slice(), [REFUSED]);
        assert!(CallOutcome::from_bytes(&[REFUSED, 0]).is_err());
        assert!(CallOutcome::from_bytes(&[]).is_err());
        assert!(CallOutcome::from_bytes(&[2]).is_err());
    }

    #[test]
    fn a_file_key_has_sixteen_bytes() {
        assert!(file_key(&[0; 16]).is_ok());
        assert!(file_key(&[0; 15]).is_err());
    }
}
