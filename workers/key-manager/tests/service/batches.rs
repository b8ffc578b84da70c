//! Users' batches: what is unwrapped for whom, and which receipts count. The confused-deputy cases
//! of ATTACKS 4 and 5 among them.

use std::{collections::BTreeSet, path::PathBuf};

use sealift_encrypted_batch::{
    AgeIdentity, Assurance, Batch, Budget, FileKey, Grant, GrantRecipient, OutputPolicy, Receipt,
    RowCounts, SealOptions, SealedPartition, VerifiedBatch, VersionScope, guest_policy_sha256,
    read_partition, seal_batch,
};
use sealift_kbs_protocol::{
    GuestClientError, KeyManagerClientError, call::Op, command::Register,
    run_receipt::RunReceiptRequest,
};
use sealift_signed_document::{Digest, Envelope, SigningKey, sign};

use crate::harness::{LATER, MODEL, NOW, OpenKm, TestGuest, World, name};

const ROWS: &[u8] = b"{\"custom_id\":\"a\",\"body\":{\"text\":\"good\"}}\n\
    {\"custom_id\":\"b\",\"body\":{\"text\":\"bad\"}}\n\
    {\"custom_id\":\"c\",\"body\":{\"text\":\"so so\"}}\n";

/// A user with a grant and a sealed batch of two partitions.
pub(crate) struct User {
    key: SigningKey,
    pub(crate) results: AgeIdentity,
    recipient: GrantRecipient,
    folder: PathBuf,
    batch: VerifiedBatch,
    pub(crate) envelope: Envelope,
}

impl User {
    pub(crate) async fn new(open: &OpenKm<'_>, seq: u64) -> Self {
        Self::with(open, seq, |_| (), |_| ()).await
    }

    pub(crate) async fn with(
        open: &OpenKm<'_>,
        seq: u64,
        grant: impl FnOnce(&mut Grant),
        options: impl FnOnce(&mut SealOptions),
    ) -> Self {
        let (key, results) = (SigningKey::generate(), AgeIdentity::generate());
        let mut document = open.grant_document(&key, seq);
        grant(&mut document);
        let signers = [open.world.owner.signer()];
        let ack = open
            .client()
            .grant(&open.km, &signers, &document)
            .await
            .unwrap();
        let identity = open.km.identity().unwrap();
        let recipient = GrantRecipient::accept(&ack, identity, &key.public()).unwrap();
        let mut seal = SealOptions {
            rows_per_partition: 2,
            pad: 256,
            result_recipients: vec![results.recipient()],
            versions: VersionScope::Serials(BTreeSet::from([1])),
            guest_policy_sha256: guest_policy_sha256(
                &open.template_approval().document.digest(),
                &open.values_approval().document.digest(),
            ),
            min_assurance: Assurance::Simulated,
            output_policy: OutputPolicy::Label,
            not_after: LATER,
            max_attempts: 2,
        };
        options(&mut seal);
        let folder = open.world.folder.path().join(format!("batch-{seq}"));
        let sealed = seal_batch(ROWS, &recipient, &key, &seal, &folder).unwrap();
        let batch = VerifiedBatch::verify(&sealed.envelope, &key.public()).unwrap();
        Self {
            key,
            results,
            recipient,
            folder,
            batch,
            envelope: sealed.envelope,
        }
    }

    pub(crate) fn partition(&self, index: u32) -> SealedPartition {
        let file = read_partition(&self.folder, index).unwrap();
        SealedPartition::check(&self.batch, index, file).unwrap()
    }

    /// The same document, changed and signed again by the same user.
    fn resigned(&self, change: impl FnOnce(&mut Batch)) -> Envelope {
        let mut document = self.batch.document().clone();
        change(&mut document);
        sign(&document, &self.key).unwrap()
    }
}

pub(crate) async fn ready(open: &OpenKm<'_>) -> TestGuest {
    let guest = open.attested().await;
    guest.client.open_session().await.unwrap();
    guest
}

pub(crate) async fn unwrap(
    guest: &TestGuest,
    batch: &Envelope,
    (index, partition): (u32, &SealedPartition),
) -> Result<FileKey, GuestClientError> {
    guest.client.batch(batch).await?;
    guest
        .client
        .unwrap(batch.digest(), index, partition.header())
        .await
}

