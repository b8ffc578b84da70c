//! From a sealed batch to a verified results folder, with guest and key manager in this process.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
};

use sealift_attest::AttestedGuests;
use sealift_job::{Job, JobError};
use sealift_operator_fixtures::{
    GuestBackend, NOW, Played, RUN, SealedBatch, ServedKeyManager, Spoil, TestKeyManager, World,
    context,
};
use sealift_provision::{Pod, PodSettings, Pods};
use sealift_results_folder::{ReceiptsFile, VerifiedResults, result_file, verify};
use sealift_score::{
    BatchStore, Merge, MergeInput, MergeOutput, Part, PartitionInput, PartitionOutput, Score,
    ScoreInput, SplitBatch,
};
use serde_json::json;

struct Zone {
    world: World,
    sealed: SealedBatch,
    key_manager: ServedKeyManager,
    settings: PodSettings,
    played: Arc<Played>,
    pods: Arc<Pods>,
    pod: Pod,
    score: Score,
}

impl Zone {
    async fn new() -> Self {
        let world = World::new();
        let key_manager = TestKeyManager::new(&world);
        let sealed = SealedBatch::seal(&world, &key_manager);
        let key_manager = ServedKeyManager::start(key_manager).await;
        let settings = world.settings(key_manager.address.clone());
        let (backend, played) = GuestBackend::scoring(&world, &key_manager);
        let pods = Arc::new(Pods::new(settings.clone(), Box::new(backend)));
        let pod = world.pod();
        pods.create(&pod).unwrap();
        let score = Score::new(Arc::new(AttestedGuests::new(Arc::clone(&pods))));
        Self {
            world,
            sealed,
            key_manager,
            settings,
            played,
            pods,
            pod,
            score,
        }
    }

    fn store(&self) -> BatchStore {
        BatchStore::in_folder(&self.world.path("store")).unwrap()
    }

    async fn partition(&self) -> Result<PartitionOutput, JobError> {
        let input = PartitionInput {
            batch: self.sealed.folder.clone(),
        };
        SplitBatch::new(self.store())
            .run(&input, &context(&self.world))
            .await
    }

    async fn score_one(&self, split: &PartitionOutput, index: usize) -> Result<Part, JobError> {
        let input = ScoreInput {
            pod: self.pod.clone(),
            batch: split.batch.clone(),
            partition: split.partitions[index].clone(),
        };
        Ok(self.score.run(&input, &context(&self.world)).await?.part)
    }

    /// Scores all partitions.
    async fn scored(&self) -> MergeInput {
        let split = self.partition().await.unwrap();
        let mut parts = Vec::new();
        for index in 0..split.partitions.len() {
            parts.push(self.score_one(&split, index).await.unwrap());
        }
        MergeInput {
            batch: split.batch,
            parts,
        }
    }

    fn merging(&self) -> Merge {
        Merge::new(self.store(), self.settings.clone())
    }

    async fn merge(&self, input: &MergeInput) -> Result<MergeOutput, JobError> {
        self.merging().run(input, &context(&self.world)).await
    }

    fn verify(&self) -> VerifiedResults {
        let (results, trust) = (
            self.world.path("artifacts").join("results"),
            self.world.trust(),
        );
        let user = self.sealed.user.public();
        verify(&results, &self.sealed.folder, &trust, &user, NOW).unwrap()
    }
}

