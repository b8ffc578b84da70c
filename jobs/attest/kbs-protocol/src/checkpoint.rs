//! Checkpoints of the audit log: C2SP tlog-checkpoints in signed-note form, signed by the log key
//! and cosigned by a witness (cosignature/v1).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealift_signed_document::{Digest, Envelope, KeyId, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::merkle::TreeHead;

/// Path of the newest checkpoint: `?since=<size>` adds the consistency proof from that size.
pub const CHECKPOINT_PATH: &str = "/sealift/v1/checkpoint";
/// Path that a cosigned checkpoint is posted to.
pub const COSIGNATURE_PATH: &str = "/sealift/v1/cosignature";
/// Path of one entry with its audit path: `?index=<n>&size=<n>`.
pub const LOG_ENTRY_PATH: &str = "/sealift/v1/log-entry";

/// Largest checkpoint that is read: three lines and a few signatures.
const MAX_NOTE_BYTES: usize = 4 << 10;
/// Most signatures that are looked at.
const MAX_SIGNATURES: usize = 8;
/// Signature kinds of C2SP signed-note.
const ED25519: u8 = 0x01;
const COSIGNATURE_V1: u8 = 0x04;

/// Answer of [`CHECKPOINT_PATH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointAnswer {
    /// The signed note.
    pub checkpoint: String,
    /// The log key, for whoever has the identity's word for it.
    pub log_key: VerifyingKey,
    /// `log-key.v1`: the identity's word for the log key.
    pub log_key_document: Envelope,
    /// RFC 6962 consistency proof from `since`.
    pub consistency: Vec<Digest>,
    /// The newest checkpoint that a witness cosigned, once there is one.
    pub cosigned: Option<String>,
}

/// `POST` body of [`COSIGNATURE_PATH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosignatureMessage {
    /// The signed note with the witness's line.
    pub checkpoint: String,
    /// `delegation.v1` of the witness key.
    pub delegation: Envelope,
}

/// Answer of [`LOG_ENTRY_PATH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEntryAnswer {
    /// The leaf's canonical JSON, as text.
    pub leaf: String,
    /// RFC 6962 audit path to the root at the asked size.
    pub inclusion: Vec<Digest>,
}

/// `log-key.v1`, signed by the key manager's identity: its log's checkpoints are signed with this
/// key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKey {
    /// The key manager.
    pub km_id: KeyId,
    /// Its log key.
    pub log_key: VerifyingKey,
}

impl sealift_signed_document::Document for LogKey {
    const TYPE: &'static str = "log-key.v1";
}

/// Why a checkpoint was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Not three lines and signatures.
    #[error("this is not a signed checkpoint")]
    Malformed,
    /// Of another log.
    #[error("the checkpoint is of another log")]
    OtherLog,
    /// The expected signer's line is missing or wrong.
    #[error("the checkpoint is not signed by the expected key")]
    NotSigned,
}

/// A checkpoint whose log signature was checked.
///
/// [`Checkpoint::verify`] is its only constructor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    head: TreeHead,
    body: String,
    note: String,
}

/// A witness's word that it saw a checkpoint, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosignature {
    time: u64,
}

impl Cosignature {
    /// When the witness saw it, Unix seconds.
    pub fn time(&self) -> u64 {
        self.time
    }
}

/// Signs the checkpoint of a log.
pub fn sign_checkpoint(km_id: &KeyId, head: &TreeHead, log_key: &SigningKey) -> String {
    let origin = origin(km_id);
    let root = STANDARD.encode(head.root.as_bytes());
    let body = format!("{origin}\n{}\n{root}\n", head.size);
    let signature = log_key.sign_raw(body.as_bytes());
    let line = signature_line(&origin, ED25519, &log_key.public(), &signature);
    format!("{body}\n{line}")
}

