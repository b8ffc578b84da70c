//! Erasure with the owner's key folder: killed anywhere, one state key is left, and it opens the
//! records.

use std::{fs, path::Path};

use sealift_kbs_protocol::{erasure::OwnerCopies, model_status::VersionState};

use crate::world::{NOW, Running, VERSION, World, model_name};

const CURRENT: &str = "owner/state-key";
const NEXT: &str = "owner/state-key.next";

async fn erase(running: &Running<'_>) {
    let copies = OwnerCopies {
        owner: false,
        escrow: vec![],
    };
    let (session, version) = (running.session().await, running.status().await);
    session
        .erase(&model_name(), &version, copies)
        .await
        .unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test]
async fn after_an_erasure_the_owner_holds_no_key_that_opens_an_old_copy_of_the_records() {
    let world = World::new();
    let mut running = world.with_version().await;
    let manifest = running.status().await.manifest_sha256;
    let (old, memory) = (world.path("old"), world.path("owner/witness.json"));
    copy_folder(&world.path("state"), &old);
    let seen = fs::read(&memory).unwrap();
    erase(&running).await;
    let Running {
        witness, witnessed, ..
    } = &mut running;
    witness.rekey(witnessed, &world.keys, NOW).await.unwrap();
    running.stop().await;
    assert!(!world.path(NEXT).exists());

    // Even a witness that forgot what it saw since lacks the key.
    let newest = fs::read(&memory).unwrap();
    fs::write(&memory, seen).unwrap();
    assert!(world.start_over(&old).await.is_none());
    fs::write(&memory, newest).unwrap();
    let running = world.start().await;
    assert_eq!(running.status().await.state, VersionState::Erased);
    assert!(running.key_for(manifest).await.is_none());
    let version = VERSION.parse().unwrap();
    let session = running.session().await;
    let receipt = session.erasure(&model_name(), &version).await.unwrap();
    assert_eq!(receipt.unwrap().document().deleted.model_keys, 1);
}

/// Killed after the next key was kept and before the key manager had it.
#[tokio::test]
async fn a_state_key_that_the_key_manager_never_took_is_destroyed_at_the_next_unlock() {
    let world = World::new();
    let running = world.with_version().await;
    running.stop().await;
    let current = fs::read(world.path(CURRENT)).unwrap();
    fs::copy(world.path(CURRENT), world.path(NEXT)).unwrap();
    fs::write(world.path(NEXT), [7; 32]).unwrap();
    let running = world.start().await;
    assert_eq!(running.status().await.state, VersionState::Active);
    assert_eq!(fs::read(world.path(CURRENT)).unwrap(), current);
    assert!(!world.path(NEXT).exists());
}

/// Killed after the key manager had the next key and before its witness knew.
#[tokio::test]
async fn a_state_key_that_the_key_manager_took_takes_its_place_at_the_next_unlock() {
    let world = World::new();
    let mut running = world.with_version().await;
    let old = fs::read(world.path(CURRENT)).unwrap();
    erase(&running).await;
    let Running {
        witness, witnessed, ..
    } = &mut running;
    witness.rekey(witnessed, &world.keys, NOW).await.unwrap();
    running.stop().await;
    // As the folder was when the key manager had just answered.
    fs::rename(world.path(CURRENT), world.path(NEXT)).unwrap();
    fs::copy(world.path(NEXT), world.path(CURRENT)).unwrap();
    fs::write(world.path(CURRENT), &old).unwrap();
    let running = world.start().await;
    assert_eq!(running.status().await.state, VersionState::Erased);
    assert!(fs::read(world.path(CURRENT)).unwrap() != old);
    assert!(!world.path(NEXT).exists());
}

/// Killed between deletion and the change of the state key: what is missing is done later.
#[tokio::test]
async fn an_erasure_that_was_cut_off_has_no_receipt_until_the_state_key_was_changed() {
    let world = World::new();
    let running = world.with_version().await;
    erase(&running).await;
    running.stop().await;
    let mut running = world.start().await;
    let version = VERSION.parse().unwrap();
    let session = running.session().await;
    let early = session.erasure(&model_name(), &version).await.unwrap();
    assert!(early.is_none());
    let Running {
        witness, witnessed, ..
    } = &mut running;
    witness.rekey(witnessed, &world.keys, NOW).await.unwrap();
    let receipt = session.erasure(&model_name(), &version).await.unwrap();
    assert!(receipt.is_some());
}
