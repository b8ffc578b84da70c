//! Publishing ends the same however often it is stopped, and trusts the store with nothing.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something it builds on fails"
)]

mod support;

use std::{fs, ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload, memory::InMemory, path::Path};
use sealift_model_store::{ModelStore, StoreError, VersionDocument};
use sealift_sealed_model::{MANIFEST_FILE, SIGNATURE_FILE, VersionError};
use sealift_signed_document::{Digest, canonical_json};
use serde_json::{Value, json};
use support::{Fault, Faulty, Sealed, chain, content, publish, sealed, sealed_as};

/// What a spoiled object holds instead of its bytes.
type Spoil = fn(&[u8]) -> Vec<u8>;

const DOCUMENT: &str = "versions/tiny/v1.json";

fn in_memory() -> (Arc<InMemory>, ModelStore) {
    let memory = Arc::new(InMemory::new());
    (memory.clone(), ModelStore::new(memory))
}

async fn published() -> (Sealed, Arc<InMemory>, ModelStore) {
    let (sealed, (memory, store)) = (sealed(), in_memory());
    publish(&store, &sealed).await.unwrap();
    (sealed, memory, store)
}

async fn put(memory: &InMemory, location: &str, bytes: impl Into<Bytes>) {
    let payload = PutPayload::from_bytes(bytes.into());
    memory.put(&Path::from(location), payload).await.unwrap();
}

fn blob(digest: &Digest) -> String {
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

// Fetching.

#[tokio::test]
async fn a_version_that_was_never_published_is_named() {
    let (_, store) = in_memory();
    let (model, version) = ("tiny".parse().unwrap(), "v9".parse().unwrap());
    let refused = store.fetch(&model, &version).await.map(drop).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the store has no version `v9` of model `tiny`; was it published?"
    );
}