fn cause(error: &JobError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn is_transient(error: &JobError) -> bool {
    matches!(error, JobError::Transient { .. })
}

#[tokio::test]
async fn a_batch_is_scored_and_merged_into_results_that_its_user_verifies() {
    let zone = Zone::new().await;
    let input = zone.scored().await;
    assert!(
        input
            .parts
            .iter()
            .all(|part| part.counted && part.serial == zone.pod.serial)
    );
    let output = zone.merge(&input).await.unwrap();
    assert_eq!(
        (output.rows.read, output.rows.ok, output.rows.error),
        (5, 5, 0)
    );
    let verified = zone.verify();
    assert_eq!(verified.run().run_receipt().run, RUN);
    for part in &input.parts {
        let file = fs::read(output.results.join(result_file(part.index))).unwrap();
        assert_eq!(
            sealift_signed_document::Digest::of(&file),
            part.output_sha256
        );
    }
}

#[tokio::test]
async fn partitions_are_kept_under_the_batch_and_again_is_success() {
    let zone = Zone::new().await;
    let first = zone.partition().await.unwrap();
    assert_eq!(zone.partition().await.unwrap(), first);
    assert_eq!(
        first.partitions.iter().map(|p| p.rows).collect::<Vec<_>>(),
        [2, 2, 1]
    );
    for partition in &first.partitions {
        let object = format!(
            "store/batches/{}/{}.age",
            first.batch.sha256, partition.index
        );
        assert_eq!(
            fs::metadata(zone.world.path(&object)).unwrap().len(),
            partition.bytes
        );
    }
}

#[tokio::test]
async fn a_changed_or_missing_partition_is_named() {
    let zone = Zone::new().await;
    let file = zone.sealed.folder.join("partitions/00001.age");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let error = zone.partition().await.unwrap_err();
    assert!(
        error.remedy().is_some() && cause(&error).contains("00001.age"),
        "{}",
        cause(&error)
    );
    fs::remove_file(&file).unwrap();
    let error = zone.partition().await.unwrap_err();
    assert!(
        error.remedy().is_some() && cause(&error).contains("00001.age"),
        "{}",
        cause(&error)
    );
}

#[tokio::test]
async fn a_batch_without_its_key_or_under_another_one_is_refused() {
    let zone = Zone::new().await;
    let key = zone.sealed.folder.join("user.pub");
    let other = sealift_signed_document::SigningKey::generate()
        .public()
        .to_string();
    fs::write(&key, other).unwrap();
    assert!(zone.partition().await.unwrap_err().remedy().is_some());
    fs::remove_file(&key).unwrap();
    let error = zone.partition().await.unwrap_err();
    assert!(cause(&error).contains("user.pub"), "{}", cause(&error));
}

#[tokio::test]
async fn other_bytes_at_a_partitions_address_are_not_passed_off_as_uploaded() {
    let zone = Zone::new().await;
    let split = zone.partition().await.unwrap();
    let object = zone
        .world
        .path(&format!("store/batches/{}/0.age", split.batch.sha256));
    fs::write(object, b"other").unwrap();
    assert!(zone.partition().await.unwrap_err().remedy().is_some());
}

#[tokio::test]
async fn a_guest_that_is_refused_receives_no_dispatch() {
    let zone = Zone::new().await;
    let split = zone.partition().await.unwrap();
    for spoil in [
        Spoil::NamesOtherTlsKey,
        Spoil::HostData,
        Spoil::EvidenceOfOtherTlsKey,
    ] {
        *zone.played.spoil.lock().unwrap() = spoil;
        assert!(
            zone.score_one(&split, 0)
                .await
                .unwrap_err()
                .remedy()
                .is_some()
        );
    }
    assert_eq!(zone.played.dispatches.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_busy_guest_is_waited_for() {
    let zone = Zone::new().await;
    let split = zone.partition().await.unwrap();
    let busy = json!({ "code": "busy", "retryable": true, "message": "busy" });
    zone.played.refusals.lock().unwrap().push((503, busy));
    zone.score_one(&split, 0).await.unwrap();
    assert_eq!(zone.played.dispatches.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn partitions_that_are_dispatched_together_reach_the_guest_in_turn() {
    let zone = Zone::new().await;
    let split = zone.partition().await.unwrap();
    let (first, second, third) = tokio::join!(
        zone.score_one(&split, 0),
        zone.score_one(&split, 1),
        zone.score_one(&split, 2)
    );
    assert!(first.unwrap().counted && second.unwrap().counted && third.unwrap().counted);
    assert!(!zone.played.overlapped.load(Ordering::SeqCst));
    assert_eq!(zone.played.challenges.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_guests_word_decides_whether_a_later_attempt_can_go_better() {
    let zone = Zone::new().await;
    let split = zone.partition().await.unwrap();
    for (code, retryable, transient) in [
        ("key_manager_unavailable", true, true),
        ("store_unavailable", true, true),
        ("model_not_ready", false, true),
        ("refused_by_key_manager", false, false),
        ("wrong_batch", false, false),
        ("a_code_of_tomorrow", false, false),
    ] {
        let body = json!({ "code": code, "retryable": retryable, "message": "because" });
        zone.played.refusals.lock().unwrap().push((422, body));
        let error = zone.score_one(&split, 0).await.unwrap_err();
        assert_eq!(is_transient(&error), transient, "{code}");
        assert!(cause(&error).contains("because"), "{code}");
    }
    zone.played
        .refusals
        .lock()
        .unwrap()
        .push((408, json!(null)));
    assert!(is_transient(&zone.score_one(&split, 0).await.unwrap_err()));
}

#[tokio::test]
async fn a_receipt_that_the_attested_guest_did_not_sign_is_refused() {
    let zone = Zone::new().await;
    let split = zone.partition().await.unwrap();
    zone.played.foreign_receipts.store(true, Ordering::SeqCst);
    let error = zone.score_one(&split, 0).await.unwrap_err();
    assert!(cause(&error).contains("receipt key"), "{}", cause(&error));
}

#[tokio::test]
async fn another_batch_in_the_folder_is_not_scored_in_its_place() {
    let zone = Zone::new().await;
    let mut split = zone.partition().await.unwrap();
    split.batch.sha256 = sealift_signed_document::Digest::of(b"another");
    assert!(
        zone.score_one(&split, 0)
            .await
            .unwrap_err()
            .remedy()
            .is_some()
    );
    let mut split = zone.partition().await.unwrap();
    split.partitions[0].rows += 1;
    assert!(
        zone.score_one(&split, 0)
            .await
            .unwrap_err()
            .remedy()
            .is_some()
    );
    assert_eq!(zone.played.dispatches.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_guest_that_ended_between_partitions_is_replaced_and_attested_again() {
    let zone = Zone::new().await;
    let split = zone.partition().await.unwrap();
    let mut parts = vec![zone.score_one(&split, 0).await.unwrap()];
    zone.played.end_guests();
    for index in 1..3 {
        parts.push(zone.score_one(&split, index).await.unwrap());
    }
    assert_eq!(zone.played.starts.load(Ordering::SeqCst), 2);
    assert_eq!(zone.played.challenges.load(Ordering::SeqCst), 2);
    zone.merge(&MergeInput {
        batch: split.batch,
        parts,
    })
    .await
    .unwrap();
    let file = ReceiptsFile::read(&zone.world.path("artifacts").join("results")).unwrap();
    assert_eq!(file.certificates.len(), 2);
    zone.verify();
}

#[tokio::test]
async fn a_guest_with_another_tls_key_is_challenged_before_anything_is_sent() {
    let zone = Zone::new().await;
    let split = zone.partition().await.unwrap();
    zone.score_one(&split, 0).await.unwrap();
    zone.played.switch_tls_keys();
    let error = zone.score_one(&split, 1).await.unwrap_err();
    assert!(error.remedy().is_some(), "{}", cause(&error));
    assert_eq!(zone.played.challenges.load(Ordering::SeqCst), 2);
    assert_eq!(zone.played.dispatches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_repeated_partition_changes_nothing_and_says_so() {
    let zone = Zone::new().await;
    let input = zone.scored().await;
    let split = zone.partition().await.unwrap();
    zone.played.end_guests();
    let again = zone.score_one(&split, 1).await.unwrap();
    assert!(!again.counted);
    assert_ne!(again.output_sha256, input.parts[1].output_sha256);
    zone.merge(&input).await.unwrap();
    zone.verify();
    let file = ReceiptsFile::read(&zone.world.path("artifacts").join("results")).unwrap();
    // The second guest's certificate stands for no receipt that counts.
    assert_eq!(file.certificates.len(), 1);
}

/// A guest commits its receipt, and the operator ends before it hears of it. The next guest's
/// receipt does not count, so the first one's certificate has to be there already.
#[tokio::test]
async fn a_receipt_whose_answer_was_lost_still_verifies_if_its_guest_showed_its_certificate() {
    let zone = Zone::new().await;
    zone.played.shows_certificate.store(true, Ordering::SeqCst);
    let input = zone.scored().await;
    let (kept, folder) = (
        zone.world.path("kept"),
        zone.world.path("artifacts/certificates"),
    );
    fs::rename(&folder, &kept).unwrap();
    // Only what the guest showed before its work.
    let split = zone.partition().await.unwrap();
    let refused = json!({ "code": "interrupted", "retryable": true, "message": "gone" });
    zone.played.refusals.lock().unwrap().push((503, refused));
    assert!(is_transient(&zone.score_one(&split, 0).await.unwrap_err()));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    zone.merge(&input).await.unwrap();
    zone.verify();
}

#[tokio::test]
async fn without_the_certificate_of_a_counted_receipt_nothing_is_left_behind() {
    let zone = Zone::new().await;
    let input = zone.scored().await;
    fs::remove_dir_all(zone.world.path("artifacts/certificates")).unwrap();
    let error = zone.merge(&input).await.unwrap_err();
    assert!(
        error.remedy().is_some() && cause(&error).contains("guest-cert"),
        "{}",
        cause(&error)
    );
    assert!(!zone.world.path("artifacts/results").exists());
}

#[tokio::test]
async fn a_run_receipt_waits_for_the_witness() {
    let zone = Zone::new().await;
    let input = zone.scored().await;
    zone.key_manager.refuse_run_receipts(1);
    zone.merge(&input).await.unwrap();
    zone.verify();
}

#[tokio::test]
async fn merging_again_finds_the_results_and_damaged_ones_are_made_anew() {
    let zone = Zone::new().await;
    let input = zone.scored().await;
    let first = zone.merge(&input).await.unwrap();
    let receipts = first.results.join("receipts.json");
    let written = fs::read(&receipts).unwrap();
    assert_eq!(zone.merge(&input).await.unwrap(), first);
    assert_eq!(
        fs::read(&receipts).unwrap(),
        written,
        "a fresh nonce would show"
    );
    fs::remove_file(first.results.join(result_file(0))).unwrap();
    assert_eq!(zone.merge(&input).await.unwrap(), first);
    zone.verify();
}

#[tokio::test]
async fn an_interrupted_merge_leaves_nothing_that_the_next_one_trips_over() {
    let zone = Zone::new().await;
    let input = zone.scored().await;
    let unfinished = zone.world.path("artifacts/results.unfinished");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join(result_file(0)), b"half").unwrap();
    zone.merge(&input).await.unwrap();
    assert!(!unfinished.exists());
    zone.verify();
}

#[tokio::test]
async fn a_result_file_that_the_store_lost_or_changed_is_named() {
    let zone = Zone::new().await;
    let input = zone.scored().await;
    let (batch, sha256) = (input.batch.sha256, input.parts[2].output_sha256);
    let object = zone
        .world
        .path(&format!("store/results/{batch}/2/{sha256}.age"));
    fs::write(&object, b"other").unwrap();
    let error = zone.merge(&input).await.unwrap_err();
    assert!(cause(&error).contains("other bytes"), "{}", cause(&error));
    fs::remove_file(&object).unwrap();
    let error = zone.merge(&input).await.unwrap_err();
    assert!(cause(&error).contains("no object"), "{}", cause(&error));
    assert!(!zone.world.path("artifacts/results").exists());
}

#[tokio::test]
async fn parts_that_are_not_one_per_partition_by_one_version_are_refused() {
    let zone = Zone::new().await;
    let input = zone.scored().await;
    let spoiled: [fn(&mut Vec<Part>); 4] = [
        |parts| parts.truncate(2),
        |parts| parts.push(parts[0].clone()),
        |parts| parts[1].serial += 1,
        Vec::clear,
    ];
    for spoil in spoiled {
        let mut parts = input.parts.clone();
        spoil(&mut parts);
        let batch = input.batch.clone();
        assert!(
            zone.merge(&MergeInput { batch, parts })
                .await
                .unwrap_err()
                .remedy()
                .is_some()
        );
    }
}

#[tokio::test]
async fn undoing_a_merge_removes_its_folders_and_finding_none_is_success() {
    let zone = Zone::new().await;
    let input = zone.scored().await;
    let output = zone.merge(&input).await.unwrap();
    for _ in 0..2 {
        zone.merging()
            .undo(&input, None, &context(&zone.world))
            .await
            .unwrap();
        assert!(!output.results.exists());
    }
}

#[tokio::test]
async fn a_removed_pod_is_not_started_again_by_a_late_dispatch() {
    let zone = Zone::new().await;
    let split = zone.partition().await.unwrap();
    zone.score_one(&split, 0).await.unwrap();
    zone.pods.remove(&zone.pod.name).await.unwrap();
    let error = zone.score_one(&split, 1).await.unwrap_err();
    assert!(error.remedy().is_some(), "{}", cause(&error));
    assert_eq!(zone.played.starts.load(Ordering::SeqCst), 1);
}
