//! One partition, from dispatch to receipt.

use std::fs;

use http::StatusCode;
use sealift_confidential::{
    FailReason, FailureBody, FailureCode, Phase, SCORE_PATH, ScoreAnswer, ScoreRequest,
};
use sealift_encrypted_batch::{
    AgeIdentity, CertifiedReceiptKey, OpenedResults, ResultRow, RowFault, SealedBatch,
    VerifiedBatch, open_results, verify_receipt,
};
use sealift_kbs_protocol::{GuestCertificate, SessionGrant};
use sealift_sealed_model::Protection;
use sealift_signed_document::SigningKey;
use serde_json::{Value, json};

use crate::{
    owner::fixture,
    world::{LEASE, NOW, Running, World, dispatch, rows},
};

/// A user with a grant and an uploaded batch of two partitions.
pub(crate) struct User {
    key: SigningKey,
    results: AgeIdentity,
    batch: SealedBatch,
}

impl User {
    pub(crate) async fn of(world: &World, seq: u64) -> Self {
        let (key, results) = (SigningKey::generate(), AgeIdentity::generate());
        let to = world.granted(&key, seq).await;
        let batch = world.upload(&rows(5), &to, &key, &results);
        Self {
            key,
            results,
            batch,
        }
    }

    pub(crate) fn dispatch(&self, partition: u32) -> ScoreRequest {
        dispatch(&self.batch.envelope, &self.key, partition)
    }

    /// Verifies the chain from receipt to key manager and opens the results.
    pub(crate) fn open(&self, world: &World, answer: &ScoreAnswer) -> OpenedResults {
        let identity = world.appraised.identity().unwrap();
        let grant = answer
            .session_grant
            .verify::<SessionGrant>(identity)
            .unwrap();
        let certificate = answer
            .guest_certificate
            .verify::<GuestCertificate>(identity)
            .unwrap();
        assert_eq!(certificate.document().session_grant_sha256, grant.digest());
        let facts = grant.document();
        let certified = CertifiedReceiptKey {
            receipt_key: certificate.document().receipt_key,
            guest_cert_sha256: certificate.digest(),
            model: facts.model.to_string(),
            serial: facts.serial,
            manifest_sha256: facts.manifest_sha256,
            template_sha256: facts.template_sha256,
            evidence_sha256: facts.evidence_sha256,
            assurance: certificate.document().assurance,
        };
        let batch = VerifiedBatch::verify(&self.batch.envelope, &self.key.public()).unwrap();
        let receipt = verify_receipt(&batch, &answer.receipt, &[certified]).unwrap();
        assert_eq!(receipt.document().output_sha256, answer.output_sha256);
        let (index, digest) = (receipt.document().partition, answer.output_sha256);
        let object = format!("results/{}/{index}/{digest}.age", batch.digest());
        let file = fs::read(world.store().join(object)).unwrap();
        open_results(&file, &self.results, &batch, &receipt).unwrap()
    }
}

async fn post(running: &Running, body: &Value) -> (StatusCode, Value) {
    let answer = running
        .connect()
        .await
        .post_json(SCORE_PATH, body)
        .await
        .unwrap();
    (answer.status, answer.json().unwrap())
}

