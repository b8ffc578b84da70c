//! A user's sealed batch.

use std::{collections::BTreeSet, fs, path::PathBuf};

use sealift_encrypted_batch::{
    AgeIdentity, Assurance, GrantAck, GrantId, GrantRecipient, OutputPolicy, Receipt, RowCounts,
    SealOptions, VerifiedBatch, VersionScope, guest_policy_sha256, read_batch, seal_batch,
};
use sealift_kbs_protocol::SessionGrant;
use sealift_results_folder::CertifiedGuest;
use sealift_signed_document::{Digest, SigningKey, sign};

use crate::{MODEL, NOW, RUN, SERIAL, TestKeyManager, World};

/// Five rows in three partitions, in the folder `batch` of a world.
pub struct SealedBatch {
    /// The folder.
    pub folder: PathBuf,
    /// The user's signing key.
    pub user: SigningKey,
    /// The batch.
    pub batch: VerifiedBatch,
}

impl SealedBatch {
    /// Seals to a grant of `key_manager`.
    pub fn seal(world: &World, key_manager: &TestKeyManager) -> Self {
        let (folder, user) = (world.path("batch"), SigningKey::generate());
        let ack = GrantAck {
            grant: GrantId::random(),
            user_key: user.public(),
            model: MODEL.into(),
            age_recipient: AgeIdentity::generate().recipient(),
            km_id: key_manager.id(),
        };
        let ack = sign(&ack, &key_manager.identity).unwrap();
        let identity = key_manager.identity.public();
        let recipient = GrantRecipient::accept(&ack, &identity, &user.public()).unwrap();
        let trust = world.trust();
        let options = SealOptions {
            rows_per_partition: 2,
            pad: 256,
            result_recipients: vec![AgeIdentity::generate().recipient()],
            versions: VersionScope::Serials(BTreeSet::from([SERIAL])),
            guest_policy_sha256: guest_policy_sha256(
                &trust.template().digest(),
                &trust.guests().digest(),
            ),
            min_assurance: Assurance::Simulated,
            output_policy: OutputPolicy::Label,
            not_after: NOW + 500,
            max_attempts: 3,
        };
        let row = |id| format!("{{\"custom_id\":\"row-{id}\",\"body\":{{\"text\":\"text\"}}}}\n");
        let rows: String = (0..5).map(row).collect();
        seal_batch(rows.as_bytes(), &recipient, &user, &options, &folder).unwrap();
        fs::write(folder.join("user.pub"), user.public().to_string()).unwrap();
        let batch = VerifiedBatch::verify(&read_batch(&folder).unwrap(), &user.public());
        Self {
            folder,
            user,
            batch: batch.unwrap(),
        }
    }

    /// What an honest guest with this certificate says about a partition.
    pub fn receipt(
        &self,
        partition: u32,
        output: &[u8],
        guest: &CertifiedGuest,
        session: &SessionGrant,
    ) -> Receipt {
        receipt(&self.batch, partition, Digest::of(output), (guest, session))
    }
}

/// What an honest guest with this certificate says about a partition.
pub(crate) fn receipt(
    batch: &VerifiedBatch,
    partition: u32,
    output_sha256: Digest,
    (guest, session): (&CertifiedGuest, &SessionGrant),
) -> Receipt {
    let entry = batch.partition(partition).unwrap();
    Receipt {
        run: RUN.into(),
        batch_sha256: batch.digest(),
        partition,
        attempt: 1,
        input_sha256: entry.sha256,
        output_sha256,
        rows: RowCounts {
            read: entry.rows,
            ok: entry.rows,
            error: 0,
        },
        manifest_sha256: session.manifest_sha256,
        template_sha256: session.template_sha256,
        evidence_sha256: session.evidence_sha256,
        guest_cert_sha256: guest.guest_certificate.digest(),
        assurance: session.assurance,
        engine: "test".into(),
    }
}
