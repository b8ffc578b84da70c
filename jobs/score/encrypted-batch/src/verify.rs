//! Offline verification of receipts: receipt ← guest certificate ← key manager identity.
//!
//! The certificate itself, and the evidence of the key manager that signed it, are checked where
//! their forms live; what comes out of that check enters here as [`CertifiedReceiptKey`].

use sealift_signed_document::{Digest, DocumentError, Envelope, Signed, VerifyingKey};

use crate::{
    Assurance, Partition, Receipt, RunReceipt, VerifiedBatch, transparency::receipts_root,
};

/// What the key manager certified about a guest's receipt key.
///
/// Fill it from a `guest-cert.v1` and the `session-grant.v1` it names **after** their signatures
/// were verified under an appraised key manager identity.
#[derive(Clone, Debug)]
pub struct CertifiedReceiptKey {
    /// The key that signs the guest's receipts.
    pub receipt_key: VerifyingKey,
    /// SHA-256 of the certificate's envelope.
    pub guest_cert_sha256: Digest,
    /// The model.
    pub model: String,
    /// The serial of the model version.
    pub serial: u64,
    /// The model version.
    pub manifest_sha256: Digest,
    /// The template of the guest's init-data.
    pub template_sha256: Digest,
    /// The evidence it was attested with.
    pub evidence_sha256: Digest,
    /// How strongly it was attested.
    pub assurance: Assurance,
}

/// Why receipts do not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// No certified key made the signature.
    #[error("the receipt is not signed by any certified guest; its guest-cert is missing or false")]
    Uncertified,
    /// About another batch.
    #[error("the receipt is about another batch")]
    OtherBatch,
    /// About a partition that the batch does not have.
    #[error("the receipt is about partition {0}, which the batch does not have")]
    NoSuchPartition(u32),
    /// The input is not what the user sealed.
    #[error("the receipt of partition {0} names another input file than the batch")]
    OtherInput(u32),
    /// Counts that do not add up to the partition's rows.
    #[error("the receipt of partition {0} does not account for each of its rows")]
    RowCounts(u32),
    /// The guest claims something that it was not certified for.
    #[error("the receipt of partition {partition} and its guest-cert disagree on {on}")]
    NotAsCertified {
        /// The partition.
        partition: u32,
        /// The member that differs.
        on: &'static str,
    },
    /// A version that the user did not name.
    #[error("partition {partition} was scored by serial {serial}, outside the batch's versions")]
    Version {
        /// The partition.
        partition: u32,
        /// The version's serial.
        serial: u64,
    },
    /// A weaker attestation than the user accepts.
    #[error(
        "partition {partition} was scored under assurance {found}, the batch demands {demanded}"
    )]
    Assurance {
        /// The partition.
        partition: u32,
        /// What the guest was attested with.
        found: Assurance,
        /// What the batch demands.
        demanded: Assurance,
    },
    /// A partition without its receipt.
    #[error("the receipt of partition {0} is missing")]
    Missing(u32),
    /// Two receipts where one counts.
    #[error("partition {0} has more than one receipt")]
    Repeated(u32),
    /// Receipts of different runs.
    #[error("the receipt of partition {0} belongs to another run")]
    OtherRun(u32),
    /// The run's receipt is not signed by the key manager.
    #[error("the run receipt is not signed by the key manager's identity")]
    RunReceipt(#[source] DocumentError),
    /// The run's receipt is about another run or batch.
    #[error("the run receipt is about another run or batch")]
    OtherRunReceipt,
    /// Some receipt is not the one that the key manager counted.
    #[error(
        "the receipts are not those that the key manager counted; one was superseded or altered"
    )]
    Root,
}

/// A receipt whose chain to a certified guest and whose facts were checked.
///
/// [`verify_receipt`] is its only constructor.
#[derive(Clone, Debug)]
pub struct VerifiedReceipt(Signed<Receipt>);

impl VerifiedReceipt {
    /// What the guest certifies.
    pub fn document(&self) -> &Receipt {
        self.0.document()
    }

    /// The received bytes.
    pub fn envelope(&self) -> &Envelope {
        self.0.envelope()
    }
}

/// Verifies one receipt about one partition of `batch`.
pub fn verify_receipt(
    batch: &VerifiedBatch,
    receipt: &Envelope,
    certified: &[CertifiedReceiptKey],
) -> Result<VerifiedReceipt, ReceiptError> {
    let (signed, key) = certified
        .iter()
        .find_map(|key| Some((receipt.verify::<Receipt>(&key.receipt_key).ok()?, key)))
        .ok_or(ReceiptError::Uncertified)?;
    let document = signed.document();
    if document.batch_sha256 != batch.digest() {
        return Err(ReceiptError::OtherBatch);
    }
    let index = document.partition;
    let entry = batch
        .partition(index)
        .map_err(|_| ReceiptError::NoSuchPartition(index))?;
    check_rows(document, entry)?;
    check_certified(document, key)?;
    check_accepted(batch, document, key)?;
    Ok(VerifiedReceipt(signed))
}

