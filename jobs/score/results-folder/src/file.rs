//! `receipts.json`.

use std::{fs::File, io::Read as _, path::Path};

use sealift_kbs_protocol::{Nonce, evidence::KeyManagerEvidence};
use sealift_signed_document::Envelope;
use serde::{Deserialize, Serialize};

use crate::ResultsFolderError;

/// Name of the receipts in a results folder.
pub const RECEIPTS_FILE: &str = "receipts.json";

/// Largest `receipts.json`: 20,000 partitions, the most that a batch has, with receipts of some
/// 1.5 kB each once their quotes are escaped, and a few documents besides.
pub const MAX_RECEIPTS_FILE_BYTES: u64 = 64 << 20;

/// Name of a partition's result file in a results folder.
pub fn result_file(index: u32) -> String {
    format!("{index:05}.age")
}

/// Everything that stands behind the result files, as received; nothing in it is checked.
///
/// Envelopes are texts inside the JSON, byte for byte what was signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptsFile {
    /// `receipt.v1` of each partition, in their order.
    pub receipts: Vec<Envelope>,
    /// The guests that signed them.
    pub certificates: Vec<CertifiedGuest>,
    /// `run-receipt.v1`.
    pub run_receipt: Envelope,
    /// What the key manager said about itself when the folder was made.
    pub key_manager: KeyManagerProof,
    /// `log-key.v1`: the key manager's word for the key that signs its checkpoints.
    pub log_key: Envelope,
}

/// A guest's certificate with the grant that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedGuest {
    /// `guest-cert.v1`.
    pub guest_certificate: Envelope,
    /// `session-grant.v1`.
    pub session_grant: Envelope,
}

/// Evidence of a key manager with the nonce that it answers, so that it can be appraised again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyManagerProof {
    /// Drawn by whoever made the folder.
    pub nonce: Nonce,
    /// The answer.
    pub evidence: KeyManagerEvidence,
}

impl ReceiptsFile {
    /// Reads the file in `folder`.
    ///
    /// # Errors
    /// [`ResultsFolderError::Read`], [`ResultsFolderError::TooLarge`] or
    /// [`ResultsFolderError::Malformed`].
    pub fn read(folder: &Path) -> Result<Self, ResultsFolderError> {
        let path = folder.join(RECEIPTS_FILE);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| {
                file.take(MAX_RECEIPTS_FILE_BYTES + 1)
                    .read_to_end(&mut bytes)
            })
            .map_err(|source| ResultsFolderError::Read {
                path: path.clone(),
                source,
            })?;
        if bytes.len() as u64 > MAX_RECEIPTS_FILE_BYTES {
            return Err(ResultsFolderError::TooLarge { path });
        }
        serde_json::from_slice(&bytes)
            .map_err(|source| ResultsFolderError::Malformed { path, source })
    }
}
