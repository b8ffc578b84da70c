//! What every store has to do for models, as facts that are checked on it one after another.

use std::{
    fs,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::future::join_all;
use object_store::{
    ObjectStore, ObjectStoreExt, PutPayload, memory::InMemory, path::Path, prefix::PrefixStore,
};
use sealift_model_store::{
    CollectionMode, GarbageReport, GarbageRules, ModelStore, StoreError, StoredFile,
};

use crate::support::{content, publish, sealed, sealed_as};

const DAY: u64 = 24 * 3600;

/// Checks all facts, each below a prefix of its own.
pub(crate) async fn conforms(bucket: &Arc<dyn ObjectStore>) {
    let below =
        |fact: &str| -> Arc<dyn ObjectStore> { Arc::new(PrefixStore::new(bucket.clone(), fact)) };
    the_self_test_passes_and_leaves_nothing(below("self-test")).await;
    what_is_published_is_fetched_opened_and_pulled(below("published")).await;
    a_stopped_publication_sends_the_rest_when_run_again(below("stopped")).await;
    of_many_versions_of_one_name_one_is_published(below("race")).await;
    a_changed_piece_is_refused_and_mended(below("changed")).await;
    garbage_is_what_no_version_names_and_is_old(below("garbage")).await;
    a_version_is_copied_to_another_store(below("copied")).await;
    revisions_of_a_version_stand_beside_each_other(below("revisions")).await;
}

async fn the_self_test_passes_and_leaves_nothing(bucket: Arc<dyn ObjectStore>) {
    ModelStore::new(bucket.clone()).self_test().await.unwrap();
    assert!(content(&bucket).await.is_empty());
}

async fn what_is_published_is_fetched_opened_and_pulled(bucket: Arc<dyn ObjectStore>) {
    let (store, sealed) = (ModelStore::new(bucket.clone()), sealed());
    let published = publish(&store, &sealed).await.unwrap();
    let held = content(&bucket).await;
    assert_eq!(held.len(), published.document.blobs().len() + 1);
    sealed.open_from(&store).await.unwrap();
    assert_eq!(publish(&store, &sealed).await.unwrap().sent_bytes, 0);
    assert_eq!(content(&bucket).await, held);

    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("pulled");
    store.pull(&sealed.pinned, &target).await.unwrap();
    for file in fs::read_dir(sealed.folder()).unwrap() {
        let name = file.unwrap().file_name();
        let original = fs::read(sealed.folder().join(&name)).unwrap();
        assert_eq!(
            fs::read(target.join(&name)).unwrap(),
            original,
            "{}",
            name.display()
        );
    }
}

async fn a_stopped_publication_sends_the_rest_when_run_again(bucket: Arc<dyn ObjectStore>) {
    let (store, sealed) = (ModelStore::new(bucket.clone()), sealed());
    let mut seen = 0;
    let mut stop = |progress: sealift_model_store::PublishProgress| {
        seen = progress.done_bytes;
        ControlFlow::Break(())
    };
    let stopped = store
        .publish(&sealed.verified(), &mut stop)
        .await
        .unwrap_err();
    assert!(matches!(stopped, StoreError::Cancelled), "{stopped}");
    let none = store
        .document(&sealed.pinned.model, &sealed.pinned.version)
        .await;
    assert!(matches!(none, Err(StoreError::NoVersion { .. })));
    let published = publish(&store, &sealed).await.unwrap();
    let total: u64 = published.document.files.iter().map(StoredFile::bytes).sum();
    assert!(
        seen > 0 && published.sent_bytes <= total - seen,
        "{seen} {published:?}"
    );
    sealed.open_from(&store).await.unwrap();
}

async fn of_many_versions_of_one_name_one_is_published(bucket: Arc<dyn ObjectStore>) {
    let contenders = [sealed(), sealed(), sealed(), sealed()];
    let store = ModelStore::new(bucket);
    store.self_test().await.unwrap();
    let tried = join_all(contenders.iter().map(|sealed| publish(&store, sealed))).await;
    let mut winners = Vec::new();
    for (sealed, tried) in contenders.iter().zip(tried) {
        match tried {
            Ok(_) => winners.push(sealed),
            Err(error) => assert!(matches!(error, StoreError::VersionExists { .. }), "{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    winners[0].open_from(&store).await.unwrap();
}

async fn a_changed_piece_is_refused_and_mended(bucket: Arc<dyn ObjectStore>) {
    let (store, sealed) = (ModelStore::new(bucket.clone()), sealed());
    publish(&store, &sealed).await.unwrap();
    let held = content(&bucket).await;
    // The body of the tensors is the one piece of that length.
    let body = held
        .iter()
        .find(|(_, bytes)| bytes.len() == 96 * 4)
        .unwrap()
        .0;
    bucket
        .put(
            &Path::from(body.as_str()),
            PutPayload::from(vec![0; 96 * 4]),
        )
        .await
        .unwrap();
    let refused = sealed.open_from(&store).await.unwrap_err();
    assert!(
        refused.contains("the piece was changed or swapped"),
        "{refused}"
    );
    assert_eq!(publish(&store, &sealed).await.unwrap().sent_bytes, 96 * 4);
    sealed.open_from(&store).await.unwrap();
}

async fn garbage_is_what_no_version_names_and_is_old(bucket: Arc<dyn ObjectStore>) {
    let store = ModelStore::new(bucket.clone());
    let (one, two) = (sealed_as("v1", 1), sealed_as("v2", 2));
    let blobs_of_one = publish(&store, &one).await.unwrap().document.blobs();
    let blobs_of_two = publish(&store, &two).await.unwrap().document.blobs();
    let only_one = blobs_of_one.difference(&blobs_of_two).count() as u64;
    assert!(
        only_one > 0 && only_one < blobs_of_one.len() as u64,
        "some are shared"
    );
    let used = blobs_of_two.len() as u64;
    store
        .remove(
            &one.pinned.model,
            &one.pinned.version,
            &one.pinned.manifest_sha256,
        )
        .await
        .unwrap();
    let before = content(&bucket).await;

    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let rules = |now_unix, mode| GarbageRules {
        now_unix,
        grace: Duration::from_secs(DAY),
        mode,
    };
    let young = store
        .collect_garbage(rules(now, CollectionMode::Remove))
        .await
        .unwrap();
    let expected = GarbageReport {
        versions: 1,
        used_blobs: used,
        young_blobs: only_one,
        ..GarbageReport::default()
    };
    assert_eq!(young, expected);
    let later = now + 2 * DAY;
    let dry = store
        .collect_garbage(rules(later, CollectionMode::DryRun))
        .await
        .unwrap();
    assert_eq!(
        (dry.garbage_blobs, dry.young_blobs, dry.used_blobs),
        (only_one, 0, used)
    );
    assert_eq!(dry.garbage.len() as u64, only_one);
    for garbage in &dry.garbage {
        assert!(blobs_of_one.contains(&garbage.sha256) && !blobs_of_two.contains(&garbage.sha256));
    }
    assert_eq!(content(&bucket).await, before);
    let removed = store
        .collect_garbage(rules(later, CollectionMode::Remove))
        .await
        .unwrap();
    assert_eq!(removed, dry);
    assert_eq!(content(&bucket).await.len() as u64, used + 1);
    two.open_from(&store).await.unwrap();
    publish(&store, &one).await.unwrap();
    one.open_from(&store).await.unwrap();
}

async fn a_version_is_copied_to_another_store(bucket: Arc<dyn ObjectStore>) {
    let (store, sealed) = (ModelStore::new(bucket), sealed());
    publish(&store, &sealed).await.unwrap();
    let other = ModelStore::new(Arc::new(InMemory::new()));
    let fetched = store
        .fetch(&sealed.pinned.model, &sealed.pinned.version)
        .await
        .unwrap();
    let verified = fetched.verify(&sealed.pinned).unwrap();
    let mut go_on = |_| ControlFlow::Continue(());
    other.publish(&verified, &mut go_on).await.unwrap();
    sealed.open_from(&other).await.unwrap();
}

async fn revisions_of_a_version_stand_beside_each_other(bucket: Arc<dyn ObjectStore>) {
    let (store, mut sealed) = (ModelStore::new(bucket.clone()), sealed());
    publish(&store, &sealed).await.unwrap();
    let (first, first_kek) = (sealed.pinned.clone(), sealed.version.kek.clone());
    let before = content(&bucket).await;
    sealed.rotate();
    let published = publish(&store, &sealed).await.unwrap();
    let after = content(&bucket).await;
    let new = |name: &&String| !before.contains_key(*name);
    let sent: Vec<_> = after.keys().filter(new).collect();
    // A header, the manifest, the signature, and the document.
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert!(sent.contains(&&"versions/tiny/v1@/1.json".to_owned()));
    assert!(before.iter().all(|(name, bytes)| after[name] == *bytes));
    assert_eq!(published.document.revision, 1);

    // The newest is what is fetched; each is fetched by its manifest.
    let (model, version) = (&first.model, &first.version);
    assert_eq!(
        store.document(model, version).await.unwrap(),
        published.document
    );
    sealed.open_from(&store).await.unwrap();
    let old = store.fetch_pinned(&first).await.unwrap();
    let opened = tokio::task::spawn_blocking(move || {
        let verified = old.verify(&first).unwrap();
        verified
            .open(&first_kek, crate::support::ONE_THREAD)
            .is_ok()
    });
    assert!(opened.await.unwrap());
    assert_eq!(publish(&store, &sealed).await.unwrap().sent_bytes, 0);
}
