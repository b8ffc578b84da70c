//! Publishing ends the same however often it is stopped, and trusts the store with nothing.

use std::{fs, ops::ControlFlow, sync::Arc};

use crate::faulty::{Fault, Faulty};
use crate::support::{Sealed, content, publish, sealed, sealed_as};
use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload, memory::InMemory, path::Path};
use sealift_model_store::{ModelStore, StoreError};
use sealift_signed_document::Digest;

/// What a spoiled object holds instead of its bytes.
pub(crate) type Spoil = fn(&[u8]) -> Vec<u8>;

pub(crate) const DOCUMENT: &str = "versions/tiny/v1.json";

pub(crate) fn in_memory() -> (Arc<InMemory>, ModelStore) {
    let memory = Arc::new(InMemory::new());
    (memory.clone(), ModelStore::new(memory))
}

pub(crate) async fn published() -> (Sealed, Arc<InMemory>, ModelStore) {
    let (sealed, (memory, store)) = (sealed(), in_memory());
    publish(&store, &sealed).await.unwrap();
    (sealed, memory, store)
}

pub(crate) async fn put(memory: &InMemory, location: &str, bytes: impl Into<Bytes>) {
    let payload = PutPayload::from_bytes(bytes.into());
    memory.put(&Path::from(location), payload).await.unwrap();
}

pub(crate) fn blob(digest: &Digest) -> String {
    let hex = digest.to_string();
    format!("blobs/sha256/{}/{hex}", &hex[..2])
}

#[tokio::test]
async fn a_published_version_is_fetched_verified_and_opened() {
    let (sealed, _, store) = published().await;
    sealed.open_from(&store).await.unwrap();
}

#[tokio::test]
async fn a_folder_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::in_folder(&folder.path().join("store")).unwrap();
    let sealed = sealed();
    publish(&store, &sealed).await.unwrap();
    sealed.open_from(&store).await.unwrap();
    assert!(folder.path().join("store").join(DOCUMENT).is_file());
}

#[tokio::test]
async fn the_store_holds_one_blob_for_each_piece_at_the_address_of_its_digest() {
    let (sealed, memory, store) = published().await;
    let content = content(memory.as_ref()).await;
    for (location, bytes) in &content {
        if location != DOCUMENT {
            assert_eq!(*location, blob(&Digest::of(bytes)));
        }
    }
    let document = store
        .document(&sealed.pinned.model, &sealed.pinned.version)
        .await
        .unwrap();
    assert_eq!(content.len(), document.blobs().len() + 1);
    let weights = document
        .files
        .iter()
        .find(|file| file.name.as_str() == "model-00001-of-00001.safetensors")
        .unwrap();
    assert_eq!(weights.pieces.len(), 2, "the header is a piece of its own");
    assert_eq!(weights.pieces[1].bytes, 96 * 4);
}

#[tokio::test]
async fn publishing_again_sends_nothing_and_ends_the_same() {
    let (sealed, memory, store) = published().await;
    let before = content(memory.as_ref()).await;
    let again = publish(&store, &sealed).await.unwrap();
    assert_eq!(again.sent_bytes, 0);
    assert_eq!(content(memory.as_ref()).await, before);
}

#[tokio::test]
async fn publishing_that_fails_at_any_operation_ends_the_same_when_run_again() {
    let sealed = sealed();
    let counting = Faulty::new(Arc::new(InMemory::new()), Fault::None);
    publish(&ModelStore::new(counting.clone()), &sealed)
        .await
        .unwrap();
    let expected = content(counting.inner.as_ref()).await;
    let operations = counting.operations();
    assert!(operations > 15, "{operations}");
    for fault in [Fault::FailsBefore as fn(usize) -> Fault, Fault::FailsAfter] {
        for at in 0..operations {
            let memory = Arc::new(InMemory::new());
            let faulty = ModelStore::new(Faulty::new(memory.clone(), fault(at)));
            let failed = publish(&faulty, &sealed).await.unwrap_err();
            assert!(failed.is_transient(), "{:?}: {failed}", fault(at));
            let left = content(memory.as_ref()).await;
            if left.contains_key(DOCUMENT) {
                // The document was created and the answer was lost: the version exists, whole.
                sealed
                    .open_from(&ModelStore::new(memory.clone()))
                    .await
                    .unwrap();
            }
            publish(&ModelStore::new(memory.clone()), &sealed)
                .await
                .unwrap();
            assert_eq!(content(memory.as_ref()).await, expected, "{:?}", fault(at));
        }
    }
}

