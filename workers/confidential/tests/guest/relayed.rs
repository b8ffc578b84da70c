//! Guests that reach their store through the operator's relay, which may answer anything.

use std::sync::Arc;

use object_store::local::LocalFileSystem;
use sealift_confidential::{FailReason, FailureCode, Phase};
use sealift_store_relay::StoreRelay;

use crate::{
    scoring::{User, refused, scored},
    spoiled_store::{Fault, Spoil, SpoiledStore},
    world::{Running, World},
};

/// A world whose store stands behind a relay.
struct Relayed {
    world: World,
    store: SpoiledStore,
    url: String,
}

impl Relayed {
    async fn new() -> Self {
        let world = World::new().await;
        let folder = LocalFileSystem::new_with_prefix(world.store()).unwrap();
        let store = SpoiledStore::new(Arc::new(folder));
        let loopback = "127.0.0.1:0".parse().unwrap();
        let relay = StoreRelay::bind(loopback, Arc::new(store.clone())).await;
        let relay = relay.unwrap();
        let url = relay.url();
        tokio::spawn(relay.serve());
        Self { world, store, url }
    }

    async fn started(&self) -> Running {
        let inputs = self.world.relayed_inputs(self.url.clone());
        let running = Running::start(inputs).await.unwrap();
        running.guest.start().await;
        running
    }
}

fn fault(spoil: Spoil, folder: &'static str) -> Fault {
    Fault {
        spoil,
        folder,
        once: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_behind_a_relay_opens_its_model_and_leaves_results() {
    let relayed = Relayed::new().await;
    let running = relayed.started().await;
    assert_eq!(running.phase(), Phase::Serving);
    let user = User::of(&relayed.world, 5).await;
    for (partition, rows) in [(0, 3), (1, 2)] {
        let answer = scored(&running, &user.dispatch(partition)).await;
        assert_eq!(user.open(&relayed.world, &answer).rows().len(), rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_answers_other_pieces_or_denies_them_starts_no_guest() {
    let relayed = Relayed::new().await;
    for spoil in [Spoil::Others, Spoil::Denies] {
        relayed.store.spoil(fault(spoil, "blobs"));
        let running = relayed.started().await;
        let expected = Phase::Failed(FailReason::ModelUnverified);
        assert_eq!(running.phase(), expected, "{spoil:?}");
    }
    relayed.store.spoil(None);
    assert_eq!(relayed.started().await.phase(), Phase::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_breaks_off_is_asked_for_again() {
    let relayed = Relayed::new().await;
    relayed.store.spoil(Fault {
        once: true,
        ..fault(Spoil::CutOff, "blobs")
    });
    assert_eq!(relayed.started().await.phase(), Phase::Serving);
}

/// Each is named for what it is, and spends nothing: the same dispatch is answered afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_spoils_partitions_or_takes_no_results_is_found_out_and_loses_nothing() {
    let relayed = Relayed::new().await;
    let running = relayed.started().await;
    let user = User::of(&relayed.world, 5).await;
    for (spoil, folder, code, retryable) in [
        (
            Spoil::Others,
            "batches",
            FailureCode::SwappedPartition,
            false,
        ),
        (
            Spoil::Denies,
            "batches",
            FailureCode::PartitionMissing,
            false,
        ),
        (
            Spoil::CutOff,
            "batches",
            FailureCode::StoreUnavailable,
            true,
        ),
        (
            Spoil::TakesNothing,
            "results",
            FailureCode::StoreUnavailable,
            true,
        ),
    ] {
        relayed.store.spoil(fault(spoil, folder));
        let (_, body) = refused(&running, &user.dispatch(0)).await;
        assert_eq!((body.code, body.retryable), (code, retryable), "{spoil:?}");
    }
    relayed.store.spoil(None);
    let answer = scored(&running, &user.dispatch(0)).await;
    assert!(answer.counted);
    assert_eq!(user.open(&relayed.world, &answer).rows().len(), 3);
}
