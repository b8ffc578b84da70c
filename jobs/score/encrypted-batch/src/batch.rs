//! `batch.v1`: what the model user wants scored, by what, under which conditions.

use sealift_signed_document::{
    Digest, Document, DocumentError, Envelope, Signed, VerifyingKey, named_hash,
};
use serde::{Deserialize, Serialize};

use crate::{
    AgeRecipient, Assurance, BatchId, GrantId, MAX_STANZAS, OutputPolicy, VersionScope,
    partition::MAX_PARTITION_BYTES,
};

/// Most partitions of a batch: an entry takes some 220 bytes, and the document has to stay within
/// what one envelope may hold.
pub const MAX_PARTITIONS: usize = 20_000;

/// One sealed file of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Place in the batch, from 0.
    pub index: u32,
    /// SHA-256 of the whole age file.
    pub sha256: Digest,
    /// Length of the age file.
    pub bytes: u64,
    /// Rows inside.
    pub rows: u32,
    /// SHA-256 of the age header up to and with its MAC line.
    pub header_sha256: Digest,
}

/// `batch.v1`, signed by the model user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Random name of the batch.
    pub batch: BatchId,
    /// The grant it is scored under.
    pub grant: GrantId,
    /// The model.
    pub model: String,
    /// The versions that may score it.
    pub versions: VersionScope,
    /// The guests that the user accepts: [`guest_policy_sha256`].
    pub guest_policy_sha256: Digest,
    /// The weakest attestation that the user accepts.
    pub min_assurance: Assurance,
    /// What an answer may say.
    pub output_policy: OutputPolicy,
    /// Who may open the results; nobody else adds to this.
    pub result_recipients: Vec<AgeRecipient>,
    /// Length of every result record in bytes, line feed included.
    pub pad: u32,
    /// The form that all rows share: [`crate::RowShape::digest`].
    pub schema_sha256: Digest,
    /// End of the batch, Unix seconds.
    pub not_after: u64,
    /// How often the key manager unwraps one partition.
    pub max_attempts: u32,
    /// The sealed files, in order of their index.
    pub partitions: Vec<Partition>,
}

impl Document for Batch {
    const TYPE: &'static str = "batch.v1";
}

/// The digest by which a batch names the guests it accepts:
/// H("guest-policy", template ‖ reference values).
pub fn guest_policy_sha256(template: &Digest, reference_values: &Digest) -> Digest {
    let mut both = [0; 64];
    both[..32].copy_from_slice(template.as_bytes());
    both[32..].copy_from_slice(reference_values.as_bytes());
    named_hash("guest-policy", &both)
}

/// Why a batch document is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Not signed by this user, or not such a document.
    #[error("the batch is not a batch document signed by the user's key")]
    Document(#[source] DocumentError),
    /// No partition, or more than are read.
    #[error("a batch has 1 to {MAX_PARTITIONS} partitions, this one has {0}; split it")]
    PartitionCount(usize),
    /// The entry at this place has another index.
    #[error("partition {0} of the batch is out of order or missing")]
    PartitionOrder(usize),
    /// A partition that claims an impossible size.
    #[error(
        "partition {0} of the batch is empty or above the limit of {MAX_PARTITION_BYTES} bytes"
    )]
    PartitionSize(u32),
    /// Two entries for one file.
    #[error("partitions {0} and {1} of the batch are the same file")]
    RepeatedPartition(u32, u32),
    /// Nobody, or too many, could open the results.
    #[error("a batch names 1 to {MAX_STANZAS} result recipients, this one names {0}")]
    RecipientCount(usize),
    /// A record length outside the limits.
    #[error(
        "records are padded to {min} to {max} bytes, the batch says {0}",
        min = crate::result_record::MIN_PAD,
        max = crate::result_record::MAX_PAD
    )]
    Pad(u32),
    /// Not part of the batch.
    #[error("the batch has no partition {0}")]
    NoSuchPartition(u32),
}

/// A batch whose signature and structure were checked.
///
/// [`VerifiedBatch::verify`] is its only constructor.
#[derive(Clone, Debug)]
pub struct VerifiedBatch(Signed<Batch>);

impl VerifiedBatch {
    /// Checks that `user` signed `envelope` and that the batch is well formed.
    pub fn verify(envelope: &Envelope, user: &VerifyingKey) -> Result<Self, BatchError> {
        let signed = envelope
            .verify::<Batch>(user)
            .map_err(BatchError::Document)?;
        check_structure(signed.document())?;
        Ok(Self(signed))
    }

    /// What the user signed.
    pub fn document(&self) -> &Batch {
        self.0.document()
    }

    /// The user's key.
    pub fn user_key(&self) -> &VerifyingKey {
        self.0.signer()
    }

    /// The received bytes.
    pub fn envelope(&self) -> &Envelope {
        self.0.envelope()
    }

    /// SHA-256 of the envelope: `batch_sha256` everywhere.
    pub fn digest(&self) -> Digest {
        self.0.digest()
    }

    /// The entry of partition `index`.
    pub fn partition(&self, index: u32) -> Result<&Partition, BatchError> {
        let partitions = &self.document().partitions;
        partitions
            .get(index as usize)
            .ok_or(BatchError::NoSuchPartition(index))
    }
}

