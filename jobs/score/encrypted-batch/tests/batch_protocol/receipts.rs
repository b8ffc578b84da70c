//! Offline verification of receipts.

use sealift_encrypted_batch::{
    Assurance, CertifiedReceiptKey, Receipt, ReceiptError, RowCounts, RunReceipt, VerifiedBatch,
    receipts_root, verify_receipt, verify_run,
};
use sealift_signed_document::{Digest, Envelope, SigningKey, sign};

use crate::scenario::{SERIAL, Scenario, Sealed};

pub(crate) struct Certified {
    pub(crate) scenario: Scenario,
    pub(crate) sealed: Sealed,
    pub(crate) receipt_key: SigningKey,
    pub(crate) certificate: CertifiedReceiptKey,
}

impl Certified {
    pub(crate) fn new() -> Self {
        let scenario = Scenario::new();
        let sealed = scenario.sealed();
        let receipt_key = SigningKey::generate();
        let certificate = CertifiedReceiptKey {
            receipt_key: receipt_key.public(),
            guest_cert_sha256: Digest::of(b"guest certificate"),
            model: scenario.guest.model.clone(),
            serial: SERIAL,
            manifest_sha256: Digest::of(b"manifest"),
            template_sha256: scenario.guest.template_sha256,
            evidence_sha256: Digest::of(b"evidence"),
            assurance: scenario.guest.assurance,
        };
        Self {
            scenario,
            sealed,
            receipt_key,
            certificate,
        }
    }

    pub(crate) fn batch(&self) -> &VerifiedBatch {
        &self.sealed.batch
    }

    pub(crate) fn receipt(&self, partition: u32) -> Receipt {
        let entry = self.batch().partition(partition).unwrap();
        Receipt {
            run: "run-1".into(),
            batch_sha256: self.batch().digest(),
            partition,
            attempt: 1,
            input_sha256: entry.sha256,
            output_sha256: Digest::of(b"output"),
            rows: RowCounts {
                read: entry.rows,
                ok: entry.rows,
                error: 0,
            },
            manifest_sha256: self.certificate.manifest_sha256,
            template_sha256: self.certificate.template_sha256,
            evidence_sha256: self.certificate.evidence_sha256,
            guest_cert_sha256: self.certificate.guest_cert_sha256,
            assurance: self.certificate.assurance,
            engine: "test".into(),
        }
    }

    pub(crate) fn sign(&self, receipt: &Receipt) -> Envelope {
        sign(receipt, &self.receipt_key).unwrap()
    }

    fn receipts(&self) -> Vec<Envelope> {
        (0..3)
            .map(|partition| self.sign(&self.receipt(partition)))
            .collect()
    }

    fn run_receipt(&self, receipts: &[Envelope]) -> RunReceipt {
        RunReceipt {
            run: "run-1".into(),
            batch: self.batch().document().batch,
            receipts_root: receipts_root(receipts),
            checkpoint: "checkpoint".into(),
        }
    }

    fn verify_run(&self, receipts: &[Envelope], run: &RunReceipt) -> Result<usize, ReceiptError> {
        let run = sign(run, &self.scenario.km).unwrap();
        let certified = std::slice::from_ref(&self.certificate);
        let identity = self.scenario.km.public();
        verify_run(self.batch(), receipts, certified, &run, &identity)
            .map(|run| run.receipts().len())
    }
}

#[test]
fn a_run_with_one_receipt_per_partition_is_verified_in_any_order() {
    let certified = Certified::new();
    let mut receipts = certified.receipts();
    let run = certified.run_receipt(&receipts);
    receipts.reverse();
    assert_eq!(certified.verify_run(&receipts, &run).unwrap(), 3);
}

