//! The witness: what stops a key manager that it does not see, and what it refuses to cosign.

use sealift_kbs_protocol::{
    KeyManagerClientError, Signer, UnlockGrant,
    merkle::{TreeHead, empty_root},
};
use sealift_signed_document::{Digest, Role, SigningKey};

use crate::harness::{NOW, OpenKm, Owner, World, delegate};

#[tokio::test]
async fn a_key_manager_that_no_witness_sees_stops_after_a_minute() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    world.at(NOW + 60);
    guest.key().await.unwrap();
    world.at(NOW + 61);
    let refused = guest.key().await.err().unwrap();
    assert!(refused.is_transient(), "{refused}");
    assert!(
        open.guest()
            .await
            .attest()
            .await
            .err()
            .unwrap()
            .is_transient()
    );
    open.witness(NOW + 61).await;
    guest.key().await.unwrap();
}

#[tokio::test]
async fn an_idle_key_manager_that_was_seen_answers_after_hours() {
    let world = World::new();
    let open = world.with_version().await;
    open.witness(NOW).await;
    world.at(NOW + 36_000);
    open.attested().await.key().await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_continues_what_was_seen() {
    let world = World::new();
    let open = world.open().await;
    let seen = open.witness(NOW).await;
    open.install().await;
    let checkpoint = open.client().checkpoint(&open.km, &seen).await.unwrap();
    assert_eq!(checkpoint.head().size, seen.size + 2);
    let forked = TreeHead {
        root: Digest::of(b"another history"),
        ..seen
    };
    let refused = open.client().checkpoint(&open.km, &forked).await;
    assert!(matches!(refused, Err(KeyManagerClientError::Forked)));
    let longer = TreeHead {
        size: 1_000,
        ..seen
    };
    let refused = open.client().checkpoint(&open.km, &longer).await;
    assert!(matches!(
        refused,
        Err(KeyManagerClientError::Refused { .. })
    ));
}

#[tokio::test]
async fn only_a_delegated_witness_cosigns() {
    let world = World::new();
    let open = world.open().await;
    let seen = TreeHead {
        size: 0,
        root: empty_root(),
    };
    let checkpoint = open.client().checkpoint(&open.km, &seen).await.unwrap();
    let (stranger, owner) = (SigningKey::generate(), &world.owner);
    let foreign = Owner::new();
    let admin = delegate(&owner.root, &stranger, Role::Admin, &[]);
    for signer in [
        foreign.witness(),
        Signer {
            key: &stranger,
            delegation: &owner.witness_delegation,
        },
        Signer {
            key: &stranger,
            delegation: &admin,
        },
    ] {
        let refused = open.client().cosign(&checkpoint, signer, NOW).await;
        assert!(matches!(
            refused,
            Err(KeyManagerClientError::Refused { .. })
        ));
    }
    open.client()
        .cosign(&checkpoint, owner.witness(), NOW)
        .await
        .unwrap();
}

/// ATTACKS 24: the host sets the clock back.
#[tokio::test]
async fn log_time_never_falls_below_what_was_witnessed() {
    let world = World::new();
    let open = world.open().await;
    open.witness(NOW + 1_000).await;
    world.at(NOW - 31_536_000);
    open.install().await;
    assert_eq!(open.last_entry().await.time, NOW + 1_000);
    let seen = open.head().await;
    let identity = *open.km.identity().unwrap();
    open.running.stop().await;

    let running = world.boot().await;
    let grant = UnlockGrant {
        identity: Some(&identity),
        epoch: 2,
        head: seen,
        time: NOW + 2_000,
        state_key: &world.state_key,
    };
    let km = world.unlock(&running, &grant).await;
    // The delegation is judged by the host's clock before the log is open, by log time after.
    let open = OpenKm {
        world: &world,
        running,
        km: km.unwrap(),
    };
    assert_eq!(open.last_entry().await.time, NOW + 2_000);
}