#[tokio::test]
async fn publishing_stopped_after_any_piece_leaves_no_version() {
    let sealed = sealed();
    let mut steps = 0;
    loop {
        let (memory, store) = in_memory();
        let mut left = steps;
        let mut stop = |_| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            ControlFlow::Continue(())
        };
        match store.publish(&sealed.verified(), &mut stop).await {
            Err(StoreError::Cancelled) => {
                assert!(!content(memory.as_ref()).await.contains_key(DOCUMENT));
                let none = store
                    .fetch(&sealed.pinned.model, &sealed.pinned.version)
                    .await;
                assert!(matches!(none.map(drop), Err(StoreError::NoVersion { .. })));
            }
            done => {
                done.unwrap();
                break;
            }
        }
        steps += 1;
    }
    assert!(steps >= 6, "{steps}");
}

#[tokio::test]
async fn an_unwritable_store_is_a_lack_of_rights_and_is_not_tried_again() {
    let store = ModelStore::new(Faulty::new(Arc::new(InMemory::new()), Fault::Denied));
    let refused = publish(&store, &sealed()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Denied { .. }), "{refused}");
    assert!(!refused.is_transient());
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = ModelStore::in_folder(&file.path().join("store")).unwrap_err();
    assert!(
        refused.to_string().contains("cannot be the store"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_piece_that_the_store_holds_cut_or_changed_is_sent_again() {
    let spoils: [Spoil; 2] = [|bytes| bytes[1..].to_vec(), |bytes| vec![0; bytes.len()]];
    for spoil in spoils {
        let (sealed, memory, store) = published().await;
        // With its document the version would be taken as it is.
        memory.delete(&Path::from(DOCUMENT)).await.unwrap();
        put(&memory, &blob(&Digest::of(b"{}")), spoil(b"{}")).await;
        assert_eq!(publish(&store, &sealed).await.unwrap().sent_bytes, 2);
        sealed.open_from(&store).await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_lies_when_it_is_read_back_is_refused() {
    // Reading back what was sent is the first reading; publishing again reads a second time.
    let (memory, _) = in_memory();
    let lying = Faulty::new(memory, Fault::LiesAtSecondRead);
    let store = ModelStore::new(lying);
    let sealed = sealed();
    publish(&store, &sealed).await.unwrap();
    let again = publish(&store, &sealed).await.unwrap_err();
    assert!(matches!(again, StoreError::ChangedPiece(_)), "{again}");
}

#[tokio::test]
async fn a_version_is_never_replaced_by_another_of_its_name() {
    let (first, memory, store) = published().await;
    let before = content(memory.as_ref()).await[DOCUMENT].clone();
    let other = sealed();
    let refused = publish(&store, &other).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::VersionExists { .. }),
        "{refused}"
    );
    assert_eq!(content(memory.as_ref()).await[DOCUMENT], before);
    first.open_from(&store).await.unwrap();
}

#[tokio::test]
async fn a_local_file_that_changes_while_it_is_published_is_refused() {
    let (sealed, (memory, store)) = (sealed(), in_memory());
    let verified = sealed.verified();
    fs::write(sealed.folder().join("config.json"), b"[]").unwrap();
    let refused = store
        .publish(&verified, &mut |_| ControlFlow::Continue(()))
        .await
        .unwrap_err();
    assert!(matches!(&refused, StoreError::LocalChanged(name) if name.as_str() == "config.json"));
    assert!(!content(memory.as_ref()).await.contains_key(DOCUMENT));
}

#[tokio::test]
async fn removing_a_version_takes_back_its_own_document_alone() {
    let (sealed, memory, store) = published().await;
    let (model, version) = (&sealed.pinned.model, &sealed.pinned.version);
    let refused = store
        .remove(model, version, &Digest::of(b"other"))
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::VersionExists { .. }));
    for _ in 0..2 {
        store
            .remove(model, version, &sealed.pinned.manifest_sha256)
            .await
            .unwrap();
        assert!(!content(memory.as_ref()).await.contains_key(DOCUMENT));
    }
    publish(&store, &sealed).await.unwrap();
    sealed.open_from(&store).await.unwrap();
}

