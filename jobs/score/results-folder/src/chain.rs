//! From the trust folder to the receipts.

use sealift_encrypted_batch::{
    Assurance, CertifiedReceiptKey, VerifiedBatch, VerifiedRun, verify_run,
};
use sealift_kbs_protocol::{
    GuestCertificate, SessionGrant,
    checkpoint::{Checkpoint, LogKey},
    merkle::TreeHead,
};
use sealift_signed_document::{Digest, KeyId, Signed, VerifyingKey};
use sealift_trust_folder::TrustFolder;
use sealift_verifier::AppraisedEvidence;

use crate::{CertifiedGuest, ReceiptsFile, ResultsFolderError};

/// Receipts whose whole chain was followed; the result files they stand for were not looked at.
///
/// [`ReceiptsFile::verify`] is its only constructor.
#[derive(Clone, Debug)]
pub struct VerifiedChain {
    run: VerifiedRun,
    key_manager: AppraisedEvidence,
    km_id: KeyId,
    head: TreeHead,
    assurance: Assurance,
}

impl VerifiedChain {
    /// One verified receipt per partition, and the key manager's word for them.
    pub fn run(&self) -> &VerifiedRun {
        &self.run
    }

    /// The appraisal of the key manager.
    pub fn key_manager(&self) -> &AppraisedEvidence {
        &self.key_manager
    }

    /// The name of the key manager.
    pub fn km_id(&self) -> &KeyId {
        &self.km_id
    }

    /// The state of the key manager's log that the run receipt names.
    pub fn checkpoint(&self) -> &TreeHead {
        &self.head
    }

    /// The weakest of what stood behind the key manager and behind each guest.
    pub fn assurance(&self) -> Assurance {
        self.assurance
    }
}

impl ReceiptsFile {
    /// Follows the chain from `trust` at `now_unix` (seconds) to the receipts for `batch`.
    ///
    /// # Errors
    /// The [`ResultsFolderError`] of the first link that is missing or false.
    pub fn verify(
        &self,
        batch: &VerifiedBatch,
        trust: &TrustFolder,
        now_unix: u64,
    ) -> Result<VerifiedChain, ResultsFolderError> {
        let proof = &self.key_manager;
        let (expected, verifier) = (
            trust.key_manager_expectation(),
            trust.key_manager_verifier(now_unix),
        );
        let appraised = proof
            .evidence
            .appraise(&proof.nonce, &expected, &verifier)
            .map_err(|refusal| ResultsFolderError::KeyManager(Box::new(refusal)))?;
        let identity = *appraised.identity().ok_or(ResultsFolderError::NoIdentity)?;
        let certified = self
            .certificates
            .iter()
            .map(|guest| Certified::check(guest, &identity))
            .collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<_> = certified
            .iter()
            .map(|certified| certified.key.clone())
            .collect();
        let run = verify_run(batch, &self.receipts, &keys, &self.run_receipt, &identity)
            .map_err(ResultsFolderError::Receipts)?;
        let head = self.checkpoint(&run, &identity)?;
        let used = certified
            .iter()
            .filter(|certified| certified.signed_any(&run));
        let mut assurance = appraised.appraisal().assurance();
        for guest in used {
            guest.check_older_than(&head)?;
            assurance = assurance.min(guest.key.assurance);
        }
        Ok(VerifiedChain {
            run,
            key_manager: appraised.appraisal().clone(),
            km_id: identity.thumbprint(),
            head,
            assurance,
        })
    }

    /// The state of the log that the run receipt names.
    fn checkpoint(
        &self,
        run: &VerifiedRun,
        identity: &VerifyingKey,
    ) -> Result<TreeHead, ResultsFolderError> {
        let log_key = self
            .log_key
            .verify::<LogKey>(identity)
            .map_err(ResultsFolderError::LogKey)?;
        let LogKey { km_id, log_key } = log_key.document();
        if *km_id != identity.thumbprint() {
            return Err(ResultsFolderError::OtherLogKey);
        }
        Checkpoint::verify(&run.run_receipt().checkpoint, km_id, log_key)
            .map(|checkpoint| *checkpoint.head())
            .map_err(ResultsFolderError::Checkpoint)
    }
}

/// A guest's keys under the key manager's signature.
struct Certified {
    key: CertifiedReceiptKey,
    log_index: u64,
}

impl Certified {
    fn check(guest: &CertifiedGuest, identity: &VerifyingKey) -> Result<Self, ResultsFolderError> {
        let guest_certificate = guest.guest_certificate.digest();
        let certificate: Signed<GuestCertificate> = guest
            .guest_certificate
            .verify(identity)
            .map_err(|source| ResultsFolderError::GuestCertificate {
                guest_certificate,
                source,
            })?;
        let grant: Signed<SessionGrant> =
            guest.session_grant.verify(identity).map_err(|source| {
                ResultsFolderError::SessionGrant {
                    guest_certificate,
                    source,
                }
            })?;
        let (certificate, session) = (certificate.document(), grant.document());
        if certificate.session_grant_sha256 != grant.digest()
            || certificate.assurance != session.assurance
        {
            return Err(ResultsFolderError::OtherSession { guest_certificate });
        }
        Ok(Self {
            key: receipt_key(guest_certificate, certificate, session),
            log_index: certificate.log_index,
        })
    }

    fn signed_any(&self, run: &VerifiedRun) -> bool {
        let sha256 = self.key.guest_cert_sha256;
        run.receipts()
            .iter()
            .any(|receipt| receipt.document().guest_cert_sha256 == sha256)
    }

    fn check_older_than(&self, head: &TreeHead) -> Result<(), ResultsFolderError> {
        if self.log_index < head.size {
            return Ok(());
        }
        let guest_certificate = self.key.guest_cert_sha256;
        Err(ResultsFolderError::CertificateAfterCheckpoint { guest_certificate })
    }
}

fn receipt_key(
    guest_cert_sha256: Digest,
    certificate: &GuestCertificate,
    session: &SessionGrant,
) -> CertifiedReceiptKey {
    CertifiedReceiptKey {
        receipt_key: certificate.receipt_key,
        guest_cert_sha256,
        model: session.model.to_string(),
        serial: session.serial,
        manifest_sha256: session.manifest_sha256,
        template_sha256: session.template_sha256,
        evidence_sha256: session.evidence_sha256,
        assurance: session.assurance,
    }
}
