//! Rotation: another KEK, the same bodies, and the same end wherever it was cut off.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use object_store::{ObjectStore as _, ObjectStoreExt as _};
use sealift_publish::{Rotated, RotationError, RotationProgress, RotationStep};
use sealift_signed_document::Digest;

use crate::{
    model::{BODY_BYTES, opens},
    world::{MODEL, Running, VERSION, World, model_name},
};

fn go_on() -> Box<RotationProgress<'static>> {
    Box::new(|_| ControlFlow::Continue(()))
}

async fn rotate(
    running: &Running<'_>,
    world: &World,
    progress: &mut RotationProgress<'_>,
) -> Result<Rotated, RotationError> {
    let work = world.path("work");
    running.rotation(&world.store, &work).run(progress).await
}

/// The pieces in the store, with when each was written.
async fn pieces(world: &World) -> BTreeMap<String, (u64, i64)> {
    use object_store::path::Path;
    let mut found = BTreeMap::new();
    let blobs = Path::from("blobs/sha256");
    let listed = world.memory.list_with_delimiter(Some(&blobs));
    for folder in listed.await.unwrap().common_prefixes {
        let inside = world.memory.list_with_delimiter(Some(&folder));
        for object in inside.await.unwrap().objects {
            let written = object.last_modified.timestamp_micros();
            found.insert(object.location.to_string(), (object.size, written));
        }
    }
    found
}

/// The revision that the key manager releases is the only one in the store, and it opens under
/// the key that a guest of it is given.
async fn assert_released(running: &Running<'_>, world: &World) -> Digest {
    let status = running.status().await;
    let (model, version) = (MODEL.parse().unwrap(), VERSION.parse().unwrap());
    let documents = world.store.revisions(&model, &version).await.unwrap();
    let held: Vec<_> = documents
        .iter()
        .map(|document| (document.revision, document.manifest_sha256))
        .collect();
    assert_eq!(held, [(status.revision, status.manifest_sha256)]);
    let kek = running.key_for(status.manifest_sha256).await.unwrap();
    let verified = world.fetch(status.manifest_sha256).await.unwrap();
    let opened = tokio::task::spawn_blocking(move || {
        verified.check_files().unwrap();
        opens(&verified, &kek)
    });
    assert!(opened.await.unwrap());
    status.manifest_sha256
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_version_is_released_under_another_kek_to_guests_of_its_next_revision_alone() {
    let world = World::new();
    let running = world.with_version().await;
    let old = assert_released(&running, &world).await;
    let old_kek = running.key_for(old).await.unwrap();
    let rotated = rotate(&running, &world, &mut *go_on()).await.unwrap();
    assert_eq!((rotated.version.revision, rotated.replaced), (1, old));
    let new = assert_released(&running, &world).await;
    assert!(running.key_for(new).await.unwrap() != old_kek);
    assert!(running.key_for(old).await.is_none());
    let verified = world.fetch(new).await.unwrap();
    let opened = tokio::task::spawn_blocking(move || opens(&verified, &old_kek));
    assert!(!opened.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_sends_headers_manifest_and_signature_and_no_piece_of_a_body() {
    let world = World::new();
    let running = world.with_version().await;
    let before = pieces(&world).await;
    let body = |pieces: &BTreeMap<String, (u64, i64)>| {
        let mut bodies = pieces.iter().filter(|(_, (bytes, _))| *bytes == BODY_BYTES);
        let (name, piece) = bodies.next().unwrap();
        (name.clone(), *piece)
    };
    let rotated = rotate(&running, &world, &mut *go_on()).await.unwrap();
    let after = pieces(&world).await;
    // Not even written again: the time is the one of the first publication.
    assert_eq!(body(&after), body(&before));
    let sent: Vec<_> = after
        .iter()
        .filter(|(name, _)| !before.contains_key(*name))
        .collect();
    assert_eq!(sent.len(), 3, "header, manifest and signature: {sent:?}");
    let bytes: u64 = sent.iter().map(|(_, (bytes, _))| bytes).sum();
    assert_eq!(rotated.sent_bytes, bytes);
    assert_eq!(rotated.keys, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_cut_off_at_any_step_is_finished_by_running_it_again() {
    for cut in RotationStep::ALL {
        let world = World::new();
        let running = world.with_version().await;
        let old = running.status().await;
        let mut stop = |done| {
            if done == cut {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let stopped = rotate(&running, &world, &mut stop).await.unwrap_err();
        assert!(matches!(stopped, RotationError::Stopped), "{stopped}");
        let taken = matches!(cut, RotationStep::Rotated | RotationStep::Removed);
        let between = running.status().await;
        assert_eq!(between.revision, u64::from(taken), "{cut:?}");
        // Cut off anywhere, what the key manager releases is in the store and opens.
        let released = between.manifest_sha256;
        assert!(running.key_for(released).await.is_some(), "{cut:?}");
        assert!(world.fetch(released).await.is_some(), "{cut:?}");
        running.stop().await;

        let running = world.start().await;
        rotate(&running, &world, &mut *go_on()).await.unwrap();
        let new = assert_released(&running, &world).await;
        assert!(new != old.manifest_sha256);
        assert!(running.key_for(old.manifest_sha256).await.is_none());
        assert!(!world.path("work").join("rotated").exists(), "{cut:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_which_a_piece_was_changed_is_not_rotated() {
    let world = World::new();
    let running = world.with_version().await;
    let before = running.status().await;
    let all = pieces(&world).await;
    let (body, _) = all
        .iter()
        .find(|(_, (bytes, _))| *bytes == BODY_BYTES)
        .unwrap();
    let location = object_store::path::Path::from(body.as_str());
    let spoiled = vec![0; BODY_BYTES as usize].into();
    world.memory.put(&location, spoiled).await.unwrap();
    let refused = rotate(&running, &world, &mut *go_on()).await.unwrap_err();
    assert!(matches!(refused, RotationError::Headers(_)), "{refused:?}");
    assert_eq!(running.status().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_nobody_knows_or_that_was_erased_is_named() {
    let world = World::new();
    let running = world.with_version().await;
    let work = world.path("work");
    let mut unknown = running.rotation(&world.store, Path::new(&work));
    unknown.version = "v9".parse().unwrap();
    let refused = unknown.run(&mut *go_on()).await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "the key manager knows no version `v9` of model `tiny`; was it published?"
    );
    let copies = sealift_kbs_protocol::erasure::OwnerCopies {
        owner: false,
        escrow: vec![],
    };
    let (session, version) = (running.session().await, running.status().await);
    session
        .erase(&model_name(), &version, copies)
        .await
        .unwrap();
    let refused = rotate(&running, &world, &mut *go_on()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "version `v1` is erased, and only an active version can be rotated"
    );
}
