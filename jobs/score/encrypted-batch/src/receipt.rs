//! What a guest and the key manager certify about a scored partition and a whole run.

use sealift_signed_document::{Digest, Document};
use serde::{Deserialize, Serialize};

use crate::{Assurance, BatchId};

/// Rows of one partition by what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowCounts {
    /// Rows read.
    #[serde(rename = "in")]
    pub read: u32,
    /// Rows answered.
    pub ok: u32,
    /// Rows that have an error instead of an answer.
    pub error: u32,
}

/// `receipt.v1`: one partition was scored; signed by the guest's receipt key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The run that asked.
    pub run: String,
    /// The batch document.
    pub batch_sha256: Digest,
    /// The partition's index.
    pub partition: u32,
    /// Which attempt of the run's task this was.
    pub attempt: u32,
    /// The age file that was read.
    pub input_sha256: Digest,
    /// The age file with the results; for an `fhe` output the one that the key manager made.
    pub output_sha256: Digest,
    /// What became of the rows.
    pub rows: RowCounts,
    /// The model version.
    pub manifest_sha256: Digest,
    /// The template of the guest's init-data.
    pub template_sha256: Digest,
    /// The evidence that the guest was attested with.
    pub evidence_sha256: Digest,
    /// The certificate of the key that signs this.
    pub guest_cert_sha256: Digest,
    /// How strongly the guest was attested.
    pub assurance: Assurance,
    /// Name and version of the inference engine.
    pub engine: String,
}

impl Document for Receipt {
    const TYPE: &'static str = "receipt.v1";
}

/// `run-receipt.v1`: the receipts that count for a run; signed by the key manager's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunReceipt {
    /// The run.
    pub run: String,
    /// The batch.
    pub batch: BatchId,
    /// RFC 6962 root over the receipt envelopes in order of their partitions:
    /// [`crate::receipts_root`].
    pub receipts_root: Digest,
    /// The log checkpoint (C2SP signed note) that covers them.
    pub checkpoint: String,
}

impl Document for RunReceipt {
    const TYPE: &'static str = "run-receipt.v1";
}