fn assert_call_refused<T>(result: Result<T, GuestClientError>, op: Op) {
    match result {
        Err(GuestClientError::CallRefused { op: found }) => assert_eq!(found, op),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was answered"),
    }
}

#[tokio::test]
async fn a_partition_is_opened_with_the_unwrapped_key() {
    let world = World::new();
    let open = world.with_version().await;
    let user = User::new(&open, 5).await;
    let guest = ready(&open).await;
    let key = unwrap(&guest, &user.envelope, (0, &user.partition(0)))
        .await
        .unwrap();
    let opened = user.partition(0).open(&key).unwrap();
    assert_eq!(opened.rows().len(), 2);
    let entry = open.last_entry().await;
    assert_eq!(entry.subjects["partition"], "0");
    assert!(!serde_json::to_string(&entry).unwrap().contains("good"));
}

/// ATTACKS 4: M has a grant of its own and a guest that may open its batches; it lists V's file.
#[tokio::test]
async fn a_victims_partition_in_another_users_batch_is_not_unwrapped() {
    let world = World::new();
    let open = world.with_version().await;
    let victim = User::new(&open, 5).await;
    let attacker = User::new(&open, 6).await;
    let stolen = victim.batch.document().partitions[0].clone();
    let forged = attacker.resigned(|batch| batch.partitions = vec![stolen]);
    let guest = ready(&open).await;
    let refused = unwrap(&guest, &forged, (0, &victim.partition(0))).await;
    assert_call_refused(refused, Op::Unwrap);
    open.assert_refused("Unwrap").await;
    assert!(open.last_entry().await.decision.contains("no stanza"));
}

#[tokio::test]
async fn a_batch_signed_by_another_user_under_a_victims_grant_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let victim = User::new(&open, 5).await;
    let forged = sign(victim.batch.document(), &SigningKey::generate()).unwrap();
    let guest = ready(&open).await;
    assert_call_refused(guest.client.batch(&forged).await, Op::Batch);
    open.assert_refused("Batch").await;
}

#[tokio::test]
async fn a_partition_swapped_between_two_batches_of_one_user_is_not_unwrapped() {
    let world = World::new();
    let open = world.with_version().await;
    let user = User::new(&open, 5).await;
    let other = open.world.folder.path().join("other-batch");
    let options = SealOptions {
        rows_per_partition: 3,
        pad: 256,
        result_recipients: vec![user.results.recipient()],
        versions: VersionScope::Serials(BTreeSet::from([1])),
        guest_policy_sha256: user.batch.document().guest_policy_sha256,
        min_assurance: Assurance::Simulated,
        output_policy: OutputPolicy::Label,
        not_after: LATER,
        max_attempts: 1,
    };
    let sealed = seal_batch(ROWS, &user.recipient, &user.key, &options, &other).unwrap();
    let batch = VerifiedBatch::verify(&sealed.envelope, &user.key.public()).unwrap();
    let file = read_partition(&other, 0).unwrap();
    let foreign = SealedPartition::check(&batch, 0, file).unwrap();
    let guest = ready(&open).await;
    assert_call_refused(
        unwrap(&guest, &user.envelope, (0, &foreign)).await,
        Op::Unwrap,
    );
    open.assert_refused("Unwrap").await;
    let swapped = guest
        .client
        .unwrap(user.envelope.digest(), 0, user.partition(1).header())
        .await;
    assert_call_refused(swapped, Op::Unwrap);
    open.assert_refused("Unwrap").await;
}

#[tokio::test]
async fn a_batch_for_another_version_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let second = |scope: &mut VersionScope| *scope = VersionScope::Serials(BTreeSet::from([2]));
    let by_batch = User::with(&open, 5, |_| (), |seal| second(&mut seal.versions)).await;
    let by_grant = User::with(&open, 6, |grant| second(&mut grant.versions), |_| ()).await;
    let guest = ready(&open).await;
    for user in [&by_batch, &by_grant] {
        assert_call_refused(guest.client.batch(&user.envelope).await, Op::Batch);
        open.assert_refused("NotAdmitted").await;
    }
}