/// Puts `spoil` in the place of every blob in turn; nothing may open then.
async fn with_every_blob(spoil: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<String> {
    let (sealed, memory, store) = published().await;
    let mut refusals = Vec::new();
    let index = sealed
        .verified()
        .read_file("model.safetensors.index.json")
        .unwrap();
    let report = sealed
        .verified()
        .read_file("protection-report.json")
        .unwrap();
    for (location, bytes) in content(memory.as_ref()).await {
        // `open_from` reads neither index nor report.
        if location == DOCUMENT || bytes == index || bytes == report {
            continue;
        }
        match spoil(&bytes) {
            Some(spoiled) => put(&memory, &location, spoiled).await,
            None => memory.delete(&Path::from(location.as_str())).await.unwrap(),
        }
        refusals.push(sealed.open_from(&store).await.unwrap_err());
        put(&memory, &location, bytes).await;
        sealed.open_from(&store).await.unwrap();
    }
    refusals
}

#[tokio::test]
async fn a_missing_piece_is_named() {
    let refusals = with_every_blob(|_| None).await;
    assert_eq!(refusals.len(), 5);
    for refused in refusals {
        assert!(refused.contains("the store lacks the piece"), "{refused}");
    }
}

#[tokio::test]
async fn a_changed_cut_or_grown_piece_is_named() {
    let spoils: [Spoil; 3] = [
        |bytes| bytes.iter().map(|byte| byte ^ 1).collect(),
        |bytes| bytes[1..].to_vec(),
        |bytes| [bytes, b" "].concat(),
    ];
    for spoil in spoils {
        for refused in with_every_blob(|bytes| Some(spoil(bytes))).await {
            assert!(
                refused.contains("the piece was changed or swapped"),
                "{refused}"
            );
        }
    }
}

/// A document of the attacker's making: pieces are what their addresses say, but the file they
/// make is not what the owner signed.
#[tokio::test]
async fn pieces_swapped_in_the_document_are_refused_by_the_owners_signature() {
    let (sealed, memory, store) = published().await;
    let document: Value =
        serde_json::from_slice(&content(memory.as_ref()).await[DOCUMENT]).unwrap();
    let files = document["files"].as_array().unwrap().clone();
    for (one, file) in files.iter().enumerate() {
        for two in 0..one {
            let read = [
                "config.json",
                MANIFEST_FILE,
                SIGNATURE_FILE,
                "model-00001-of-00001.safetensors",
            ];
            let names = [&files[one]["name"], &files[two]["name"]];
            let matters = names
                .iter()
                .any(|name| read.contains(&name.as_str().unwrap()));
            if !matters || file["pieces"] == files[two]["pieces"] {
                continue;
            }
            let mut swapped = document.clone();
            swapped["files"][one]["pieces"] = files[two]["pieces"].clone();
            swapped["files"][two]["pieces"] = file["pieces"].clone();
            put(&memory, DOCUMENT, canonical_json(&swapped).unwrap()).await;
            assert!(sealed.open_from(&store).await.is_err(), "{names:?}");
        }
    }
}

#[tokio::test]
async fn another_versions_document_under_this_name_is_refused() {
    let (sealed, memory, store) = published().await;
    publish(&store, &sealed_as("v2", 2)).await.unwrap();
    let other = content(memory.as_ref()).await["versions/tiny/v2.json"].clone();
    put(&memory, DOCUMENT, other.clone()).await;
    let refused = sealed.open_from(&store).await.unwrap_err();
    assert!(refused.contains("`tiny` version `v2`"), "{refused}");
    // Renamed to fit, it still is another version to the reader's pins.
    let mut renamed: Value = serde_json::from_slice(&other).unwrap();
    renamed["version"] = json!("v1");
    put(&memory, DOCUMENT, canonical_json(&renamed).unwrap()).await;
    let refused = sealed.open_from(&store).await.unwrap_err();
    assert!(refused.contains("signature is refused"), "{refused}");
}

#[tokio::test]
async fn a_document_out_of_form_is_refused() {
    let (sealed, memory, store) = published().await;
    let good: Value = serde_json::from_slice(&content(memory.as_ref()).await[DOCUMENT]).unwrap();
    let spoils: [fn(&mut Value); 7] = [
        |document| document["more"] = json!(1),
        |document| document["format"] = json!("sealift.version.v2"),
        |document| document["files"].as_array_mut().unwrap().reverse(),
        |document| document["files"][0]["name"] = json!("../config.json"),
        |document| document["files"][0]["pieces"][0]["bytes"] = json!(0),
        |document| document["files"][0]["pieces"][0]["bytes"] = json!(1_u64 << 40),
        |document| document["model"] = json!("Tiny"),
    ];
    for spoil in spoils {
        let mut document = good.clone();
        spoil(&mut document);
        put(&memory, DOCUMENT, canonical_json(&document).unwrap()).await;
        let refused = store
            .fetch(&sealed.pinned.model, &sealed.pinned.version)
            .await;
        assert!(
            matches!(refused.map(drop), Err(StoreError::Document { .. })),
            "{document}"
        );
    }
    let pretty = serde_json::to_vec_pretty(&good).unwrap();
    put(&memory, DOCUMENT, pretty).await;
    let refused = store
        .fetch(&sealed.pinned.model, &sealed.pinned.version)
        .await;
    assert!(matches!(
        refused.map(drop),
        Err(StoreError::Document { .. })
    ));
}

#[tokio::test]
async fn a_store_that_answers_the_second_reading_differently_is_refused() {
    let (sealed, memory, _) = published().await;
    let lying = ModelStore::new(Faulty::new(memory, Fault::LiesAtSecondRead));
    // Each object is read once: nothing is wrong with what is used.
    sealed.open_from(&lying).await.unwrap();
    // Everything is read a second time: nothing of it is used.
    let refused = sealed.open_from(&lying).await.unwrap_err();
    assert!(refused.contains("is refused"), "{refused}");
}

#[tokio::test]
async fn fetching_that_fails_at_any_operation_is_transient_and_works_when_run_again() {
    let (sealed, memory, _) = published().await;
    let counting = Faulty::new(memory.clone(), Fault::None);
    sealed
        .open_from(&ModelStore::new(counting.clone()))
        .await
        .unwrap();
    for at in 0..counting.operations() {
        let faulty = ModelStore::new(Faulty::new(memory.clone(), Fault::FailsBefore(at)));
        let refused = sealed.open_from(&faulty).await.unwrap_err();
        assert!(refused.contains("the connection was lost"), "{refused}");
        sealed.open_from(&faulty).await.unwrap();
    }
    let faulty = ModelStore::new(Faulty::new(memory, Fault::FailsBefore(1)));
    let failed = faulty
        .fetch(&sealed.pinned.model, &sealed.pinned.version)
        .await;
    assert!(failed.map(drop).unwrap_err().is_transient());
}

// Pulling.

#[tokio::test]
async fn a_pulled_folder_is_the_folder_that_was_published() {
    let (sealed, _, store) = published().await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("pulled");
    store.pull(&sealed.pinned, &target).await.unwrap();
    let read = |path: &std::path::Path| {
        let mut files: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name(), fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    assert_eq!(read(&target), read(sealed.folder()));
    let again = store
        .pull(&sealed.pinned, &target)
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(again, StoreError::Version(VersionError::Folder(_))),
        "{again}"
    );
}

#[tokio::test]
async fn a_pull_that_fails_leaves_no_folder() {
    let (sealed, memory, store) = published().await;
    let weights = fs::read(sealed.folder().join("model-00001-of-00001.safetensors")).unwrap();
    let body = Digest::of(&weights[weights.len() - 96 * 4..]);
    put(&memory, &blob(&body), vec![0; 96 * 4]).await;
    let folder = tempfile::tempdir().unwrap();
    let refused = store
        .pull(&sealed.pinned, &folder.path().join("pulled"))
        .await;
    let refused = chain(&refused.map(drop).unwrap_err());
    assert!(refused.contains("changed or swapped"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_pull_of_another_version_than_the_pinned_one_is_refused() {
    let (sealed, _, store) = published().await;
    let mut pinned = sealed.pinned.clone();
    pinned.serial = 2;
    let folder = tempfile::tempdir().unwrap();
    let refused = store
        .pull(&pinned, &folder.path().join("pulled"))
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(refused, StoreError::Version(VersionError::Pinned { .. })),
        "{refused}"
    );
}

#[test]
fn arbitrary_documents_never_panic() {
    let (model, version) = ("tiny".parse().unwrap(), "v1".parse().unwrap());
    for text in ["", "{}", "[]", "null", "{\"files\":[]}", "\u{0}"] {
        assert!(VersionDocument::parse(text.as_bytes(), &model, &version).is_err());
    }
}