impl Checkpoint {
    /// Reads a note and checks the log's own signature over it.
    pub fn verify(
        note: &str,
        km_id: &KeyId,
        log_key: &VerifyingKey,
    ) -> Result<Self, CheckpointError> {
        if note.len() > MAX_NOTE_BYTES || !note.ends_with('\n') {
            return Err(CheckpointError::Malformed);
        }
        let end = note.find("\n\n").ok_or(CheckpointError::Malformed)?;
        let body = &note[..=end];
        let origin = origin(km_id);
        let lines: Vec<_> = body.lines().collect();
        let [name, size, root] = lines.as_slice() else {
            return Err(CheckpointError::Malformed);
        };
        if *name != origin {
            return Err(CheckpointError::OtherLog);
        }
        let head = parse_head(size, root).ok_or(CheckpointError::Malformed)?;
        let signature = find_signature(note, &origin, ED25519, log_key)?;
        log_key
            .verify_raw(body.as_bytes(), &signature)
            .map_err(|_| CheckpointError::NotSigned)?;
        Ok(Self {
            head,
            body: body.to_owned(),
            note: note.to_owned(),
        })
    }

    /// Size and root.
    pub fn head(&self) -> &TreeHead {
        &self.head
    }

    /// The note as it was received.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Adds a witness's line. The witness must have checked that this continues the checkpoint
    /// that it cosigned last.
    pub fn cosign(&self, witness: &SigningKey, time: u64) -> String {
        let signature = witness.sign_raw(cosigned_bytes(&self.body, time).as_bytes());
        let timed = [time.to_be_bytes().as_slice(), &signature].concat();
        let key = witness.public();
        let line = signature_line(&witness_name(&key), COSIGNATURE_V1, &key, &timed);
        format!("{}{line}", self.note)
    }

    /// Checks the line of `witness`.
    pub fn cosignature(&self, witness: &VerifyingKey) -> Result<Cosignature, CheckpointError> {
        let timed = find_signature(&self.note, &witness_name(witness), COSIGNATURE_V1, witness)?;
        let (time, signature) = timed
            .split_first_chunk::<8>()
            .ok_or(CheckpointError::Malformed)?;
        let time = u64::from_be_bytes(*time);
        witness
            .verify_raw(cosigned_bytes(&self.body, time).as_bytes(), signature)
            .map_err(|_| CheckpointError::NotSigned)?;
        Ok(Cosignature { time })
    }
}

fn origin(km_id: &KeyId) -> String {
    format!("sealift/{km_id}")
}

fn witness_name(key: &VerifyingKey) -> String {
    format!("sealift-witness/{}", key.thumbprint())
}

fn parse_head(size: &str, root: &str) -> Option<TreeHead> {
    let number: u64 = size.parse().ok()?;
    let root: [u8; 32] = STANDARD.decode(root).ok()?.try_into().ok()?;
    // One spelling: no sign, no leading zeros.
    (number.to_string() == size).then_some(TreeHead {
        size: number,
        root: Digest::from_bytes(root),
    })
}

fn cosigned_bytes(body: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{body}")
}

/// `— <name> <base64(key hash ‖ signature)>`.
fn signature_line(name: &str, kind: u8, key: &VerifyingKey, signature: &[u8]) -> String {
    let bytes = [key_hash(name, kind, key).as_slice(), signature].concat();
    format!("\u{2014} {name} {}\n", STANDARD.encode(bytes))
}

/// The first four bytes of SHA-256(name ‖ 0x0A ‖ kind ‖ public key).
fn key_hash(name: &str, kind: u8, key: &VerifyingKey) -> [u8; 4] {
    let digest = Digest::of(&[name.as_bytes(), &[b'\n', kind], key.as_bytes()].concat());
    let mut hash = [0; 4];
    hash.copy_from_slice(&digest.as_bytes()[..4]);
    hash
}