/// ATTACKS 14: a channel is what the owner signed and the key manager keeps.
#[tokio::test]
async fn a_batch_for_a_channel_follows_the_owners_signed_channel() {
    use sealift_kbs_protocol::command::{Channel, CommandKind};
    let world = World::new();
    let open = world.with_version().await;
    let stable = || VersionScope::Channel {
        channel: "stable".into(),
        min_serial: 1,
    };
    let user = User::with(
        &open,
        5,
        |grant| grant.versions = stable(),
        |seal| {
            seal.versions = stable();
        },
    )
    .await;
    let guest = ready(&open).await;
    assert_call_refused(guest.client.batch(&user.envelope).await, Op::Batch);
    open.assert_refused("NotAdmitted").await;
    let channel = Channel {
        km_id: open.km.km_id().unwrap(),
        seq: 6,
        not_after: LATER,
        model: name(MODEL),
        channel: name("stable"),
        serial: 1,
    };
    open.change(CommandKind::Channel, &channel).await.unwrap();
    guest.client.batch(&user.envelope).await.unwrap();
}

/// ATTACKS 5: the owner registered a guest that the user does not accept.
#[tokio::test]
async fn a_guest_outside_the_users_policy_gets_no_file_key() {
    let world = World::new();
    let open = world.with_version().await;
    let policy = |seal: &mut SealOptions| seal.guest_policy_sha256 = Digest::of(b"other");
    let user = User::with(&open, 5, |_| (), policy).await;
    let guest = ready(&open).await;
    assert_call_refused(guest.client.batch(&user.envelope).await, Op::Batch);
    open.assert_refused("NotAdmitted").await;
}

#[tokio::test]
async fn a_batch_that_demands_hardware_is_not_opened_for_a_simulated_guest() {
    let world = World::new();
    let open = world.with_version().await;
    let hardware = |seal: &mut SealOptions| seal.min_assurance = Assurance::Hardware;
    let user = User::with(&open, 5, |_| (), hardware).await;
    let guest = ready(&open).await;
    assert_call_refused(guest.client.batch(&user.envelope).await, Op::Batch);
    open.assert_refused("NotAdmitted").await;
}

#[tokio::test]
async fn a_grant_that_has_ended_opens_nothing() {
    let world = World::new();
    let open = world.with_version().await;
    let user = User::with(&open, 5, |grant| grant.not_after = NOW + 10, |_| ()).await;
    let guest = ready(&open).await;
    guest.client.batch(&user.envelope).await.unwrap();
    world.at(NOW + 11);
    let refused = guest
        .client
        .unwrap(user.envelope.digest(), 0, user.partition(0).header())
        .await;
    assert_call_refused(refused, Op::Unwrap);
    open.assert_refused("NotAdmitted").await;
}

#[tokio::test]
async fn an_unregistered_batch_is_not_unwrapped() {
    let world = World::new();
    let open = world.with_version().await;
    let user = User::new(&open, 5).await;
    let guest = ready(&open).await;
    let refused = guest
        .client
        .unwrap(user.envelope.digest(), 0, user.partition(0).header())
        .await;
    assert_call_refused(refused, Op::Unwrap);
    open.assert_refused("UnknownBatch").await;
}

#[tokio::test]
async fn a_partition_is_unwrapped_as_often_as_its_batch_allows() {
    let world = World::new();
    let open = world.with_version().await;
    let user = User::new(&open, 5).await;
    let guest = ready(&open).await;
    for _ in 0..2 {
        unwrap(&guest, &user.envelope, (0, &user.partition(0)))
            .await
            .unwrap();
    }
    let refused = guest
        .client
        .unwrap(user.envelope.digest(), 0, user.partition(0).header())
        .await;
    assert_call_refused(refused, Op::Unwrap);
    open.assert_refused("AttemptsUsedUp").await;
    unwrap(&guest, &user.envelope, (1, &user.partition(1)))
        .await
        .unwrap();
}

