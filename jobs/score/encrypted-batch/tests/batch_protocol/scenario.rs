//! One user, one grant, one guest and a batch of five rows in three partitions.

use std::path::PathBuf;

use sealift_encrypted_batch::{
    AgeIdentity, Assurance, Budget, FileKey, Grant, GrantAck, GrantId, GrantRecipient, GuestFacts,
    OutputPolicy, SealOptions, SealedPartition, VerifiedBatch, VersionScope, guest_policy_sha256,
    read_batch, read_partition, seal_batch,
};
use sealift_signed_document::{Digest, SigningKey, sign};
use tempfile::TempDir;

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const SERIAL: u64 = 7;

pub(crate) struct Scenario {
    pub(crate) km: SigningKey,
    pub(crate) user: SigningKey,
    pub(crate) results_identity: AgeIdentity,
    /// The identity that the key manager made for the grant.
    pub(crate) grant_identity: AgeIdentity,
    pub(crate) grant: Grant,
    pub(crate) guest: GuestFacts,
    folder: TempDir,
}

pub(crate) fn rows() -> String {
    let row = |id| format!("{{\"custom_id\":\"row-{id}\",\"body\":{{\"text\":\"text {id}\"}}}}\n");
    (0..5).map(row).collect()
}

impl Scenario {
    pub(crate) fn new() -> Self {
        let (km, user) = (SigningKey::generate(), SigningKey::generate());
        let grant = Grant {
            grant: GrantId::random(),
            km_id: km.public().thumbprint(),
            seq: 1,
            model: "sentiment".into(),
            user_key: user.public(),
            versions: VersionScope::Serials([SERIAL].into()),
            output_policy: OutputPolicy::DangerousFullScores { decimals: 4 },
            budget: Budget {
                rows: 100,
                answer_bits: 0,
            },
            not_after: NOW + 1_000,
        };
        let guest = GuestFacts {
            model: "sentiment".into(),
            serial: SERIAL,
            template_sha256: Digest::of(b"template"),
            reference_values_sha256: Digest::of(b"reference values"),
            assurance: Assurance::Simulated,
        };
        Self {
            km,
            user,
            results_identity: AgeIdentity::generate(),
            grant_identity: AgeIdentity::generate(),
            grant,
            guest,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn options(&self) -> SealOptions {
        SealOptions {
            rows_per_partition: 2,
            pad: 256,
            result_recipients: vec![self.results_identity.recipient()],
            versions: VersionScope::Serials([SERIAL].into()),
            guest_policy_sha256: guest_policy_sha256(
                &self.guest.template_sha256,
                &self.guest.reference_values_sha256,
            ),
            min_assurance: Assurance::Simulated,
            output_policy: OutputPolicy::Label,
            not_after: NOW + 500,
            max_attempts: 3,
        }
    }

    pub(crate) fn recipient(&self) -> GrantRecipient {
        let ack = GrantAck {
            grant: self.grant.grant,
            user_key: self.user.public(),
            model: self.grant.model.clone(),
            age_recipient: self.grant_identity.recipient(),
            km_id: self.km.public().thumbprint(),
        };
        let ack = sign(&ack, &self.km).unwrap();
        GrantRecipient::accept(&ack, &self.km.public(), &self.user.public()).unwrap()
    }

    pub(crate) fn seal(&self, name: &str, options: &SealOptions) -> Sealed {
        let folder = self.folder.path().join(name);
        let to = self.recipient();
        seal_batch(rows().as_bytes(), &to, &self.user, options, &folder).unwrap();
        let batch = VerifiedBatch::verify(&read_batch(&folder).unwrap(), &self.user.public());
        Sealed {
            folder,
            batch: batch.unwrap(),
        }
    }

    pub(crate) fn sealed(&self) -> Sealed {
        self.seal("batch", &self.options())
    }

    /// What the key manager answers for an honest partition.
    pub(crate) fn file_key(&self, sealed: &Sealed, index: u32) -> FileKey {
        let partition = sealed.check(index);
        let admitted = sealed
            .batch
            .admit(&self.grant, &self.guest, |_| None, NOW)
            .unwrap();
        admitted
            .unwrap_partition(index, partition.header(), &self.grant_identity)
            .unwrap()
    }
}

pub(crate) struct Sealed {
    pub(crate) folder: PathBuf,
    pub(crate) batch: VerifiedBatch,
}

impl Sealed {
    pub(crate) fn file(&self, index: u32) -> Vec<u8> {
        read_partition(&self.folder, index).unwrap()
    }

    pub(crate) fn check(&self, index: u32) -> SealedPartition {
        SealedPartition::check(&self.batch, index, self.file(index)).unwrap()
    }
}