fn check_rows(receipt: &Receipt, entry: &Partition) -> Result<(), ReceiptError> {
    if receipt.input_sha256 != entry.sha256 {
        return Err(ReceiptError::OtherInput(entry.index));
    }
    let rows = receipt.rows;
    if rows.read != entry.rows || rows.ok.checked_add(rows.error) != Some(rows.read) {
        return Err(ReceiptError::RowCounts(entry.index));
    }
    Ok(())
}

fn check_certified(receipt: &Receipt, key: &CertifiedReceiptKey) -> Result<(), ReceiptError> {
    let agreed = [
        (
            "guest_cert_sha256",
            receipt.guest_cert_sha256 == key.guest_cert_sha256,
        ),
        (
            "manifest_sha256",
            receipt.manifest_sha256 == key.manifest_sha256,
        ),
        (
            "template_sha256",
            receipt.template_sha256 == key.template_sha256,
        ),
        (
            "evidence_sha256",
            receipt.evidence_sha256 == key.evidence_sha256,
        ),
        ("assurance", receipt.assurance == key.assurance),
    ];
    match agreed.into_iter().find(|(_, same)| !same) {
        Some((on, _)) => Err(ReceiptError::NotAsCertified {
            partition: receipt.partition,
            on,
        }),
        None => Ok(()),
    }
}

fn check_accepted(
    batch: &VerifiedBatch,
    receipt: &Receipt,
    key: &CertifiedReceiptKey,
) -> Result<(), ReceiptError> {
    let (document, partition) = (batch.document(), receipt.partition);
    if key.model != document.model {
        return Err(ReceiptError::NotAsCertified {
            partition,
            on: "model",
        });
    }
    if !document.versions.may_admit(key.serial) {
        return Err(ReceiptError::Version {
            partition,
            serial: key.serial,
        });
    }
    if key.assurance < document.min_assurance {
        let (found, demanded) = (key.assurance, document.min_assurance);
        return Err(ReceiptError::Assurance {
            partition,
            found,
            demanded,
        });
    }
    Ok(())
}

/// A run whose every partition has a verified receipt that the key manager counted.
///
/// [`verify_run`] is its only constructor.
#[derive(Clone, Debug)]
pub struct VerifiedRun {
    receipts: Vec<VerifiedReceipt>,
    run_receipt: Signed<RunReceipt>,
}

impl VerifiedRun {
    /// One receipt per partition, in order of the partitions.
    pub fn receipts(&self) -> &[VerifiedReceipt] {
        &self.receipts
    }

    /// The key manager's receipt for the run. Whether its checkpoint is one that the witness
    /// cosigned is checked with the audit log, not here.
    pub fn run_receipt(&self) -> &RunReceipt {
        self.run_receipt.document()
    }
}

/// Verifies all receipts of a run, in any order, and the key manager's receipt over them.
///
/// `identity` is the identity key of the key manager from appraised evidence.
pub fn verify_run(
    batch: &VerifiedBatch,
    receipts: &[Envelope],
    certified: &[CertifiedReceiptKey],
    run_receipt: &Envelope,
    identity: &VerifyingKey,
) -> Result<VerifiedRun, ReceiptError> {
    let run_receipt = run_receipt
        .verify::<RunReceipt>(identity)
        .map_err(ReceiptError::RunReceipt)?;
    let expected = run_receipt.document();
    if expected.batch != batch.document().batch {
        return Err(ReceiptError::OtherRunReceipt);
    }
    let receipts = one_per_partition(batch, receipts, certified)?;
    if let Some(other) = receipts.iter().find(|r| r.document().run != expected.run) {
        return Err(ReceiptError::OtherRun(other.document().partition));
    }
    let envelopes: Vec<_> = receipts.iter().map(|r| r.envelope().clone()).collect();
    if receipts_root(&envelopes) != expected.receipts_root {
        return Err(ReceiptError::Root);
    }
    Ok(VerifiedRun {
        receipts,
        run_receipt,
    })
}

fn one_per_partition(
    batch: &VerifiedBatch,
    receipts: &[Envelope],
    certified: &[CertifiedReceiptKey],
) -> Result<Vec<VerifiedReceipt>, ReceiptError> {
    let mut places: Vec<Option<VerifiedReceipt>> = vec![None; batch.document().partitions.len()];
    for receipt in receipts {
        let verified = verify_receipt(batch, receipt, certified)?;
        let partition = verified.document().partition;
        if places[partition as usize].replace(verified).is_some() {
            return Err(ReceiptError::Repeated(partition));
        }
    }
    let with_index = places.into_iter().enumerate();
    with_index
        .map(|(index, r)| r.ok_or(ReceiptError::Missing(index as u32)))
        .collect()
}