fn find_signature(
    note: &str,
    name: &str,
    kind: u8,
    key: &VerifyingKey,
) -> Result<Vec<u8>, CheckpointError> {
    let hash = key_hash(name, kind, key);
    let (_, lines) = note.split_once("\n\n").ok_or(CheckpointError::Malformed)?;
    for line in lines.lines().take(MAX_SIGNATURES) {
        let fields = line
            .strip_prefix("\u{2014} ")
            .and_then(|line| line.split_once(' '));
        let (found, encoded) = fields.ok_or(CheckpointError::Malformed)?;
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| CheckpointError::Malformed)?;
        if let (true, Some(signature)) = (found == name, bytes.strip_prefix(&hash)) {
            return Ok(signature.to_vec());
        }
    }
    Err(CheckpointError::NotSigned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::empty_root;

    fn signed() -> (String, KeyId, SigningKey) {
        let (identity, log_key) = (SigningKey::generate(), SigningKey::generate());
        let km_id = identity.public().thumbprint();
        let head = TreeHead {
            size: 0,
            root: empty_root(),
        };
        (sign_checkpoint(&km_id, &head, &log_key), km_id, log_key)
    }

    #[test]
    fn a_checkpoint_has_the_lines_of_a_signed_note() {
        let (note, km_id, _) = signed();
        let lines: Vec<_> = note.split('\n').collect();
        assert_eq!(lines[0], format!("sealift/{km_id}"));
        assert_eq!(lines[1], "0");
        assert_eq!(lines[2], "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(lines[3], "");
        assert!(lines[4].starts_with(&format!("\u{2014} sealift/{km_id} ")));
        assert_eq!(lines[5], "");
    }

    #[test]
    fn a_checkpoint_verifies_under_its_log_key_alone() {
        let (note, km_id, log_key) = signed();
        let checkpoint = Checkpoint::verify(&note, &km_id, &log_key.public()).unwrap();
        assert_eq!(checkpoint.head().size, 0);
        let stranger = SigningKey::generate().public();
        assert_eq!(
            Checkpoint::verify(&note, &km_id, &stranger),
            Err(CheckpointError::NotSigned)
        );
        assert_eq!(
            Checkpoint::verify(&note, &stranger.thumbprint(), &log_key.public()),
            Err(CheckpointError::OtherLog)
        );
        let larger = note.replacen("\n0\n", "\n1\n", 1);
        assert_eq!(
            Checkpoint::verify(&larger, &km_id, &log_key.public()),
            Err(CheckpointError::NotSigned)
        );
    }

    #[test]
    fn a_cosignature_names_its_time_and_its_witness() {
        let (note, km_id, log_key) = signed();
        let witness = SigningKey::generate();
        let checkpoint = Checkpoint::verify(&note, &km_id, &log_key.public()).unwrap();
        assert_eq!(
            checkpoint.cosignature(&witness.public()),
            Err(CheckpointError::NotSigned)
        );
        let cosigned = checkpoint.cosign(&witness, 1_800_000_000);
        let checkpoint = Checkpoint::verify(&cosigned, &km_id, &log_key.public()).unwrap();
        let cosignature = checkpoint.cosignature(&witness.public()).unwrap();
        assert_eq!(cosignature.time(), 1_800_000_000);
        let stranger = SigningKey::generate().public();
        assert_eq!(
            checkpoint.cosignature(&stranger),
            Err(CheckpointError::NotSigned)
        );
    }

    #[test]
    fn other_spellings_are_refused() {
        let (note, km_id, log_key) = signed();
        for bad in [
            note.replacen("\n0\n", "\n00\n", 1),
            note.replacen("\n0\n", "\n+0\n", 1),
            note.replacen("\n\n", "\nextension\n\n", 1),
            note.trim_end().to_owned(),
            note.replace('\u{2014}', "-"),
            String::new(),
        ] {
            assert!(
                Checkpoint::verify(&bad, &km_id, &log_key.public()).is_err(),
                "{bad}"
            );
        }
    }
}