#[tokio::test]
async fn pieces_are_sent_side_by_side_but_never_more_than_four() {
    let faulty = Faulty::new(Arc::new(InMemory::new()), Fault::None);
    let store = ModelStore::new(faulty.clone());
    publish(&store, &sealed()).await.unwrap();
    let peak = faulty.pieces_written_at_once();
    assert!((2..=4).contains(&peak), "{peak}");
}

#[tokio::test]
async fn a_version_whose_first_revision_was_rotated_away_is_not_published_anew() {
    let (mut sealed, memory, store) = published().await;
    let first = sealed.verified();
    let (model, version) = (sealed.pinned.model.clone(), sealed.pinned.version.clone());
    let old = sealed.pinned.manifest_sha256;
    sealed.rotate();
    publish(&store, &sealed).await.unwrap();
    store.remove(&model, &version, &old).await.unwrap();
    assert!(!content(memory.as_ref()).await.contains_key(DOCUMENT));
    let other = crate::support::sealed();
    let mut go_on = |_| ControlFlow::Continue(());
    let refused = [
        store.publish(&first, &mut go_on).await.unwrap_err(),
        publish(&store, &other).await.unwrap_err(),
    ];
    for refused in refused {
        let taken = matches!(refused, StoreError::VersionExists { .. });
        assert!(taken, "{refused}");
    }
    sealed.open_from(&store).await.unwrap();
    let revisions = store.revisions(&model, &version).await.unwrap();
    assert_eq!(revisions.len(), 1);
}

/// Whoever can write to the store can write a document; what is pinned is fetched all the same.
#[tokio::test]
async fn a_document_that_somebody_put_there_does_not_hide_the_pinned_revision() {
    let (mut sealed, memory, store) = published().await;
    sealed.rotate();
    publish(&store, &sealed).await.unwrap();
    let content = content(memory.as_ref()).await;
    let genuine = String::from_utf8(content["versions/tiny/v1@/1.json"].to_vec()).unwrap();
    let manifest = sealed.pinned.manifest_sha256.to_string();
    let forged = genuine
        .replace(&manifest, &Digest::of(b"forged").to_string())
        .replace("\"revision\":1", "\"revision\":9");
    put(&memory, "versions/tiny/v1@/9.json", forged).await;
    sealed.open_from(&store).await.unwrap();
    put(&memory, "versions/tiny/v1@/x.json", "{}").await;
    let foreign = store.revisions(&sealed.pinned.model, &sealed.pinned.version);
    assert!(matches!(foreign.await, Err(StoreError::Foreign(_))));
}

#[tokio::test]
async fn the_newest_version_is_the_one_with_the_highest_serial() {
    let (_, store) = in_memory();
    let model = "tiny".parse().unwrap();
    assert!(store.newest(&model).await.unwrap().is_none());
    let newer = sealed_as("a", 2);
    publish(&store, &newer).await.unwrap();
    publish(&store, &sealed_as("b", 1)).await.unwrap();
    let newest = store.newest(&model).await.unwrap().unwrap();
    newest.verify(&newer.pinned).unwrap();
}
