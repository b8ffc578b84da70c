//! Decryption of encrypted layers: into the user's file alone, within the budget, and for honest
//! rows only (ATTACKS 1, 11, 12).

use sealift_encrypted_batch::{Budget, OutputPolicy, open_age};
use sealift_evidence::Assurance;
use sealift_kbs_protocol::{
    GuestClientError, KeyManagerClientError,
    call::{FheFault, FheRequest, FheRow, Op},
};
use sealift_key_manager::EntryType;
use sealift_signed_document::{Digest, SigningKey, sign};

use crate::{
    batches::{User, ready, unwrap},
    encrypted_head::{EncryptedHead, LABELS, LAYER, keys},
    harness::{OpenKm, TestGuest, World},
};

pub(crate) fn request(user: &User, rows: Vec<FheRow>) -> FheRequest {
    FheRequest {
        batch_sha256: user.envelope.digest(),
        partition: 0,
        run: "run-1".into(),
        layer: LAYER.into(),
        rows,
        faults: vec![],
    }
}

fn honest(head: &EncryptedHead, user: &User) -> FheRequest {
    request(user, vec![head.row(0, "a", 0), head.row(1, "b", 2)])
}

pub(crate) async fn opened(open: &OpenKm<'_>, user: &User) -> TestGuest {
    let guest = ready(open).await;
    unwrap(&guest, &user.envelope, (0, &user.partition(0)))
        .await
        .unwrap();
    guest
}

pub(crate) fn refused_in_session<T>(result: &Result<T, GuestClientError>) {
    assert!(matches!(
        result,
        Err(GuestClientError::CallRefused { op: Op::Fhe })
    ));
}

/// The lines of a result file, as its user reads them.
pub(crate) fn lines(user: &User, file: &[u8]) -> Vec<serde_json::Value> {
    let plain = open_age(file, &user.results).unwrap();
    let text = String::from_utf8(plain.to_vec()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn decrypted_rows_go_into_the_users_file_alone() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    let file = guest.client.fhe(&honest(&head, &user)).await.unwrap();
    assert!(!file.windows(8).any(|window| window == b"positive"));
    let lines = lines(&user, &file);
    assert_eq!(lines[0]["rows"], 2);
    assert_eq!(lines[1]["response"]["body"]["label"], LABELS[0]);
    assert_eq!(lines[2]["response"]["body"]["label"], LABELS[2]);
    let entry = open.last_entry().await;
    assert_eq!(entry.kind, EntryType::FheResult);
    assert_eq!(
        entry.subjects["output_sha256"],
        Digest::of(&file).to_string()
    );
}

#[tokio::test]
async fn rows_without_an_activation_become_faults_of_the_same_file() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    let fault = FheFault {
        row: 0,
        id: "a".into(),
        code: "no_tokens".into(),
    };
    let mut request = request(&user, vec![head.row(1, "b", 1)]);
    request.faults = vec![fault];
    let file = guest.client.fhe(&request).await.unwrap();
    let lines = lines(&user, &file);
    assert_eq!(lines[1]["error"]["code"], "no_tokens");
    assert_eq!(lines[2]["response"]["body"]["label"], LABELS[1]);
}

/// What the guest sees must not depend on the answer (ATTACKS 11).
#[tokio::test]
async fn files_of_different_answers_have_one_length() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    let mut lengths = std::collections::BTreeSet::new();
    for k in 0..3 {
        let rows = vec![head.row(0, "a", k), head.row(1, "b", k)];
        lengths.insert(guest.client.fhe(&request(&user, rows)).await.unwrap().len());
    }
    assert_eq!(lengths.len(), 1);
}

type Spoil = fn(&mut FheRow);

/// ATTACKS 1 and 11: each ends the session and quarantines guest and batch, and answers nothing.
#[tokio::test]
async fn a_dishonest_row_ends_the_session_and_quarantines_guest_and_batch() {
    let rows: [(&str, Spoil); 6] = [
        ("one unit of a body", |row| row.y.0[0] ^= 1),
        ("another activation", |row| row.x.0[3] ^= 1),
        ("a scale outside the range", |row| row.s *= 1_000.0),
        ("an activation below -127", |row| row.x.0[0] = 0x80),
        ("a missing sum", |row| row.y.0.truncate(16)),
        ("half a sum", |row| row.y.0.truncate(20)),
    ];
    for (what, spoil) in rows {
        let (world, head) = (World::new(), EncryptedHead::new());
        let open = head.registered(&world, |_| ()).await;
        let user = User::new(&open, 5).await;
        let guest = opened(&open, &user).await;
        let mut request = honest(&head, &user);
        spoil(&mut request.rows[1]);
        let answer = guest.client.fhe(&request).await;
        assert!(
            matches!(answer, Err(GuestClientError::NotAttested)),
            "{what}"
        );
        let entry = open.last_entry().await;
        assert_eq!(entry.kind, EntryType::Quarantined, "{what}");
        assert!(
            entry.decision.starts_with("DishonestRow"),
            "{what}: {}",
            entry.decision
        );
        // The session is over, the guest's key attests no more, and the batch opens for nobody.
        let again = guest.client.fhe(&honest(&head, &user)).await;
        assert!(
            matches!(again, Err(GuestClientError::NotAttested)),
            "{what}"
        );
        assert!(guest.attest().await.is_err(), "{what}");
        open.assert_refused("Quarantined").await;
        let other = ready(&open).await;
        let (batch, partition) = (user.envelope.digest(), user.partition(0));
        let reopened = other.client.unwrap(batch, 0, partition.header()).await;
        assert!(reopened.is_err(), "{what}");
        open.assert_refused("Quarantined").await;
    }
}