/// ATTACKS 12: retries are free; the grant's rows are not exceeded.
#[tokio::test]
async fn rows_are_charged_once_for_each_partition_and_within_the_grant() {
    let world = World::new();
    let open = world.with_version().await;
    let budget = Budget {
        rows: 2,
        answer_bits: 0,
    };
    let user = User::with(&open, 5, |grant| grant.budget = budget, |_| ()).await;
    let guest = ready(&open).await;
    for _ in 0..2 {
        unwrap(&guest, &user.envelope, (0, &user.partition(0)))
            .await
            .unwrap();
    }
    let refused = unwrap(&guest, &user.envelope, (1, &user.partition(1))).await;
    assert_call_refused(refused, Op::Unwrap);
    open.assert_refused("BudgetUsedUp").await;
}

/// ATTACKS 12: two users collude.
#[tokio::test]
async fn two_users_together_stay_within_the_versions_budget() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    let mut register: Register = open.registration();
    register.budgets.per_version = Budget {
        rows: 3,
        answer_bits: 0,
    };
    open.register(register).await.unwrap();
    open.activate("v1", 4).await.unwrap();
    let (one, two) = (User::new(&open, 5).await, User::new(&open, 6).await);
    let guest = ready(&open).await;
    unwrap(&guest, &one.envelope, (0, &one.partition(0)))
        .await
        .unwrap();
    let refused = unwrap(&guest, &two.envelope, (0, &two.partition(0))).await;
    assert_call_refused(refused, Op::Unwrap);
    open.assert_refused("BudgetUsedUp").await;
    unwrap(&guest, &two.envelope, (1, &two.partition(1)))
        .await
        .unwrap();
}

/// A guest with certified keys that has opened a partition.
pub(crate) struct Worker {
    pub(crate) guest: TestGuest,
    key: SigningKey,
    certificate: Digest,
    evidence: Digest,
}

impl Worker {
    pub(crate) async fn new(open: &OpenKm<'_>, user: &User) -> Self {
        let guest = open.attested().await;
        let evidence = guest
            .client
            .open_session()
            .await
            .unwrap()
            .document()
            .evidence_sha256;
        let key = SigningKey::generate();
        let certificate = guest
            .client
            .certify(key.public(), Digest::of(b"tls"))
            .await
            .unwrap();
        for index in 0..2 {
            unwrap(&guest, &user.envelope, (index, &user.partition(index)))
                .await
                .unwrap();
        }
        Self {
            guest,
            key,
            certificate: certificate.digest(),
            evidence,
        }
    }

    pub(crate) fn receipt(&self, open: &OpenKm<'_>, user: &User, index: u32) -> Receipt {
        let entry = user.batch.partition(index).unwrap();
        Receipt {
            run: "run-1".into(),
            batch_sha256: user.envelope.digest(),
            partition: index,
            attempt: 1,
            input_sha256: entry.sha256,
            output_sha256: Digest::of(b"output"),
            rows: RowCounts {
                read: entry.rows,
                ok: entry.rows,
                error: 0,
            },
            manifest_sha256: Digest::of(b"manifest"),
            template_sha256: open.template_approval().document.digest(),
            evidence_sha256: self.evidence,
            guest_cert_sha256: self.certificate,
            assurance: Assurance::Simulated,
            engine: "test".into(),
        }
    }

    pub(crate) fn signed(&self, receipt: &Receipt) -> Envelope {
        sign(receipt, &self.key).unwrap()
    }
}

#[tokio::test]
async fn the_first_receipt_of_a_partition_counts_and_a_later_one_is_superseded() {
    let world = World::new();
    let open = world.with_version().await;
    let user = User::new(&open, 5).await;
    let worker = Worker::new(&open, &user).await;
    let receipt = worker.receipt(&open, &user, 0);
    let first = worker
        .guest
        .client
        .commit(&worker.signed(&receipt))
        .await
        .unwrap();
    assert!(first.first);
    let again = worker
        .guest
        .client
        .commit(&worker.signed(&receipt))
        .await
        .unwrap();
    assert_eq!((again.first, again.log_index), (true, first.log_index));
    let other = Receipt {
        output_sha256: Digest::of(b"other output"),
        ..receipt
    };
    let second = worker
        .guest
        .client
        .commit(&worker.signed(&other))
        .await
        .unwrap();
    assert!(!second.first);
    let entry = open.last_entry().await;
    assert_eq!(
        serde_json::to_value(entry.kind).unwrap(),
        "receipt-superseded"
    );
}

