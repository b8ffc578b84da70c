//! What the store answers is believed nothing that the owner's signature does not cover.

use std::fs;

use crate::faulty::{Fault, Faulty};
use crate::publishing::{DOCUMENT, Spoil, blob, in_memory, published, put};
use crate::support::{chain, content, publish, sealed_as};
use object_store::{ObjectStoreExt, path::Path};
use sealift_model_store::{ModelStore, StoreError, VersionDocument};
use sealift_sealed_model::{MANIFEST_FILE, SIGNATURE_FILE, VersionError};
use sealift_signed_document::{Digest, canonical_json};
use serde_json::{Value, json};

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
        assert!(VersionDocument::parse(text.as_bytes(), (&model, &version, 0)).is_err());
    }
}
