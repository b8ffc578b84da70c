//! A results folder with one link missing or false in each case.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use std::fs;

use sealift_encrypted_batch::{Assurance, ReceiptError, VersionScope};
use sealift_evidence::Measurement;
use sealift_kbs_protocol::{GuestCertificate, Nonce, SessionGrant};
use sealift_operator_fixtures::{NOW, RUN, SealedBatch, TestKeyManager, World};
use sealift_results_folder::{
    CertifiedGuest, KeyManagerProof, NewResultsFolder, RECEIPTS_FILE, ReceiptsFile,
    ResultsFolderError, VerifiedResults, result_file, verify,
};
use sealift_signed_document::{Digest, Envelope, SigningKey, sign};

const PARTITIONS: u32 = 3;

/// A finished run, before its folder is written.
struct Finished {
    world: World,
    key_manager: TestKeyManager,
    sealed: SealedBatch,
    receipt_key: SigningKey,
    session: SessionGrant,
    file: ReceiptsFile,
}

fn output(partition: u32) -> Vec<u8> {
    format!("results of partition {partition}").into_bytes()
}

impl Finished {
    fn new() -> Self {
        let world = World::new();
        let key_manager = TestKeyManager::new(&world);
        let sealed = SealedBatch::seal(&world, &key_manager);
        let receipt_key = SigningKey::generate();
        let session = key_manager.session_grant(&world.pod());
        let guest = key_manager.certify(&session, receipt_key.public(), Digest::of(b"tls"));
        let receipt = |partition| {
            let receipt = sealed.receipt(partition, &output(partition), &guest, &session);
            sign(&receipt, &receipt_key).unwrap()
        };
        let receipts: Vec<_> = (0..PARTITIONS).map(receipt).collect();
        let nonce = Nonce::random();
        let file = ReceiptsFile {
            run_receipt: key_manager.run_receipt(RUN, sealed.batch.document().batch, &receipts),
            receipts,
            certificates: vec![guest],
            key_manager: KeyManagerProof {
                nonce,
                evidence: key_manager.evidence(&nonce),
            },
            log_key: key_manager.log_key_document(),
        };
        Self {
            world,
            key_manager,
            sealed,
            receipt_key,
            session,
            file,
        }
    }

    /// The same receipts under another certificate.
    fn certified_by(&mut self, guest: CertifiedGuest) {
        let receipt = |partition| {
            let said = self
                .sealed
                .receipt(partition, &output(partition), &guest, &self.session);
            sign(&said, &self.receipt_key).unwrap()
        };
        let receipts: Vec<_> = (0..PARTITIONS).map(receipt).collect();
        self.receipted(receipts);
        self.file.certificates = vec![guest];
    }

    /// Other receipts, all of which the key manager counts.
    fn receipted(&mut self, receipts: Vec<Envelope>) {
        let batch = self.sealed.batch.document().batch;
        self.file.run_receipt = self.key_manager.run_receipt(RUN, batch, &receipts);
        self.file.receipts = receipts;
    }

    fn write(&self) {
        let folder = NewResultsFolder::create(&self.world.path("results")).unwrap();
        for partition in 0..PARTITIONS {
            folder.add(partition, &output(partition)).unwrap();
        }
        folder.finish(&self.file).unwrap();
    }

    fn verify(&self) -> Result<VerifiedResults, ResultsFolderError> {
        let (results, trust) = (self.world.path("results"), self.world.trust());
        verify(
            &results,
            &self.sealed.folder,
            &trust,
            &self.sealed.user.public(),
            NOW,
        )
    }

    fn verify_written(&self) -> Result<VerifiedResults, ResultsFolderError> {
        self.write();
        self.verify()
    }
}

#[test]
fn a_finished_run_verifies_with_a_receipt_for_each_partition() {
    let run = Finished::new();
    let verified = run.verify_written().unwrap();
    assert_eq!(verified.run().receipts().len(), 3);
    assert_eq!(verified.run().run_receipt().run, RUN);
    assert_eq!(verified.batch().digest(), run.sealed.batch.digest());
    assert_eq!(verified.assurance(), Assurance::Simulated);
    assert_eq!(*verified.km_id(), run.key_manager.id());
    assert_eq!(verified.chain().checkpoint().size, 100);
}

#[test]
fn the_receipts_file_is_read_back_as_it_was_written() {
    let run = Finished::new();
    run.write();
    assert_eq!(
        ReceiptsFile::read(&run.world.path("results")).unwrap(),
        run.file
    );
}

#[test]
fn a_folder_is_written_once() {
    let run = Finished::new();
    run.write();
    let again = NewResultsFolder::create(&run.world.path("results"));
    assert!(matches!(again, Err(ResultsFolderError::Write { .. })));
}

#[test]
fn a_missing_result_file_is_named() {
    let run = Finished::new();
    run.write();
    let missing = run.world.path("results").join(result_file(1));
    fs::remove_file(&missing).unwrap();
    let error = run.verify().unwrap_err();
    assert!(matches!(error, ResultsFolderError::Read { path, .. } if path == missing));
}