#[tokio::test]
async fn rows_that_do_not_make_up_the_partition_are_refused() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    for rows in [
        vec![],
        vec![head.row(1, "b", 0)],
        vec![head.row(0, "a", 0), head.row(0, "b", 0)],
        vec![head.row(0, "a", 0), head.row(2, "b", 0)],
        vec![
            head.row(0, "a", 0),
            head.row(1, "b", 0),
            head.row(2, "c", 0),
        ],
    ] {
        refused_in_session(&guest.client.fhe(&request(&user, rows)).await);
        open.assert_refused("OtherRows").await;
    }
    let layer = FheRequest {
        layer: "other".into(),
        ..honest(&head, &user)
    };
    refused_in_session(&guest.client.fhe(&layer).await);
    open.assert_refused("UnknownLayer").await;
    let unopened = FheRequest {
        partition: 1,
        ..request(&user, vec![head.row(0, "c", 0)])
    };
    refused_in_session(&guest.client.fhe(&unopened).await);
    open.assert_refused("OtherRows").await;
}

/// The rows of a wide layer do not fit one request.
#[tokio::test]
async fn a_partition_may_come_in_several_requests() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    let first = request(&user, vec![head.row(0, "a", 0)]);
    let second = request(&user, vec![head.row(1, "b", 2)]);
    // Asked for again, it begins anew.
    for _ in 0..2 {
        assert!(guest.client.fhe(&first).await.unwrap().is_empty());
        assert_eq!(open.last_entry().await.kind, EntryType::FheReserved);
    }
    let file = guest.client.fhe(&second).await.unwrap();
    assert_eq!(open.last_entry().await.kind, EntryType::FheResult);
    let lines = lines(&user, &file);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["response"]["body"]["label"], LABELS[0]);
    assert_eq!(lines[2]["response"]["body"]["label"], LABELS[2]);
    assert_eq!(lines[2]["id"], "0-1");
    // With the file its records are gone.
    refused_in_session(&guest.client.fhe(&second).await);
    open.assert_refused("OtherRows").await;
}

#[tokio::test]
async fn rows_follow_only_those_of_their_own_run_and_session() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    let first = request(&user, vec![head.row(0, "a", 0)]);
    let second = request(&user, vec![head.row(1, "b", 2)]);
    guest.client.fhe(&first).await.unwrap();
    let other_run = FheRequest {
        run: "run-2".into(),
        ..second.clone()
    };
    refused_in_session(&guest.client.fhe(&other_run).await);
    open.assert_refused("OtherRows").await;
    let other_guest = ready(&open).await;
    refused_in_session(&other_guest.client.fhe(&second).await);
    open.assert_refused("OtherRows").await;
    assert!(!guest.client.fhe(&second).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_dishonest_row_in_a_later_request_ends_the_session_as_in_the_first() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    let first = request(&user, vec![head.row(0, "a", 0)]);
    let mut second = request(&user, vec![head.row(1, "b", 2)]);
    second.rows[0].y.0[0] ^= 1;
    guest.client.fhe(&first).await.unwrap();
    let answer = guest.client.fhe(&second).await;
    assert!(matches!(answer, Err(GuestClientError::NotAttested)));
    assert_eq!(open.last_entry().await.kind, EntryType::Quarantined);
}

/// ATTACKS 12: the budget counts answers, not requests.
#[tokio::test]
async fn a_retry_is_free_and_an_altered_activation_is_charged() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    // Three labels cost two bits; there is room for three rows.
    let budget = Budget {
        rows: 100,
        answer_bits: 6,
    };
    let user = User::with(&open, 5, |grant| grant.budget = budget, |_| ()).await;
    let guest = opened(&open, &user).await;
    guest.client.fhe(&honest(&head, &user)).await.unwrap();
    guest.client.fhe(&honest(&head, &user)).await.unwrap();
    let altered = |x| request(&user, vec![head.row(0, "a", 0), head.row(1, "b", x)]);
    guest.client.fhe(&altered(1)).await.unwrap();
    let second = request(&user, vec![head.row(0, "a", 1), head.row(1, "b", 1)]);
    refused_in_session(&guest.client.fhe(&second).await);
    open.assert_refused("BudgetUsedUp").await;
    guest.client.fhe(&altered(2)).await.unwrap();
}