/// One spoiled member and the refusal it must meet.
type Spoiled = (&'static str, fn(&mut Receipt), fn(&ReceiptError) -> bool);

fn disagrees(error: &ReceiptError, member: &str) -> bool {
    matches!(error, ReceiptError::NotAsCertified { on, .. } if *on == member)
}

#[test]
fn a_receipt_with_one_thing_spoiled_is_refused_for_that_thing() {
    let cases: &[Spoiled] = &[
        (
            "another batch",
            |r| r.batch_sha256 = Digest::of(b"other"),
            |e| matches!(e, ReceiptError::OtherBatch),
        ),
        (
            "no such partition",
            |r| r.partition = 3,
            |e| matches!(e, ReceiptError::NoSuchPartition(3)),
        ),
        (
            "another input",
            |r| r.input_sha256 = Digest::of(b"other"),
            |e| matches!(e, ReceiptError::OtherInput(0)),
        ),
        (
            "a row too few",
            |r| r.rows.ok -= 1,
            |e| matches!(e, ReceiptError::RowCounts(0)),
        ),
        (
            "fewer rows read",
            |r| {
                r.rows = RowCounts {
                    read: 1,
                    ok: 1,
                    error: 0,
                }
            },
            |e| matches!(e, ReceiptError::RowCounts(0)),
        ),
        (
            "counts that overflow",
            |r| r.rows.error = u32::MAX,
            |e| matches!(e, ReceiptError::RowCounts(0)),
        ),
        (
            "evidence swapped",
            |r| r.evidence_sha256 = Digest::of(b"other"),
            |e| disagrees(e, "evidence_sha256"),
        ),
        (
            "another certificate",
            |r| r.guest_cert_sha256 = Digest::of(b"other"),
            |e| disagrees(e, "guest_cert_sha256"),
        ),
        (
            "another model version",
            |r| r.manifest_sha256 = Digest::of(b"other"),
            |e| disagrees(e, "manifest_sha256"),
        ),
        (
            "another template",
            |r| r.template_sha256 = Digest::of(b"other"),
            |e| disagrees(e, "template_sha256"),
        ),
        (
            "assurance raised",
            |r| r.assurance = Assurance::Hardware,
            |e| disagrees(e, "assurance"),
        ),
    ];
    let certified = Certified::new();
    for (name, spoil, expected) in cases {
        let mut receipt = certified.receipt(0);
        spoil(&mut receipt);
        let envelope = certified.sign(&receipt);
        let certificates = std::slice::from_ref(&certified.certificate);
        let error = verify_receipt(certified.batch(), &envelope, certificates).unwrap_err();
        assert!(expected(&error), "{name}: {error}");
    }
}

#[test]
fn a_receipt_by_an_uncertified_key_is_refused() {
    let certified = Certified::new();
    let envelope = sign(&certified.receipt(0), &SigningKey::generate()).unwrap();
    let certificates = std::slice::from_ref(&certified.certificate);
    let refused = verify_receipt(certified.batch(), &envelope, certificates);
    assert!(matches!(refused, Err(ReceiptError::Uncertified)));
    let refused = verify_receipt(
        certified.batch(),
        &certified.sign(&certified.receipt(0)),
        &[],
    );
    assert!(matches!(refused, Err(ReceiptError::Uncertified)));
}

#[test]
fn a_guest_outside_what_the_user_accepts_has_no_valid_receipt() {
    let certified = Certified::new();
    let envelope = certified.sign(&certified.receipt(0));
    let verify = |change: fn(&mut CertifiedReceiptKey)| {
        let mut certificate = certified.certificate.clone();
        change(&mut certificate);
        verify_receipt(certified.batch(), &envelope, &[certificate]).unwrap_err()
    };
    assert!(matches!(
        verify(|c| c.serial += 1),
        ReceiptError::Version { serial: 8, .. }
    ));
    assert!(disagrees(&verify(|c| c.model = "other".into()), "model"));
}

#[test]
fn the_demanded_assurance_holds_for_receipts_too() {
    let mut certified = Certified::new();
    let mut options = certified.scenario.options();
    options.min_assurance = Assurance::Vtpm;
    certified.sealed = certified.scenario.seal("vtpm", &options);
    let envelope = certified.sign(&certified.receipt(0));
    let certificates = std::slice::from_ref(&certified.certificate);
    let refused = verify_receipt(certified.batch(), &envelope, certificates);
    assert!(matches!(refused, Err(ReceiptError::Assurance { .. })));
}

#[test]
fn a_missing_receipt_is_named() {
    let certified = Certified::new();
    let mut receipts = certified.receipts();
    let run = certified.run_receipt(&receipts);
    receipts.remove(1);
    let refused = certified.verify_run(&receipts, &run);
    assert!(matches!(refused, Err(ReceiptError::Missing(1))));
}

#[test]
fn two_receipts_for_one_partition_are_refused() {
    let certified = Certified::new();
    let mut receipts = certified.receipts();
    let run = certified.run_receipt(&receipts);
    let mut second = certified.receipt(2);
    second.attempt = 2;
    receipts.push(certified.sign(&second));
    let refused = certified.verify_run(&receipts, &run);
    assert!(matches!(refused, Err(ReceiptError::Repeated(2))));
}

#[test]
fn a_superseded_receipt_in_place_of_the_first_one_is_refused() {
    let certified = Certified::new();
    let mut receipts = certified.receipts();
    let run = certified.run_receipt(&receipts);
    let mut later = certified.receipt(1);
    later.attempt = 2;
    receipts[1] = certified.sign(&later);
    assert!(matches!(
        certified.verify_run(&receipts, &run),
        Err(ReceiptError::Root)
    ));
}

#[test]
fn receipts_of_another_run_are_refused() {
    let certified = Certified::new();
    let mut receipts = certified.receipts();
    let mut other = certified.receipt(0);
    other.run = "run-2".into();
    receipts[0] = certified.sign(&other);
    let run = certified.run_receipt(&receipts);
    assert!(matches!(
        certified.verify_run(&receipts, &run),
        Err(ReceiptError::OtherRun(0))
    ));
}

#[test]
fn a_run_receipt_of_another_signer_or_batch_is_refused() {
    let certified = Certified::new();
    let receipts = certified.receipts();
    let mut run = certified.run_receipt(&receipts);
    let forged = sign(&run, &certified.receipt_key).unwrap();
    let certificates = std::slice::from_ref(&certified.certificate);
    let identity = certified.scenario.km.public();
    let refused = verify_run(
        certified.batch(),
        &receipts,
        certificates,
        &forged,
        &identity,
    );
    assert!(matches!(refused, Err(ReceiptError::RunReceipt(_))));
    run.batch = sealift_encrypted_batch::BatchId::random();
    assert!(matches!(
        certified.verify_run(&receipts, &run),
        Err(ReceiptError::OtherRunReceipt)
    ));
}
