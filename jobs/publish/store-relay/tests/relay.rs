//! What a relay serves, and what it does not.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, memory::InMemory,
    path::Path,
};
use sealift_signed_document::Digest;
use sealift_store_relay::{RelayedStore, StoreRelay};

/// A store with some objects, and the same one behind a relay.
async fn relayed() -> (Arc<InMemory>, RelayedStore) {
    let store = Arc::new(InMemory::new());
    for (location, bytes) in [
        ("blobs/sha256/ab/abcd", "piece"),
        ("versions/m/1.json", "first"),
        ("versions/m/1@/1.json", "second"),
        ("versions/n/1.json", "other"),
        ("batches/b/0.age", "partition"),
        ("publishing/x", "mark"),
    ] {
        store.put(&location.into(), bytes.into()).await.unwrap();
    }
    let loopback = "127.0.0.1:0".parse().unwrap();
    let relay = StoreRelay::bind(loopback, store.clone()).await.unwrap();
    let url = relay.url().parse().unwrap();
    tokio::spawn(relay.serve());
    (store, RelayedStore::new(url))
}

async fn create(store: &RelayedStore, location: &str, bytes: &'static [u8]) -> Result<(), Error> {
    let options = PutOptions::from(PutMode::Create);
    let payload = PutPayload::from_static(bytes);
    store
        .put_opts(&location.into(), payload, options)
        .await
        .map(drop)
}

fn result(bytes: &[u8]) -> String {
    format!("results/b/0/{}.age", Digest::of(bytes))
}

#[tokio::test]
async fn objects_are_read_as_they_are_and_absent_ones_are_named() {
    let (_, relayed) = relayed().await;
    for (location, bytes) in [
        ("blobs/sha256/ab/abcd", "piece"),
        ("versions/m/1@/1.json", "second"),
        ("batches/b/0.age", "partition"),
    ] {
        let found = relayed.get(&location.into()).await.unwrap();
        assert_eq!(found.meta.size, bytes.len() as u64);
        assert_eq!(found.bytes().await.unwrap(), bytes);
    }
    let absent = relayed.get(&"blobs/sha256/ab/none".into()).await;
    assert!(matches!(absent, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_folder_of_versions_is_listed() {
    let (_, relayed) = relayed().await;
    let folder = Path::from("versions/m");
    let listed: Vec<_> = relayed.list(Some(&folder)).try_collect().await.unwrap();
    let mut locations: Vec<_> = listed
        .iter()
        .map(|object| object.location.as_ref())
        .collect();
    locations.sort_unstable();
    assert_eq!(locations, ["versions/m/1.json", "versions/m/1@/1.json"]);
}

#[tokio::test]
async fn a_result_file_is_created_once_and_never_replaced() {
    let (store, relayed) = relayed().await;
    let location = result(b"result");
    create(&relayed, &location, b"result").await.unwrap();
    let again = create(&relayed, &location, b"result").await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));
    let kept = store.get(&location.into()).await.unwrap();
    assert_eq!(kept.bytes().await.unwrap(), "result");
}

#[tokio::test]
async fn nothing_else_is_written() {
    let (store, relayed) = relayed().await;
    let digest = Digest::of(b"x");
    for location in [
        // Other bytes than the name says.
        result(b"y"),
        // No such partition.
        format!("results/b/1/{digest}.age"),
        format!("results/c/0/{digest}.age"),
        // Other folders.
        format!("blobs/sha256/ab/{digest}"),
        "versions/m/2.json".to_owned(),
        "batches/b/1.age".to_owned(),
        format!("results/{digest}.age"),
    ] {
        let refused = create(&relayed, &location, b"x").await;
        assert!(refused.is_err(), "{location}");
        assert!(store.head(&location.as_str().into()).await.is_err());
    }
    let replaced = relayed.put(&result(b"x").into(), "x".into()).await;
    assert!(matches!(replaced, Err(Error::NotImplemented { .. })));
    let deleted = relayed.delete(&"batches/b/0.age".into()).await;
    assert!(deleted.is_err());
}

#[tokio::test]
async fn nothing_else_is_read() {
    let (_, relayed) = relayed().await;
    let marks = relayed.get(&"publishing/x".into()).await;
    assert!(matches!(marks, Err(Error::Generic { .. })));
    for folder in ["blobs", "publishing"] {
        let folder = Path::from(folder);
        let listed = relayed.list(Some(&folder)).try_collect::<Vec<_>>().await;
        assert!(listed.is_err(), "{folder}");
    }
}

#[tokio::test]
async fn a_relay_that_is_gone_is_a_store_that_does_not_answer() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let relayed = RelayedStore::new(format!("https://{address}").parse().unwrap());
    let refused = relayed.get(&"batches/b/0.age".into()).await;
    assert!(matches!(refused, Err(Error::Generic { .. })));
}