#[tokio::test]
async fn the_same_activation_under_another_scale_is_charged() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let budget = Budget {
        rows: 100,
        answer_bits: 4,
    };
    let user = User::with(&open, 5, |grant| grant.budget = budget, |_| ()).await;
    let guest = opened(&open, &user).await;
    guest.client.fhe(&honest(&head, &user)).await.unwrap();
    let mut x = [0; crate::encrypted_head::D_IN];
    x[0] = 100;
    let rows = vec![head.evaluated((0, "a"), &x, 0.02), head.row(1, "b", 2)];
    refused_in_session(&guest.client.fhe(&request(&user, rows)).await);
    open.assert_refused("BudgetUsedUp").await;
}

/// Rows are reserved before they are decrypted: whatever happens in between, they are charged.
#[tokio::test]
async fn rows_stand_in_the_log_before_their_result_does() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    guest.client.fhe(&honest(&head, &user)).await.unwrap();
    let tree = open.head().await;
    let reserved = open.client().log_entry(tree.size - 2, &tree).await.unwrap();
    let reserved: sealift_key_manager::LogEntry = serde_json::from_str(&reserved.leaf).unwrap();
    assert_eq!(reserved.kind, EntryType::FheReserved);
    assert_eq!(reserved.subjects["rows"], "2");
}

#[tokio::test]
async fn full_scores_are_released_only_where_the_owner_allows_them() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let scores = OutputPolicy::DangerousFullScores { decimals: 1 };
    let open = head.registered(&world, |_| ()).await;
    let user = User::with(
        &open,
        5,
        |grant| grant.output_policy = scores,
        |seal| {
            seal.output_policy = scores;
            seal.pad = 512;
        },
    )
    .await;
    let guest = opened(&open, &user).await;
    refused_in_session(&guest.client.fhe(&honest(&head, &user)).await);
    open.assert_refused("Results").await;

    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head
        .registered(&world, |register| register.output_policy = scores)
        .await;
    let user = User::with(
        &open,
        5,
        |grant| grant.output_policy = scores,
        |seal| {
            seal.output_policy = scores;
            seal.pad = 512;
        },
    )
    .await;
    let guest = opened(&open, &user).await;
    let file = guest.client.fhe(&honest(&head, &user)).await.unwrap();
    let logits = lines(&user, &file)[1]["response"]["body"]["logits"].clone();
    // The step of 0.1 is taken at the largest scale, 1.0; at 0.01 it is 0.001 and the answer is
    // 100 · 100 · 0.01 · 0.01 = 1.
    assert_eq!(logits, serde_json::json!([1.0, 0.0, 0.0]));
}

#[tokio::test]
async fn a_receipt_names_the_file_that_the_key_manager_made() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let user = User::new(&open, 5).await;
    let worker = crate::batches::Worker::new(&open, &user).await;
    let file = worker
        .guest
        .client
        .fhe(&honest(&head, &user))
        .await
        .unwrap();
    let mut receipt = worker.receipt(&open, &user, 0);
    assert_eq!(receipt.assurance, Assurance::Simulated);
    let invented = worker.guest.client.commit(&worker.signed(&receipt)).await;
    assert!(matches!(
        invented,
        Err(GuestClientError::CallRefused { op: Op::Commit })
    ));
    open.assert_refused("OtherReceipt").await;
    receipt.output_sha256 = Digest::of(&file);
    assert!(
        worker
            .guest
            .client
            .commit(&worker.signed(&receipt))
            .await
            .unwrap()
            .first
    );
    let forged = sign(&receipt, &SigningKey::generate()).unwrap();
    assert!(worker.guest.client.commit(&forged).await.is_err());
}

/// Its owner learns of a mistake when it pushes, not when its first user waits.
#[tokio::test]
async fn a_layer_whose_labels_or_secret_do_not_fit_is_refused_at_the_push() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = world.open().await;
    open.install().await;
    let mut renamed = head.bundle(&LABELS);
    let layer = renamed.fhe.remove(LAYER).unwrap();
    renamed.fhe.insert("other".into(), layer);
    let unnamed = keys(head.layer_bundle());
    for bundle in [head.bundle(&LABELS[..2]), unnamed, renamed] {
        let pushed = open.register_with(open.registration(), &bundle).await;
        assert!(matches!(pushed, Err(KeyManagerClientError::Refused { .. })));
        open.assert_refused("BadLayer").await;
    }
    open.register_with(open.registration(), &head.bundle(&LABELS))
        .await
        .unwrap();
}
