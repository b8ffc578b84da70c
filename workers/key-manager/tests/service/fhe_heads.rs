//! An encrypted layer of several heads: its rows are checked as one, and each head answers for
//! itself.

use sealift_encrypted_batch::{Budget, OutputPolicy};
use sealift_kbs_protocol::{GuestClientError, KeyManagerClientError, call::FheRequest};
use sealift_key_manager::EntryType;

use crate::{
    batches::User,
    encrypted_head::{EncryptedHead, LAYER, registered},
    fhe::{lines, opened, refused_in_session, request},
    harness::World,
};

/// Rows 0 and 1 are those of `mood`, row 2 is that of `topic`.
const HEADS: [(&str, &[&str]); 2] = [("mood", &["calm", "upset"]), ("topic", &["music"])];

/// Bytes of one output's sum in a row.
const SUM_BYTES: usize = 8;

#[tokio::test]
async fn each_head_of_a_decrypted_row_answers_for_itself() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = registered(&world, &head.bundle_of_heads(&HEADS), |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    // The highest score of all is that of `topic`, and `mood` answers all the same.
    let rows = vec![head.row(0, "a", 1), head.row(1, "b", 2)];
    let file = guest.client.fhe(&request(&user, rows)).await.unwrap();
    let lines = lines(&user, &file);
    let labels = |line: usize| lines[line]["response"]["body"]["labels"].clone();
    let answer = |mood: &str| serde_json::json!({"mood": mood, "topic": "music"});
    assert_eq!(labels(1), answer("upset"));
    assert_eq!(labels(2), answer("calm"));
}

#[tokio::test]
async fn files_of_different_answers_of_several_heads_have_one_length() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = registered(&world, &head.bundle_of_heads(&HEADS), |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    let mut lengths = std::collections::BTreeSet::new();
    for k in 0..3 {
        let rows = vec![head.row(0, "a", k), head.row(1, "b", k)];
        lengths.insert(guest.client.fhe(&request(&user, rows)).await.unwrap().len());
    }
    assert_eq!(lengths.len(), 1);
}

#[tokio::test]
async fn full_scores_of_several_heads_stand_under_their_names() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let scores = OutputPolicy::DangerousFullScores { decimals: 1 };
    let open = registered(&world, &head.bundle_of_heads(&HEADS), |register| {
        register.output_policy = scores;
    })
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
    let rows = vec![head.row(0, "a", 1), head.row(1, "b", 2)];
    let file = guest.client.fhe(&request(&user, rows)).await.unwrap();
    let body = lines(&user, &file)[1]["response"]["body"].clone();
    let expected = serde_json::json!({"mood": [0.0, 1.0], "topic": [0.0]});
    assert_eq!(body["logits"], expected);
}

/// Two rows cost the bits of every head: one each, where the three labels of one head would cost
/// two.
#[tokio::test]
async fn an_answer_is_charged_the_bits_of_every_head() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let three: [(&str, &[&str]); 3] = [("x", &["a"]), ("y", &["b"]), ("z", &["c"])];
    let open = registered(&world, &head.bundle_of_heads(&three), |_| ()).await;
    let rows = || vec![head.row(0, "a", 0), head.row(1, "b", 1)];
    for (seq, answer_bits, enough) in [(5, 5, false), (6, 6, true)] {
        let budget = Budget {
            rows: 100,
            answer_bits,
        };
        let user = User::with(&open, seq, |grant| grant.budget = budget, |_| ()).await;
        let guest = opened(&open, &user).await;
        let answered = guest.client.fhe(&request(&user, rows())).await;
        assert_eq!(answered.is_ok(), enough, "{answer_bits} bits");
        if !enough {
            refused_in_session(&answered);
            open.assert_refused("BudgetUsedUp").await;
        }
    }
}

/// A row is bound to the whole layer: sums of one head in the place of another's are no row of it.
#[tokio::test]
async fn sums_of_one_head_offered_for_another_are_refused() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = registered(&world, &head.bundle_of_heads(&HEADS), |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    let mut rows = vec![head.row(0, "a", 0), head.row(1, "b", 1)];
    // Those of `topic` before those of `mood`.
    rows[1].y.0.rotate_right(SUM_BYTES);
    let answer = guest.client.fhe(&request(&user, rows)).await;
    assert!(matches!(answer, Err(GuestClientError::NotAttested)));
    let entry = open.last_entry().await;
    assert_eq!(entry.kind, EntryType::Quarantined);
    assert!(
        entry.decision.starts_with("DishonestRow"),
        "{}",
        entry.decision
    );
}

#[tokio::test]
async fn a_row_of_one_layer_offered_for_another_is_refused() {
    let world = World::new();
    let (head, other) = (EncryptedHead::new(), EncryptedHead::named("other"));
    let mut bundle = head.bundle_of_heads(&HEADS);
    let of_head = bundle.fhe[LAYER].labels().unwrap().clone();
    let of_other = other.layer_bundle().with_labels(of_head);
    bundle.fhe.insert("other".to_owned(), of_other);
    let open = registered(&world, &bundle, |_| ()).await;
    let user = User::new(&open, 5).await;
    let guest = opened(&open, &user).await;
    let rows = vec![other.row(0, "a", 0), other.row(1, "b", 1)];
    let offered = FheRequest {
        layer: "other".into(),
        ..request(&user, rows.clone())
    };
    guest.client.fhe(&offered).await.unwrap();
    let answer = guest.client.fhe(&request(&user, rows)).await;
    assert!(matches!(answer, Err(GuestClientError::NotAttested)));
    let entry = open.last_entry().await;
    assert!(
        entry.decision.starts_with("DishonestRow"),
        "{}",
        entry.decision
    );
}

#[tokio::test]
async fn heads_whose_labels_do_not_add_up_to_the_outputs_are_refused_at_the_push() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = world.open().await;
    open.install().await;
    let few: [(&str, &[&str]); 2] = [("mood", &["calm"]), ("topic", &["music"])];
    let many: [(&str, &[&str]); 2] = [HEADS[0], ("topic", &["music", "sport"])];
    for heads in [few, many] {
        let bundle = head.bundle_of_heads(&heads);
        let pushed = open.register_with(open.registration(), &bundle).await;
        assert!(matches!(pushed, Err(KeyManagerClientError::Refused { .. })));
        open.assert_refused("BadLayer").await;
    }
    let bundle = head.bundle_of_heads(&HEADS);
    open.register_with(open.registration(), &bundle)
        .await
        .unwrap();
}