pub(crate) async fn scored(running: &Running, request: &ScoreRequest) -> ScoreAnswer {
    let (status, body) = post(running, &serde_json::to_value(request).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_value(body).unwrap()
}

pub(crate) async fn refused(
    running: &Running,
    request: &ScoreRequest,
) -> (StatusCode, FailureBody) {
    let (status, body) = post(running, &serde_json::to_value(request).unwrap()).await;
    (status, serde_json::from_value(body).unwrap())
}

/// The answer of the one head.
fn label(row: &ResultRow) -> String {
    row.labels.as_ref().unwrap().one().unwrap().clone()
}

/// The fixture's own answers, in the order of its rows.
fn expected_labels() -> Vec<String> {
    let text = fs::read_to_string(fixture().join("test.jsonl")).unwrap();
    let label = |line: &str| -> String {
        let row: Value = serde_json::from_str(line).unwrap();
        row["expected_label"].as_str().unwrap().to_owned()
    };
    text.lines().map(label).collect()
}

#[tokio::test]
async fn a_batch_is_scored_into_results_that_only_the_user_opens() {
    let world = World::new().await;
    let running = world.serving().await;
    let user = User::of(&world, 5).await;
    let mut labels = Vec::new();
    for (partition, count) in [(0, 3), (1, 2)] {
        let answer = scored(&running, &user.dispatch(partition)).await;
        assert!(answer.counted);
        assert_eq!(
            (answer.rows.read, answer.rows.ok, answer.rows.error),
            (count, count, 0)
        );
        let opened = user.open(&world, &answer);
        labels.extend(opened.rows().iter().map(label));
    }
    assert_eq!(labels, expected_labels()[..5]);
}

/// The guest posts ciphertexts and gets a file that it cannot read; the answers are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_scored_under_an_encrypted_head() {
    let world = World::with_head(Protection::Fhe).await;
    let running = world.serving().await;
    let user = User::of(&world, 5).await;
    let answer = scored(&running, &user.dispatch(0)).await;
    assert!(answer.counted);
    let opened = user.open(&world, &answer);
    let labels: Vec<_> = opened.rows().iter().map(label).collect();
    assert_eq!(labels, expected_labels()[..3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_an_activation_is_a_fault_under_an_encrypted_head() {
    let world = World::with_head(Protection::Fhe).await;
    let running = world.serving().await;
    let (key, results) = (SigningKey::generate(), AgeIdentity::generate());
    let to = world.granted(&key, 5).await;
    let narrow = "{\"custom_id\":\"a\",\"body\":{\"features\":[1.0]}}\n";
    let batch = world.upload(narrow, &to, &key, &results);
    let user = User {
        key,
        results,
        batch,
    };
    let answer = scored(&running, &user.dispatch(0)).await;
    assert_eq!(
        (answer.rows.read, answer.rows.ok, answer.rows.error),
        (1, 0, 1)
    );
    assert_eq!(
        user.open(&world, &answer).rows()[0].labels,
        Err(RowFault::WrongWidth)
    );
}

#[tokio::test]
async fn a_partition_scored_again_does_not_count_again() {
    let world = World::new().await;
    let running = world.serving().await;
    let user = User::of(&world, 5).await;
    assert!(scored(&running, &user.dispatch(0)).await.counted);
    assert!(!scored(&running, &user.dispatch(0)).await.counted);
}

#[tokio::test]
async fn a_guest_whose_session_ended_attests_again_and_goes_on() {
    let world = World::new().await;
    let running = world.serving().await;
    let user = User::of(&world, 5).await;
    let first = scored(&running, &user.dispatch(0)).await;
    world.at(NOW + LEASE + 1).await;
    let second = scored(&running, &user.dispatch(1)).await;
    assert_ne!(first.session_grant, second.session_grant);
    assert_eq!(user.open(&world, &second).rows().len(), 2);
    assert_eq!(running.phase(), Phase::Serving);
}

#[tokio::test]
async fn a_guest_without_a_model_asks_to_come_back_until_it_failed() {
    let world = World::new().await;
    let user = User::of(&world, 5).await;
    let running = world.guest().await;
    let (status, body) = refused(&running, &user.dispatch(0)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (body.code, body.retryable),
        (FailureCode::ModelNotReady, true)
    );

    let failed = Running::start(world.boot_inputs_with([0x33; 48]))
        .await
        .unwrap();
    failed.guest.start().await;
    assert_eq!(
        failed.phase(),
        Phase::Failed(FailReason::RefusedByKeyManager)
    );
    let (_, body) = refused(&failed, &user.dispatch(0)).await;
    assert_eq!(
        (body.code, body.retryable),
        (FailureCode::ModelNotReady, false)
    );
}

#[tokio::test]
async fn a_dispatch_with_a_recipient_or_any_other_member_is_refused() {
    let world = World::new().await;
    let running = world.serving().await;
    let user = User::of(&world, 5).await;
    let good = serde_json::to_value(user.dispatch(0)).unwrap();
    let operator = AgeIdentity::generate().recipient().to_string();
    for (member, value) in [
        ("result_recipients", json!([operator])),
        ("output_policy", json!("label")),
        ("store_url", json!("file:///elsewhere")),
        ("model", json!("other")),
        ("fence", json!(1)),
    ] {
        let mut request = good.clone();
        request[member] = value;
        let (status, body) = post(&running, &request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{member}");
        assert_eq!(body["code"], "malformed", "{member}");
    }
    for member in ["batch", "user_key", "partition", "run", "attempt"] {
        let mut request = good.clone();
        request.as_object_mut().unwrap().remove(member);
        assert_eq!(
            post(&running, &request).await.0,
            StatusCode::BAD_REQUEST,
            "{member}"
        );
    }
    let mut request = good;
    request["run"] = json!("a run\n");
    assert_eq!(post(&running, &request).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_swapped_or_replayed_partition_is_refused_before_an_attempt_is_spent() {
    let world = World::new().await;
    let running = world.serving().await;
    let (user, victim) = (User::of(&world, 5).await, User::of(&world, 6).await);
    let object = |user: &User, index: u32| {
        let batch = user.batch.envelope.digest();
        world.store().join(format!("batches/{batch}/{index}.age"))
    };
    let good = fs::read(object(&user, 0)).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let spoiled = [
        (
            "another partition of the batch",
            fs::read(object(&user, 1)).unwrap(),
        ),
        (
            "a partition of another batch",
            fs::read(object(&victim, 0)).unwrap(),
        ),
        ("one bit", flipped),
        ("cut off", good[..good.len() - 1].to_vec()),
    ];
    for (name, file) in spoiled {
        fs::write(object(&user, 0), file).unwrap();
        let (status, body) = refused(&running, &user.dispatch(0)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        assert_eq!(body.code, FailureCode::SwappedPartition, "{name}");
    }
    fs::remove_file(object(&user, 0)).unwrap();
    let (_, body) = refused(&running, &user.dispatch(0)).await;
    assert_eq!(body.code, FailureCode::PartitionMissing);
    // More refusals than the batch allows attempts, and yet:
    fs::write(object(&user, 0), good).unwrap();
    assert!(scored(&running, &user.dispatch(0)).await.counted);
}

#[tokio::test]
async fn a_batch_under_another_key_than_its_own_is_refused() {
    let world = World::new().await;
    let running = world.serving().await;
    let user = User::of(&world, 5).await;
    let request = ScoreRequest {
        user_key: SigningKey::generate().public(),
        ..user.dispatch(0)
    };
    let (status, body) = refused(&running, &request).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body.code, FailureCode::WrongBatch);
    let (_, body) = refused(&running, &user.dispatch(2)).await;
    assert_eq!(body.code, FailureCode::NoSuchPartition);
}

/// The operator signs the victim's batch with a key of its own: the signature verifies under the
/// key of the dispatch, and only the key manager knows whose grant it is.
#[tokio::test]
async fn a_batch_that_the_operator_signed_is_refused_by_the_key_manager() {
    let world = World::new().await;
    let running = world.serving().await;
    let (victim, operator) = (User::of(&world, 5).await, SigningKey::generate());
    let mut batch = victim.batch.batch.clone();
    batch.result_recipients = vec![AgeIdentity::generate().recipient()];
    let forged = sealift_signed_document::sign(&batch, &operator).unwrap();
    let objects = world.store().join("batches");
    fs::rename(
        objects.join(victim.batch.envelope.digest().to_string()),
        objects.join(forged.digest().to_string()),
    )
    .unwrap();
    let (status, body) = refused(&running, &dispatch(&forged, &operator, 0)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        (body.code, body.retryable),
        (FailureCode::RefusedByKeyManager, false)
    );
    // A refused call is no refused guest.
    assert_eq!(running.phase(), Phase::Serving);
    assert!(!world.store().join("results").exists());
}

#[tokio::test]
async fn a_row_of_another_width_is_a_fault_in_a_complete_result() {
    let world = World::new().await;
    let running = world.serving().await;
    let (key, results) = (SigningKey::generate(), AgeIdentity::generate());
    let to = world.granted(&key, 5).await;
    let narrow = "{\"custom_id\":\"a\",\"body\":{\"features\":[1.0]}}\n";
    let batch = world.upload(narrow, &to, &key, &results);
    let user = User {
        key,
        results,
        batch,
    };
    let answer = scored(&running, &user.dispatch(0)).await;
    assert_eq!(
        (answer.rows.read, answer.rows.ok, answer.rows.error),
        (1, 0, 1)
    );
    assert_eq!(
        user.open(&world, &answer).rows()[0].labels,
        Err(RowFault::WrongWidth)
    );
}