pub(crate) fn check_structure(batch: &Batch) -> Result<(), BatchError> {
    let count = batch.partitions.len();
    if count == 0 || count > MAX_PARTITIONS {
        return Err(BatchError::PartitionCount(count));
    }
    let recipients = batch.result_recipients.len();
    if recipients == 0 || recipients > MAX_STANZAS {
        return Err(BatchError::RecipientCount(recipients));
    }
    if !(crate::result_record::MIN_PAD..=crate::result_record::MAX_PAD).contains(&batch.pad) {
        return Err(BatchError::Pad(batch.pad));
    }
    for (place, partition) in batch.partitions.iter().enumerate() {
        if partition.index as usize != place {
            return Err(BatchError::PartitionOrder(place));
        }
        if partition.rows == 0 || partition.bytes == 0 || partition.bytes > MAX_PARTITION_BYTES {
            return Err(BatchError::PartitionSize(partition.index));
        }
    }
    check_distinct(&batch.partitions)
}

fn check_distinct(partitions: &[Partition]) -> Result<(), BatchError> {
    let mut by_digest: Vec<_> = partitions
        .iter()
        .map(|p| (p.header_sha256, p.index))
        .collect();
    by_digest.sort_unstable();
    match by_digest.array_windows().find(|[(a, _), (b, _)]| a == b) {
        Some([(_, first), (_, second)]) => Err(BatchError::RepeatedPartition(*first, *second)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use sealift_signed_document::{SigningKey, sign};

    use super::*;
    use crate::AgeIdentity;

    fn partition(index: u32) -> Partition {
        Partition {
            index,
            sha256: Digest::of(&index.to_be_bytes()),
            bytes: 300,
            rows: 2,
            header_sha256: Digest::of(format!("header {index}").as_bytes()),
        }
    }

    fn batch() -> Batch {
        Batch {
            batch: BatchId::random(),
            grant: GrantId::random(),
            model: "sentiment".into(),
            versions: VersionScope::Serials([1].into()),
            guest_policy_sha256: Digest::of(b"policy"),
            min_assurance: Assurance::Hardware,
            output_policy: OutputPolicy::Label,
            result_recipients: vec![AgeIdentity::generate().recipient()],
            pad: 256,
            schema_sha256: Digest::of(b"schema"),
            not_after: 2_000_000_000,
            max_attempts: 3,
            partitions: vec![partition(0), partition(1)],
        }
    }

    #[test]
    fn a_batch_is_read_back_with_its_partitions() {
        let user = SigningKey::generate();
        let envelope = sign(&batch(), &user).unwrap();
        let verified = VerifiedBatch::verify(&envelope, &user.public()).unwrap();
        assert_eq!(verified.digest(), envelope.digest());
        assert_eq!(verified.partition(1).unwrap(), &partition(1));
        assert!(matches!(
            verified.partition(2),
            Err(BatchError::NoSuchPartition(2))
        ));
    }

    #[test]
    fn a_batch_signed_by_another_user_is_refused() {
        let envelope = sign(&batch(), &SigningKey::generate()).unwrap();
        let refused = VerifiedBatch::verify(&envelope, &SigningKey::generate().public());
        assert!(matches!(refused, Err(BatchError::Document(_))));
    }

    /// One spoiled member: its name, how it is spoiled, the refusal.
    type Spoiled = (&'static str, fn(&mut Batch), fn(&BatchError) -> bool);

    #[test]
    fn a_batch_with_one_thing_spoiled_is_refused_for_that_thing() {
        let cases: &[Spoiled] = &[
            (
                "no partition",
                |b| b.partitions.clear(),
                |e| matches!(e, BatchError::PartitionCount(0)),
            ),
            (
                "a gap",
                |b| b.partitions[1].index = 2,
                |e| matches!(e, BatchError::PartitionOrder(1)),
            ),
            (
                "an empty partition",
                |b| b.partitions[0].rows = 0,
                |e| matches!(e, BatchError::PartitionSize(0)),
            ),
            (
                "a giant partition",
                |b| b.partitions[1].bytes = MAX_PARTITION_BYTES + 1,
                |e| matches!(e, BatchError::PartitionSize(1)),
            ),
            (
                "one header twice",
                |b| b.partitions[1].header_sha256 = b.partitions[0].header_sha256,
                |e| matches!(e, BatchError::RepeatedPartition(0, 1)),
            ),
            (
                "no recipient",
                |b| b.result_recipients.clear(),
                |e| matches!(e, BatchError::RecipientCount(0)),
            ),
            (
                "no padding",
                |b| b.pad = 0,
                |e| matches!(e, BatchError::Pad(0)),
            ),
        ];
        let user = SigningKey::generate();
        for (name, spoil, expected) in cases {
            let mut batch = batch();
            spoil(&mut batch);
            let envelope = sign(&batch, &user).unwrap();
            let error = VerifiedBatch::verify(&envelope, &user.public()).unwrap_err();
            assert!(expected(&error), "{name}: {error}");
        }
    }

    #[test]
    fn the_guest_policy_depends_on_both_digests_and_their_order() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_ne!(guest_policy_sha256(&a, &b), guest_policy_sha256(&b, &a));
    }
}
