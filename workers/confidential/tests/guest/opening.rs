//! From key release to a model in memory, and what stands in between.

use std::{fs, path::PathBuf};

use sealift_confidential::{FailReason, Phase, STATUS_PATH, Status};

use sealift_kbs_protocol::GuestCertificate;
use sealift_sealed_model::Protection;

use crate::world::{MODEL, Running, VERSION, World};

async fn status(running: &Running) -> Status {
    running
        .connect()
        .await
        .get(STATUS_PATH)
        .await
        .unwrap()
        .json()
        .unwrap()
}

#[tokio::test]
async fn a_guest_reports_how_far_it_is() {
    let world = World::new().await;
    let running = world.guest().await;
    let before = Status {
        phase: "listening".into(),
        reason: None,
        model: MODEL.into(),
        version: VERSION.into(),
        serial: 1,
        guest_certificate: None,
        session_grant: None,
    };
    assert_eq!(status(&running).await, before);
    running.guest.start().await;
    let after = status(&running).await;
    let identity = world.appraised.identity().unwrap();
    let certificate = after.guest_certificate.clone().unwrap();
    let certificate = certificate.verify::<GuestCertificate>(identity).unwrap();
    let grant = after.session_grant.clone().unwrap();
    assert_eq!(certificate.document().session_grant_sha256, grant.digest());
    let (phase, shown) = ("serving".into(), Some(certificate.envelope().clone()));
    let expected = Status {
        phase,
        guest_certificate: shown,
        session_grant: Some(grant),
        ..before
    };
    assert_eq!(after, expected);
}

#[tokio::test]
async fn a_guest_of_another_build_is_refused_for_good() {
    let world = World::new().await;
    let running = Running::start(world.boot_inputs_with([0x33; 48]))
        .await
        .unwrap();
    running.guest.start().await;
    assert_eq!(
        running.phase(),
        Phase::Failed(FailReason::RefusedByKeyManager)
    );
    let status = status(&running).await;
    assert_eq!(status.phase, "failed");
    assert_eq!(status.reason.as_deref(), Some("refused by the key manager"));
}

/// Owner-signed, of the same name and number, but not the sealing that was measured.
#[tokio::test]
async fn a_version_with_another_manifest_than_the_measured_one_is_not_opened() {
    let world = World::new().await;
    let other = world
        .owner
        .seal(&world.folder.path().join("other"), Protection::Sealed);
    fs::remove_dir_all(world.store()).unwrap();
    world.owner.publish(&other.version, &world.store()).await;
    let running = world.guest().await;
    running.guest.start().await;
    assert_eq!(running.phase(), Phase::Failed(FailReason::ModelUnverified));
}

fn blobs(world: &World) -> Vec<PathBuf> {
    let folders = fs::read_dir(world.store().join("blobs/sha256")).unwrap();
    folders
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|blob| blob.unwrap().path())
        .collect()
}

#[tokio::test]
async fn a_swapped_blob_in_the_store_is_noticed_whichever_it_is() {
    let world = World::new().await;
    let blobs = blobs(&world);
    assert!(blobs.len() >= 5, "{blobs:?}");
    for blob in blobs {
        let good = fs::read(&blob).unwrap();
        let mut swapped = good.clone();
        *swapped.last_mut().unwrap() ^= 1;
        fs::write(&blob, swapped).unwrap();
        let running = world.guest().await;
        running.guest.start().await;
        let expected = Phase::Failed(FailReason::ModelUnverified);
        assert_eq!(running.phase(), expected, "{}", blob.display());
        fs::write(&blob, good).unwrap();
    }
}