#[test]
fn a_result_file_with_other_bytes_is_refused() {
    let run = Finished::new();
    run.write();
    fs::write(
        run.world.path("results").join(result_file(2)),
        b"other results",
    )
    .unwrap();
    let error = run.verify().unwrap_err();
    assert!(matches!(
        error,
        ResultsFolderError::OtherFile { partition: 2, .. }
    ));
}

#[test]
fn missing_receipts_are_named() {
    let run = Finished::new();
    run.write();
    fs::remove_file(run.world.path("results").join(RECEIPTS_FILE)).unwrap();
    let error = run.verify().unwrap_err();
    assert!(
        matches!(error, ResultsFolderError::Read { path, .. } if path.ends_with(RECEIPTS_FILE))
    );
}

#[test]
fn receipts_without_a_member_or_with_an_unknown_one_are_refused() {
    let run = Finished::new();
    run.write();
    let path = run.world.path("results").join(RECEIPTS_FILE);
    let good: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for member in [
        "receipts",
        "certificates",
        "run_receipt",
        "key_manager",
        "log_key",
    ] {
        let mut spoiled = good.clone();
        spoiled.as_object_mut().unwrap().remove(member);
        fs::write(&path, spoiled.to_string()).unwrap();
        let error = run.verify().unwrap_err();
        assert!(
            matches!(error, ResultsFolderError::Malformed { .. }),
            "{member}"
        );
    }
    let mut spoiled = good;
    spoiled["verified"] = true.into();
    fs::write(&path, spoiled.to_string()).unwrap();
    assert!(matches!(
        run.verify(),
        Err(ResultsFolderError::Malformed { .. })
    ));
}

#[test]
fn receipts_larger_than_any_are_not_read() {
    let run = Finished::new();
    run.write();
    let path = run.world.path("results").join(RECEIPTS_FILE);
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(sealift_results_folder::MAX_RECEIPTS_FILE_BYTES + 1)
        .unwrap();
    assert!(matches!(
        run.verify(),
        Err(ResultsFolderError::TooLarge { .. })
    ));
}

#[test]
fn evidence_that_answers_another_nonce_is_refused() {
    let mut run = Finished::new();
    run.file.key_manager.nonce = Nonce::random();
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::KeyManager(_))
    ));
}

#[test]
fn a_key_manager_of_another_build_is_refused() {
    let mut run = Finished::new();
    run.key_manager.measurement = Measurement::from_bytes([0x33; 48]);
    let nonce = Nonce::random();
    run.file.key_manager = KeyManagerProof {
        nonce,
        evidence: run.key_manager.evidence(&nonce),
    };
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::KeyManager(_))
    ));
}

#[test]
fn a_key_manager_of_another_owner_is_refused() {
    let mut run = Finished::new();
    let nonce = Nonce::random();
    let foreign = TestKeyManager::new(&World::new());
    run.file.key_manager = KeyManagerProof {
        nonce,
        evidence: foreign.evidence(&nonce),
    };
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::KeyManager(_))
    ));
}

#[test]
fn an_identity_that_the_evidence_does_not_name_is_refused() {
    let mut run = Finished::new();
    run.file.key_manager.evidence.identity = Some(SigningKey::generate().public());
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::KeyManager(_))
    ));
}

#[test]
fn documents_of_another_trusted_key_manager_are_refused() {
    // Same owner, same build, another identity: nothing that the first one signed counts.
    let mut run = Finished::new();
    let nonce = Nonce::random();
    let second = TestKeyManager::new(&run.world);
    run.file.key_manager = KeyManagerProof {
        nonce,
        evidence: second.evidence(&nonce),
    };
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::GuestCertificate { .. })
    ));
}

#[test]
fn a_missing_certificate_leaves_its_receipts_uncertified() {
    let mut run = Finished::new();
    run.file.certificates.clear();
    let error = run.verify_written().unwrap_err();
    assert!(matches!(
        error,
        ResultsFolderError::Receipts(ReceiptError::Uncertified)
    ));
}

#[test]
fn a_certificate_that_the_key_manager_did_not_sign_is_refused() {
    let mut run = Finished::new();
    let identity = run.key_manager.identity.public();
    let guest = &mut run.file.certificates[0];
    let certificate = guest
        .guest_certificate
        .verify::<GuestCertificate>(&identity)
        .unwrap();
    guest.guest_certificate = sign(certificate.document(), &run.receipt_key).unwrap();
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::GuestCertificate { .. })
    ));
}

#[test]
fn a_session_grant_that_the_key_manager_did_not_sign_is_refused() {
    let mut run = Finished::new();
    run.file.certificates[0].session_grant = sign(&run.session, &run.receipt_key).unwrap();
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::SessionGrant { .. })
    ));
}

