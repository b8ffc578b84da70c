//! Asking for the key manager's word for a whole run.

use sealift_signed_document::{Digest, Envelope};
use serde::{Deserialize, Serialize};

/// Path of [`RunReceiptRequest`].
pub const RUN_RECEIPT_PATH: &str = "/sealift/v1/run-receipt";

/// `POST /sealift/v1/run-receipt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunReceiptRequest {
    /// The run that every receipt must name.
    pub run: String,
    /// SHA-256 of the batch document's envelope.
    pub batch_sha256: Digest,
    /// The serial of the version that scored it.
    pub serial: u64,
}

/// Answer to [`RunReceiptRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunReceiptAnswer {
    /// `run-receipt.v1`, signed by the key manager's identity.
    pub run_receipt: Envelope,
    /// The receipts that count, in order of their partitions.
    pub receipts: Vec<Envelope>,
}
