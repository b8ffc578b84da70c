//! Unfit stores are refused, and garbage is never collected under a publication.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::faulty::{Fault, Faulty};
use crate::support::{content, publish, sealed};
use object_store::{ObjectStoreExt, PutPayload, memory::InMemory, path::Path};
use sealift_model_store::{CollectionMode, GarbageRules, ModelStore, StoreError, Unfitness};

const DAY: u64 = 24 * 3600;

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Rules under which everything that exists now is old.
fn all_old() -> GarbageRules {
    let grace = Duration::from_secs(DAY);
    GarbageRules {
        now_unix: now() + 2 * DAY,
        grace,
        mode: CollectionMode::Remove,
    }
}

async fn put(memory: &InMemory, location: &str) {
    memory
        .put(&Path::from(location), PutPayload::from_static(b"x"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_store_that_lies_is_refused_before_anything_is_sent() {
    for (fault, expected) in [
        (Fault::CreateOverwrites, Unfitness::CreateOverwrites),
        (Fault::CreateIgnored, Unfitness::CreateOverwrites),
        (Fault::CreateRaces, Unfitness::CreateRaces),
        (Fault::NoConditionalCreate, Unfitness::NoConditionalCreate),
        (Fault::StaleRead, Unfitness::StaleRead),
        (Fault::StaleList, Unfitness::StaleList),
    ] {
        let memory = Arc::new(InMemory::new());
        let store = ModelStore::new(Faulty::new(memory.clone(), fault));
        let refused = publish(&store, &sealed()).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Unfit(found) if found == expected),
            "{fault:?}: {refused}"
        );
        assert!(!refused.is_transient());
        let left = content(memory.as_ref()).await;
        assert!(
            left.keys().all(|name| name == "elsewhere"),
            "{fault:?}: {left:?}"
        );
    }
}

#[tokio::test]
async fn a_store_is_tested_once_for_all_clones() {
    let faulty = Faulty::new(Arc::new(InMemory::new()), Fault::None);
    let (store, sealed) = (ModelStore::new(faulty.clone()), sealed());
    publish(&store, &sealed).await.unwrap();
    let first = faulty.operations();
    publish(&store.clone(), &sealed).await.unwrap();
    let second = faulty.operations() - first;
    publish(&ModelStore::new(faulty.clone()), &sealed)
        .await
        .unwrap();
    assert!(faulty.operations() - first - second > second + 8);
}

#[tokio::test]
async fn garbage_is_not_collected_while_somebody_publishes() {
    let memory = Arc::new(InMemory::new());
    let store = ModelStore::new(memory.clone());
    put(&memory, "publishing/somebody").await;
    let mut rules = all_old();
    rules.now_unix = now();
    let refused = store.collect_garbage(rules).await.unwrap_err();
    assert!(matches!(refused, StoreError::Publishing(_)), "{refused}");
    assert!(refused.is_transient());
    assert_eq!(
        content(memory.as_ref()).await.len(),
        1,
        "the collection's own mark is gone"
    );
    // A publication that was cut off holds collections up for the grace period alone.
    store.collect_garbage(all_old()).await.unwrap();
    assert!(content(memory.as_ref()).await.is_empty());
}

#[tokio::test]
async fn a_publication_makes_its_mark_before_it_looks_for_pieces() {
    let memory = Arc::new(InMemory::new());
    let (store, sealed) = (ModelStore::new(memory.clone()), sealed());
    let mut marked = false;
    let mut collected = |_| {
        let mut rules = all_old();
        rules.now_unix = now();
        let collected = futures::executor::block_on(store.collect_garbage(rules));
        marked = matches!(collected, Err(StoreError::Publishing(_)));
        ControlFlow::Break(())
    };
    let stopped = store.publish(&sealed.verified(), &mut collected).await;
    assert!(matches!(stopped, Err(StoreError::Cancelled)));
    assert!(marked);
    let left = content(memory.as_ref()).await;
    assert!(
        left.keys().all(|name| name.starts_with("blobs/")),
        "{left:?}"
    );
}

#[tokio::test]
async fn nothing_is_published_while_garbage_is_collected() {
    let memory = Arc::new(InMemory::new());
    let store = ModelStore::new(memory.clone());
    put(&memory, "collecting/somebody").await;
    let refused = publish(&store, &sealed()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Collecting), "{refused}");
    assert!(refused.is_transient());
    assert_eq!(content(memory.as_ref()).await.len(), 1);
}

#[tokio::test]
async fn the_mark_of_a_collection_that_was_cut_off_loses_its_force_after_an_hour() {
    for (hours, published) in [(0, false), (2, true)] {
        let memory = Arc::new(InMemory::new());
        put(&memory, "collecting/somebody").await;
        let later = Faulty::new(memory, Fault::ClockJumps { at: 0, hours });
        let outcome = publish(&ModelStore::new(later), &sealed()).await;
        assert_eq!(outcome.is_ok(), published, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_publication_of_more_than_twelve_hours_does_not_commit_and_is_run_again() {
    for (hours, published) in [(11, true), (13, false)] {
        let memory = Arc::new(InMemory::new());
        let slow = Faulty::new(memory.clone(), Fault::ClockJumps { at: 1, hours });
        let sealed = sealed();
        match publish(&ModelStore::new(slow), &sealed).await {
            Ok(_) => assert!(published),
            Err(refused) => {
                assert!(matches!(refused, StoreError::TooSlow { .. }), "{refused}");
                assert!(refused.is_transient() && !published);
                let again = publish(&ModelStore::new(memory), &sealed).await.unwrap();
                assert_eq!(again.sent_bytes, 0);
            }
        }
    }
}

#[tokio::test]
async fn what_does_not_belong_keeps_everything() {
    for (foreign, names_it) in [
        ("versions/tiny/notes.txt", "versions/tiny/notes.txt"),
        ("versions/tiny/v7.json", "versions/tiny/v7.json"),
        ("blobs/sha256/ab/notes", "blobs/sha256/ab/notes"),
    ] {
        let memory = Arc::new(InMemory::new());
        let store = ModelStore::new(memory.clone());
        let sealed = sealed();
        publish(&store, &sealed).await.unwrap();
        store
            .remove(
                &sealed.pinned.model,
                &sealed.pinned.version,
                &sealed.pinned.manifest_sha256,
            )
            .await
            .unwrap();
        put(&memory, foreign).await;
        let before = content(memory.as_ref()).await;
        let refused = store.collect_garbage(all_old()).await.unwrap_err();
        assert!(refused.to_string().contains(names_it), "{refused}");
        assert_eq!(content(memory.as_ref()).await, before);
    }
}

#[tokio::test]
async fn a_grace_period_below_a_day_is_refused() {
    let store = ModelStore::new(Arc::new(InMemory::new()));
    let mut rules = all_old();
    rules.grace = Duration::from_secs(DAY - 1);
    let refused = store.collect_garbage(rules).await.unwrap_err();
    assert!(matches!(refused, StoreError::GraceTooShort), "{refused}");
}
