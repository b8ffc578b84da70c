//! Why something was refused. Peers learn one public code; the audit log says the rest.

use sealift_encrypted_batch::{BatchError, BatchRefusal, UnwrapError};
use sealift_init_data::InitDataNotFromTemplate;
use sealift_kbs_protocol::{
    KeyBundleError, PublicError, channel::ChannelError, checkpoint::CheckpointError, jwe::JweError,
};
use sealift_signed_document::DocumentError;
use sealift_wrapped_key::{RewrapError, WrappedKeysError};

use crate::state::vault::VaultError;

/// Why something was refused: one variant per check.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    // The state of the key manager.
    /// No witness has unlocked it.
    #[error("the key manager is locked")]
    Locked,
    /// It is open, and a boot is unlocked once.
    #[error("the key manager is open already")]
    AlreadyOpen,
    /// Too much lies beyond what a witness has seen.
    #[error("the log is beyond the last witnessed checkpoint; a witness must cosign it")]
    BeyondWitness,
    /// Out of room for sessions or nonces.
    #[error("there are as many {0} as this key manager keeps")]
    Full(&'static str),
    /// The request was not worked on to its end.
    #[error("the request was not worked on to its end")]
    Interrupted,
    /// The state could not be read or written.
    #[error("the state is not accepted or could not be changed")]
    State(#[from] VaultError),

    // Messages.
    /// Not of the form.
    #[error("the message is not of the form that this path takes")]
    Malformed,
    /// No such path.
    #[error("there is nothing at this path")]
    NotFound,
    /// A document that does not verify.
    #[error("a document is not accepted")]
    Document(#[source] DocumentError),

    // Unlock and commands.
    /// The delegation is for another purpose.
    #[error("the key was delegated for another role")]
    OtherRole,
    /// For another boot.
    #[error("the document names another boot")]
    OtherBoot,
    /// For another key manager.
    #[error("the document names another key manager")]
    OtherKeyManager,
    /// The file was made under another mode.
    #[error("the database was created under another mode than the measured one")]
    OtherMode,
    /// The box is not a state key.
    #[error("the state key does not have 32 bytes")]
    BadStateKey,
    /// Fewer roots agree than the configuration demands.
    #[error("{found} owner roots approved, the configuration demands {threshold}")]
    Threshold {
        /// Roots that approved.
        found: usize,
        /// Roots that must.
        threshold: u32,
    },
    /// The approvals are not about one document.
    #[error("the approvals are for different documents")]
    DifferentDocuments,
    /// Past its end.
    #[error("the document ended at {0} (Unix seconds)")]
    DocumentEnded(u64),
    /// Replayed, or something before it is missing.
    #[error("the document's seq is {found}, the next one is {next}")]
    Sequence {
        /// In the document.
        found: u64,
        /// What was expected.
        next: u64,
    },
    /// Never given, or used.
    #[error("the push nonce was not given by this boot, or was used")]
    PushNonce,
    /// Another owner has the name.
    #[error("the model name belongs to another owner")]
    NameTaken,
    /// The serial does not rise.
    #[error("serial {found} does not rise above {newest}")]
    SerialNotRising {
        /// In the document.
        found: u64,
        /// The highest so far.
        newest: u64,
    },
    /// The version is there.
    #[error("the version is registered already; nothing is ever overwritten")]
    AlreadyRegistered,
    /// Another bundle than the signed one.
    #[error("the key bundle is not the one that the document names")]
    OtherBundle,
    /// The bundle does not parse.
    #[error("the key bundle is malformed")]
    Bundle(#[source] KeyBundleError),
    /// A template or reference values that were never installed.
    #[error("the {0} that the document names is not installed for this owner")]
    NotInstalled(&'static str),
    /// This key manager cannot attest guests that strongly.
    #[error("the document demands a stronger attestation than this key manager's mode")]
    ModeTooWeak,
    /// No such version.
    #[error("no such version")]
    UnknownVersion,
    /// The version is in another state.
    #[error("the version is not in the state that this needs")]
    VersionState,
    /// The manifest differs.
    #[error("the manifest is not the registered one")]
    OtherManifest,
    /// Bytes that are no wrapped keys.
    #[error("the message does not carry wrapped keys")]
    WrappedKeys(#[source] WrappedKeysError),
    /// Other wrapped keys than the signed ones.
    #[error("the wrapped keys are not those that the document names")]
    OtherWrappedKeys,
    /// A wrapped key of another version.
    #[error("a wrapped key is not this version's")]
    Rewrap(#[source] RewrapError),
    /// Nothing was wrapped anew, or it was rotated to already.
    #[error("no rotation of the version was begun")]
    NoRotation,
    /// A rotation that was begun again since.
    #[error("the rotation is not the one that was begun last")]
    OtherRotation,
    /// A floor only rises.
    #[error("floor {found} does not rise above {floor}")]
    FloorNotRising {
        /// In the document.
        found: u64,
        /// The floor.
        floor: u64,
    },
    /// The grant is there.
    #[error("the grant is known already; nothing is ever overwritten")]
    GrantExists,
    /// No such grant.
    #[error("no such grant")]
    UnknownGrant,

    // Handshake.
    /// Another protocol version or attester.
    #[error("the handshake is of another protocol version or attester")]
    Protocol,
    /// No session, an ended one, or a nonce that was used.
    #[error("there is no such session, or its nonce was used")]
    UnknownSession,
    /// Another nonce.
    #[error("the evidence is for another nonce")]
    OtherNonce,
    /// Init-data is missing, or not TOML.
    #[error("the attestation brings no init-data in TOML")]
    NoInitData,
    /// Additional evidence.
    #[error("additional evidence is not accepted")]
    AdditionalEvidence,
    /// The init-data is not what the owner's template gives.
    #[error("the init-data is not rendered from the owner's template")]
    InitDataNotFromTemplate(#[source] InitDataNotFromTemplate),
    /// The template does not allow this attester.
    #[error("the owner's template does not allow this kind of guest")]
    TeeNotAllowed,
    /// The verifier refuses the evidence.
    #[error("the evidence is refused")]
    Evidence(#[source] sealift_verifier::Refusal),
    /// Attested too weakly.
    #[error("the guest is attested more weakly than its version demands")]
    AssuranceTooLow,

    // Release.
    /// Another version than the guest was attested for.
    #[error("the guest is attested for another version")]
    OtherVersion,
    /// Below the floor.
    #[error("serial {serial} is below the floor {floor}")]
    BelowFloor {
        /// Of the version.
        serial: u64,
        /// Of the model.
        floor: u64,
    },
    /// No free lease.
    #[error("as many guests hold the key as the version allows")]
    NoFreeLease,
    /// The guest's key takes no JWE.
    #[error("nothing can be encrypted to the guest's key")]
    Jwe(#[source] JweError),

    // Calls.
    /// The channel refuses the message.
    #[error("the call is not accepted")]
    Channel(#[source] ChannelError),
    /// The session's keys are certified.
    #[error("other keys were certified in this session")]
    AlreadyCertified,
    /// A receipt needs a certified key.
    #[error("no key was certified in this session")]
    NotCertified,
    /// No such batch.
    #[error("no such batch was registered")]
    UnknownBatch,
    /// The guest or batch was caught.
    #[error("the guest or the batch is quarantined")]
    Quarantined,
    /// The batch document is not accepted.
    #[error("the batch document is not accepted")]
    Batch(#[source] BatchError),
    /// The batch is not for this guest or grant.
    #[error("the batch is not opened for this guest under its grant")]
    NotAdmitted(#[source] BatchRefusal),
    /// The header gives no file key.
    #[error("the partition is not unwrapped")]
    Unwrap(#[source] UnwrapError),
    /// Unwrapped often enough.
    #[error("the partition was unwrapped {0} times, as often as the batch allows")]
    AttemptsUsedUp(u32),
    /// Answered enough.
    #[error("the budget of the {0} is used up")]
    BudgetUsedUp(&'static str),
    /// A receipt of something else.
    #[error("the receipt's `{0}` is not that of the session or batch")]
    OtherReceipt(&'static str),
    /// The secret of an encrypted layer does not parse, or is another layer's.
    #[error("the secret of layer `{0}` is malformed, or has not one label for each output")]
    BadLayer(String),
    /// The version has no such encrypted layer.
    #[error("the version has no encrypted layer of that name")]
    UnknownLayer,
    /// Rows and faults do not make up the partition, or a row is not of the layer's form.
    #[error("the rows do not make up the partition")]
    OtherRows,
    /// More records than an answer holds.
    #[error(
        "the partition's records take more than 46 MiB; seal the batch with fewer rows per partition"
    )]
    PartitionTooLarge,
    /// Something that no honest evaluation gives: guest and batch are refused from now on.
    #[error("row {row} is not an evaluation of the layer: {reason}")]
    DishonestRow {
        /// Place in the partition.
        row: u64,
        /// Which check it failed.
        reason: String,
    },
    /// The result file was not made; decided by names and sizes alone.
    #[error("the result file cannot be made")]
    Results(#[source] sealift_encrypted_batch::ResultsError),
    /// This build decrypts nothing.
    #[error("this build does not decrypt encrypted layers")]
    NoFhe,

    // Witness.
    /// A checkpoint of another log, or not cosigned.
    #[error("the checkpoint is not accepted")]
    Checkpoint(#[source] CheckpointError),
    /// A tree that this log never had.
    #[error("the checkpoint is not one of this log")]
    OtherTree,
    /// Some partition has no receipt of that run.
    #[error("the run's receipts are not complete, or not covered by a cosigned checkpoint")]
    RunIncomplete,
}

impl Refusal {
    /// All that a peer is told.
    pub fn public(&self) -> PublicError {
        match self {
            Self::Malformed => PublicError::Malformed,
            Self::NotFound => PublicError::NotFound,
            Self::Locked
            | Self::BeyondWitness
            | Self::Full(_)
            | Self::Interrupted
            | Self::State(VaultError::Database(_)) => PublicError::Unavailable,
            Self::UnknownSession
            | Self::Protocol
            | Self::OtherNonce
            | Self::NoInitData
            | Self::AdditionalEvidence
            | Self::InitDataNotFromTemplate(_)
            | Self::TeeNotAllowed
            | Self::Evidence(_)
            | Self::AssuranceTooLow
            | Self::DishonestRow { .. }
            | Self::Channel(_) => PublicError::NotAttested,
            _ => PublicError::Refused,
        }
    }

    /// The variant's name and the chain of causes, for the audit log.
    pub fn reason(&self) -> String {
        let debug = format!("{self:?}");
        let name = debug
            .split(|c: char| !c.is_ascii_alphanumeric())
            .next()
            .unwrap_or_default();
        let mut reason = format!("{name}: {self}");
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            reason = format!("{reason}: {error}");
            source = error.source();
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_the_check_and_its_causes() {
        assert_eq!(
            Refusal::Document(DocumentError::BadSignature).reason(),
            "Document: a document is not accepted: the signature does not verify under the \
             expected key"
        );
        assert_eq!(
            Refusal::Sequence { found: 1, next: 2 }.reason(),
            "Sequence: the document's seq is 1, the next one is 2"
        );
    }
}
