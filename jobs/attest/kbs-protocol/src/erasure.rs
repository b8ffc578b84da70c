//! How a version's keys are destroyed, and the proof of it.
//!
//! [`Erase`] deletes them from the key manager's records. Older copies of its database hold them
//! still, encrypted under the state key; so a witness then gives another state key ([`Rekey`]), all
//! records are encrypted anew under it, and the witness destroys the old one. Only then the key
//! manager signs [`Erasure`].

use sealift_signed_document::{
    Digest, Document, DocumentError, Envelope, KeyId, Signed, VerifyingKey,
    hpke_box::{BoxPublic, SealedBox},
};
use serde::{Deserialize, Serialize};

use crate::{
    Name, Nonce,
    evidence::{EvidenceAppraiser, KeyManagerEvidence, KeyManagerExpectation, KeyManagerRefusal},
};

/// Path that [`RekeyMessage`] is posted to.
pub const REKEY_PATH: &str = "/sealift/v1/rekey";
/// Path that an [`Erasure`] is read from again: `?model=<model>&version=<version>`.
pub const ERASURE_PATH: &str = "/sealift/v1/erasure";

/// Most places where an owner says to have put a copy in escrow.
pub const MAX_ESCROW: usize = 16;
/// Longest name of such a place, in bytes.
pub const MAX_ESCROW_BYTES: usize = 256;

/// `erase.v1`: the version's keys are destroyed, for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    /// The key manager.
    pub km_id: KeyId,
    /// One more than the last change of this owner and model.
    pub seq: u64,
    /// Unix seconds from which the document no longer counts.
    pub not_after: u64,
    /// The model.
    pub model: Name,
    /// The version.
    pub version: Name,
    /// Its manifest, so that what is erased is what its owner looked at.
    pub manifest_sha256: Digest,
    /// Copies that the owner knows of.
    pub copies: OwnerCopies,
}

impl Document for Erase {
    const TYPE: &'static str = "erase.v1";
}

/// Copies of a version's keys outside the key manager, as its owner says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerCopies {
    /// Whether the owner kept one.
    pub owner: bool,
    /// Where one was put in escrow; at most [`MAX_ESCROW`] names.
    pub escrow: Vec<String>,
}

impl OwnerCopies {
    /// Whether it stays within the limits.
    pub fn fits(&self) -> bool {
        self.escrow.len() <= MAX_ESCROW
            && self
                .escrow
                .iter()
                .all(|place| place.len() <= MAX_ESCROW_BYTES)
    }
}

/// `rekey.v1`, signed by a witness key that an owner root delegated: all records are encrypted anew
/// under the state key that travels beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rekey {
    /// The key manager.
    pub km_id: KeyId,
    /// Its boot key, from evidence that the witness appraised.
    pub boot_key: BoxPublic,
    /// Higher than any epoch before; the witness cosigns for no older one.
    pub epoch: u64,
}

impl Document for Rekey {
    const TYPE: &'static str = "rekey.v1";
}

/// `POST /sealift/v1/rekey`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RekeyMessage {
    /// `rekey.v1`.
    pub document: Envelope,
    /// `delegation.v1` of the witness key.
    pub delegation: Envelope,
    /// The 32 bytes of the next state key, encrypted to the boot key.
    pub state_key: SealedBox,
}

/// `erasure.v1`, signed by the key manager's identity: what was destroyed, and which copies there
/// were.
///
/// It cannot say that a copy outside the key manager is gone, nor that the witness destroyed the
/// old state key: those are for whoever holds them to see to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// The key manager.
    pub km_id: KeyId,
    /// Whose version it was.
    pub owner_root: VerifyingKey,
    /// The model.
    pub model: Name,
    /// The version.
    pub version: Name,
    /// Its serial.
    pub serial: u64,
    /// The last manifest of it that was released.
    pub manifest_sha256: Digest,
    /// SHA-256 of the `erase.v1` document.
    pub erase_sha256: Digest,
    /// What was deleted.
    pub deleted: DeletedKeys,
    /// What its owner said of other copies.
    pub copies: OwnerCopies,
    /// Guests that had been given the key and whose leases had not ended.
    pub guests: Vec<GuestCopy>,
    /// Attested sessions of the version that were ended; a subset of them held the key.
    pub sessions_ended: u64,
    /// The epoch under whose state key the records stand now; no older state key opens them.
    pub epoch: u64,
    /// Where the deletion stands in the log.
    pub erased_index: u64,
    /// Log time of it, Unix seconds.
    pub erased_at: u64,
    /// Where the change of the state key stands in the log.
    pub rekeyed_index: u64,
}

impl Document for Erasure {
    const TYPE: &'static str = "erasure.v1";
}

/// Keys that were deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletedKeys {
    /// KEKs: one, and another where a rotation was not finished.
    pub model_keys: u64,
    /// Secrets of encrypted layers.
    pub fhe_bundles: u64,
}

/// A guest that held the key when it was erased, and keeps it in its memory until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestCopy {
    /// Thumbprint of the guest's key.
    pub tee_pubkey: String,
    /// When its lease would have ended, Unix seconds.
    pub lease_ends: u64,
}

/// A receipt with the evidence of the key manager that signed it, so that it is verified without
/// asking anybody. Nothing in it is checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureProof {
    /// Drawn by whoever asked for the evidence.
    pub nonce: Nonce,
    /// The answer.
    pub evidence: KeyManagerEvidence,
    /// `erasure.v1`.
    pub erasure: Envelope,
}

/// Why a proof proves nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErasureProofError<R: std::error::Error + 'static> {
    /// The key manager is not one that the reader trusts.
    #[error("the key manager's evidence is not accepted")]
    KeyManager(#[source] KeyManagerRefusal<R>),
    /// A key manager that was never unlocked signs nothing.
    #[error("the key manager's evidence names no identity key")]
    NoIdentity,
    /// Signed by somebody else, or changed since.
    #[error("the receipt is not signed by the key manager that the evidence is about")]
    Receipt(#[source] DocumentError),
    /// A key manager that signed for another one.
    #[error("the receipt names another key manager than the one that signed it")]
    OtherKeyManager,
    /// The version of somebody else.
    #[error("the receipt is about a version of another owner")]
    OtherOwner,
}

impl ErasureProof {
    /// Follows the chain: receipt ← key manager ← evidence ← what is trusted.
    ///
    /// # Errors
    /// The [`ErasureProofError`] of the first link that is false.
    pub fn verify<A: EvidenceAppraiser>(
        &self,
        expected: &KeyManagerExpectation,
        appraiser: &A,
    ) -> Result<Signed<Erasure>, ErasureProofError<A::Refusal>> {
        let appraised = self
            .evidence
            .appraise(&self.nonce, expected, appraiser)
            .map_err(ErasureProofError::KeyManager)?;
        let identity = appraised.identity().ok_or(ErasureProofError::NoIdentity)?;
        let signed: Signed<Erasure> = self
            .erasure
            .verify(identity)
            .map_err(ErasureProofError::Receipt)?;
        let said = signed.document();
        if said.km_id != identity.thumbprint() {
            return Err(ErasureProofError::OtherKeyManager);
        }
        if said.owner_root != expected.owner_root {
            return Err(ErasureProofError::OtherOwner);
        }
        Ok(signed)
    }
}