#[tokio::test]
async fn a_receipt_with_one_thing_spoiled_is_refused() {
    type Spoil = fn(&mut Receipt);
    let world = World::new();
    let open = world.with_version().await;
    let user = User::new(&open, 5).await;
    let worker = Worker::new(&open, &user).await;
    let rows: [(Spoil, &str); 9] = [
        (
            |receipt| receipt.batch_sha256 = Digest::of(b""),
            "UnknownBatch",
        ),
        (|receipt| receipt.partition = 9, "Batch"),
        (
            |receipt| receipt.input_sha256 = Digest::of(b""),
            "OtherReceipt",
        ),
        (|receipt| receipt.rows.ok -= 1, "OtherReceipt"),
        (
            |receipt| receipt.manifest_sha256 = Digest::of(b""),
            "OtherReceipt",
        ),
        (
            |receipt| receipt.template_sha256 = Digest::of(b""),
            "OtherReceipt",
        ),
        (
            |receipt| receipt.evidence_sha256 = Digest::of(b""),
            "OtherReceipt",
        ),
        (
            |receipt| receipt.guest_cert_sha256 = Digest::of(b""),
            "OtherReceipt",
        ),
        (
            |receipt| receipt.assurance = Assurance::Hardware,
            "OtherReceipt",
        ),
    ];
    for (spoil, reason) in rows {
        let mut receipt = worker.receipt(&open, &user, 0);
        spoil(&mut receipt);
        let refused = worker.guest.client.commit(&worker.signed(&receipt)).await;
        assert_call_refused(refused, Op::Commit);
        open.assert_refused(reason).await;
    }
}

/// ATTACKS 9: only the key that was certified in this session signs.
#[tokio::test]
async fn a_receipt_by_an_uncertified_key_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let user = User::new(&open, 5).await;
    let worker = Worker::new(&open, &user).await;
    let receipt = worker.receipt(&open, &user, 0);
    let forged = sign(&receipt, &SigningKey::generate()).unwrap();
    assert_call_refused(worker.guest.client.commit(&forged).await, Op::Commit);
    open.assert_refused("Document").await;
    let uncertified = ready(&open).await;
    let signed = worker.signed(&receipt);
    assert_call_refused(uncertified.client.commit(&signed).await, Op::Commit);
    open.assert_refused("NotCertified").await;
}

#[tokio::test]
async fn a_run_is_receipted_when_every_partition_is_and_a_witness_has_seen_it() {
    let world = World::new();
    let open = world.with_version().await;
    let user = User::new(&open, 5).await;
    let worker = Worker::new(&open, &user).await;
    let request = RunReceiptRequest {
        run: "run-1".into(),
        batch_sha256: user.envelope.digest(),
        serial: 1,
    };
    let refused = |answer: Result<_, KeyManagerClientError>| {
        matches!(answer, Err(KeyManagerClientError::Refused { .. }))
    };
    for index in 0..2 {
        assert!(refused(open.client().run_receipt(&request).await.map(drop)));
        let receipt = worker.signed(&worker.receipt(&open, &user, index));
        worker.guest.client.commit(&receipt).await.unwrap();
    }
    assert!(
        refused(open.client().run_receipt(&request).await.map(drop)),
        "not witnessed"
    );
    open.witness(NOW).await;
    let answer = open.client().run_receipt(&request).await.unwrap();
    let identity = open.km.identity().unwrap();
    let signed = answer
        .run_receipt
        .verify::<sealift_encrypted_batch::RunReceipt>(identity)
        .unwrap();
    let root = sealift_encrypted_batch::receipts_root(&answer.receipts);
    assert_eq!(signed.document().receipts_root, root);
    let other = RunReceiptRequest {
        run: "run-2".into(),
        ..request
    };
    assert!(refused(open.client().run_receipt(&other).await.map(drop)));
}
