//! How a witness starts a key manager: state key and freshness in one message.

use sealift_signed_document::{
    Digest, Document, Envelope, KeyId,
    hpke_box::{BoxPublic, SealedBox},
};
use serde::{Deserialize, Serialize};

use crate::Nonce;

/// Path that the message is posted to.
pub const UNLOCK_PATH: &str = "/sealift/v1/unlock";

/// `unlock.v1`, signed by a witness key that an owner root delegated: which boot is unlocked, and
/// what the newest history is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlock {
    /// The identity that must be found; null before the first unlock told it.
    pub km_id: Option<KeyId>,
    /// The boot key that the appraised evidence named.
    pub boot_key: BoxPublic,
    /// The nonce of that boot.
    pub boot_nonce: Nonce,
    /// Higher than any epoch before.
    pub epoch: u64,
    /// Leaves of the log that the witness last cosigned.
    pub tree_size: u64,
    /// Root over these leaves.
    pub root: Digest,
    /// The witness's time, Unix seconds: log time is never below it.
    pub time: u64,
}

impl Document for Unlock {
    const TYPE: &'static str = "unlock.v1";
}

/// `POST /sealift/v1/unlock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnlockMessage {
    /// `unlock.v1`.
    pub document: Envelope,
    /// `delegation.v1` of the witness key.
    pub delegation: Envelope,
    /// The 32 bytes of the state key, encrypted to the boot key.
    pub state_key: SealedBox,
}