#[test]
fn a_certificate_beside_another_guests_grant_is_refused() {
    let mut run = Finished::new();
    let other = run.key_manager.session_grant(&run.world.pod());
    run.file.certificates[0].session_grant = sign(&other, &run.key_manager.identity).unwrap();
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::OtherSession { .. })
    ));
}

/// The guest's certificate with one thing changed, signed by the key manager.
fn recertified(run: &Finished, change: impl FnOnce(&mut GuestCertificate)) -> CertifiedGuest {
    let identity = &run.key_manager.identity;
    let guest = &run.file.certificates[0];
    let signed = guest
        .guest_certificate
        .verify::<GuestCertificate>(&identity.public())
        .unwrap();
    let mut certificate = signed.document().clone();
    change(&mut certificate);
    let guest_certificate = sign(&certificate, identity).unwrap();
    CertifiedGuest {
        guest_certificate,
        session_grant: guest.session_grant.clone(),
    }
}

#[test]
fn a_certificate_with_more_assurance_than_its_grant_is_refused() {
    let mut run = Finished::new();
    let guest = recertified(&run, |certificate| {
        certificate.assurance = Assurance::Hardware;
    });
    run.certified_by(guest);
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::OtherSession { .. })
    ));
}

#[test]
fn a_certificate_that_the_logged_checkpoint_does_not_cover_is_refused() {
    let mut run = Finished::new();
    let guest = recertified(&run, |certificate| certificate.log_index = 100);
    run.certified_by(guest);
    let error = run.verify_written().unwrap_err();
    assert!(matches!(
        error,
        ResultsFolderError::CertificateAfterCheckpoint { .. }
    ));
}

#[test]
fn a_log_key_that_the_key_manager_did_not_sign_is_refused() {
    let mut run = Finished::new();
    let foreign = TestKeyManager::new(&run.world);
    run.file.log_key = foreign.log_key_document();
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::LogKey(_))
    ));
}

#[test]
fn a_checkpoint_that_the_log_key_did_not_sign_is_refused() {
    let mut run = Finished::new();
    let honest = run.key_manager.log_key_document();
    run.key_manager.log_key = SigningKey::generate();
    run.receipted(run.file.receipts.clone());
    run.file.log_key = honest;
    assert!(matches!(
        run.verify_written(),
        Err(ResultsFolderError::Checkpoint(_))
    ));
}

#[test]
fn a_missing_receipt_is_named() {
    let mut run = Finished::new();
    run.file.receipts.remove(1);
    let error = run.verify_written().unwrap_err();
    assert!(matches!(
        error,
        ResultsFolderError::Receipts(ReceiptError::Missing(1))
    ));
}

#[test]
fn a_superseded_receipt_in_place_of_the_counted_one_is_refused() {
    let mut run = Finished::new();
    let guest = run.file.certificates[0].clone();
    let mut later = run.sealed.receipt(1, &output(1), &guest, &run.session);
    later.attempt = 2;
    run.file.receipts[1] = sign(&later, &run.receipt_key).unwrap();
    let error = run.verify_written().unwrap_err();
    assert!(matches!(
        error,
        ResultsFolderError::Receipts(ReceiptError::Root)
    ));
}

#[test]
fn a_run_receipt_that_the_key_manager_did_not_sign_is_refused() {
    let mut run = Finished::new();
    let batch = run.sealed.batch.document().batch;
    let foreign = TestKeyManager::new(&run.world);
    run.file.run_receipt = foreign.run_receipt(RUN, batch, &run.file.receipts);
    let error = run.verify_written().unwrap_err();
    assert!(matches!(
        error,
        ResultsFolderError::Receipts(ReceiptError::RunReceipt(_))
    ));
}

#[test]
fn a_guest_of_a_version_outside_the_batch_is_refused() {
    let mut run = Finished::new();
    assert!(matches!(
        run.sealed.batch.document().versions,
        VersionScope::Serials(_)
    ));
    run.session.serial += 1;
    let guest = run
        .key_manager
        .certify(&run.session, run.receipt_key.public(), Digest::of(b"tls"));
    run.certified_by(guest);
    let error = run.verify_written().unwrap_err();
    assert!(matches!(
        error,
        ResultsFolderError::Receipts(ReceiptError::Version { .. })
    ));
}

#[test]
fn another_users_batch_is_refused() {
    let run = Finished::new();
    run.write();
    let stranger = SigningKey::generate().public();
    let (results, trust) = (run.world.path("results"), run.world.trust());
    let refused = verify(&results, &run.sealed.folder, &trust, &stranger, NOW);
    assert!(matches!(refused, Err(ResultsFolderError::Batch(_))));
}

#[test]
fn a_missing_batch_is_named() {
    let run = Finished::new();
    run.write();
    fs::remove_dir_all(&run.sealed.folder).unwrap();
    assert!(matches!(
        run.verify(),
        Err(ResultsFolderError::BatchFolder(_))
    ));
}
