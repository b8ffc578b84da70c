//! Another KEK for a version: data keys are wrapped anew inside, and only what its owner then
//! published is attested and released.

use sealift_kbs_protocol::{
    GuestClientError, KeyManagerClientError,
    command::{CommandKind, Register},
    model_status::VersionStatus,
    rotation::{REWRAP_PATH, Rewrap, RewrapMessage, Rotate},
};
use sealift_key_manager::EntryType;
use sealift_pinned_tls::{ClientLimits, Connection};
use sealift_signed_document::{Digest, SecretBytes};
use sealift_wrapped_key::{Kek, WrappedKeys};

use crate::harness::{
    GuestPlan, KEK, LATER, MODEL, NOW, OpenKm, Owner, TestGuest, VERSION, World, name,
};

const NEXT_MANIFEST: &[u8] = b"manifest of revision 1";

/// Two data keys, wrapped as in the published headers.
fn wrapped() -> (Vec<SecretBytes<32>>, WrappedKeys) {
    let kek = Kek::new(&SecretBytes::from_bytes(KEK));
    let keys = vec![SecretBytes::random(), SecretBytes::random()];
    let wrapped = keys.iter().map(|key| kek.wrap(key)).collect();
    (keys, WrappedKeys::new(wrapped).unwrap())
}

fn rewrap_document(open: &OpenKm<'_>, seq: u64, keys: &WrappedKeys) -> Rewrap {
    Rewrap {
        km_id: open.km.km_id().unwrap(),
        seq,
        not_after: LATER,
        model: name(MODEL),
        version: name(VERSION),
        manifest_sha256: Digest::of(b"manifest"),
        keys_sha256: keys.digest(),
    }
}

async fn rewrap(
    open: &OpenKm<'_>,
    seq: u64,
    keys: &WrappedKeys,
) -> Result<WrappedKeys, KeyManagerClientError> {
    let signers = [open.world.owner.signer()];
    let document = rewrap_document(open, seq, keys);
    open.client()
        .rewrap(&open.km, &signers, document, keys)
        .await
}

fn rotate_document(open: &OpenKm<'_>, seq: u64, keys: &WrappedKeys) -> Rotate {
    Rotate {
        km_id: open.km.km_id().unwrap(),
        seq,
        not_after: LATER,
        model: name(MODEL),
        version: name(VERSION),
        revision: 1,
        manifest_sha256: Digest::of(NEXT_MANIFEST),
        keys_sha256: keys.digest(),
    }
}

async fn rotate(
    open: &OpenKm<'_>,
    seq: u64,
    keys: &WrappedKeys,
) -> Result<(), KeyManagerClientError> {
    let document = rotate_document(open, seq, keys);
    open.change(CommandKind::Rotate, &document).await
}

/// A key manager whose version was rotated by changes 5 and 6, with the data keys before and after.
async fn rotated(world: &World) -> (OpenKm<'_>, Vec<SecretBytes<32>>, WrappedKeys) {
    let open = world.with_version().await;
    let (keys, wrapped) = wrapped();
    let rewrapped = rewrap(&open, 5, &wrapped).await.unwrap();
    rotate(&open, 6, &rewrapped).await.unwrap();
    (open, keys, rewrapped)
}

/// A guest that was started for the rotated version.
async fn next_guest(open: &OpenKm<'_>) -> TestGuest {
    let (old, new) = (Digest::of(b"manifest"), Digest::of(NEXT_MANIFEST));
    open.guest_with(|plan: &mut GuestPlan| {
        plan.init_data = plan.init_data.replace(&old.to_string(), &new.to_string());
    })
    .await
}

async fn status(open: &OpenKm<'_>) -> VersionStatus {
    let root = open.world.owner.root.public();
    let status = open
        .client()
        .model_status(&open.km, &root, &name(MODEL))
        .await;
    status.unwrap().versions.remove(0)
}

#[tokio::test]
async fn a_guest_of_the_next_revision_receives_the_kek_that_wraps_the_same_data_keys() {
    let world = World::new();
    let (open, keys, rewrapped) = rotated(&world).await;
    assert_eq!(open.last_entry().await.kind, EntryType::Rotated);
    let guest = next_guest(&open).await;
    guest.attest().await.unwrap();
    let kek = guest.key().await.unwrap();
    assert_ne!(kek.expose(), &KEK);
    let kek = Kek::new(&kek);
    for (key, wrapped) in keys.iter().zip(rewrapped.keys()) {
        assert!(kek.unwrap(wrapped).unwrap() == *key);
    }
    let known = status(&open).await;
    assert_eq!(
        (known.serial, known.revision, known.manifest_sha256),
        (1, 1, Digest::of(NEXT_MANIFEST))
    );
}

#[tokio::test]
async fn a_guest_of_the_old_revision_gets_no_key_after_a_rotation() {
    let world = World::new();
    let open = world.with_version().await;
    let attested_before = open.attested().await;
    attested_before.key().await.unwrap();
    let rewrapped = rewrap(&open, 5, &wrapped().1).await.unwrap();
    // Until the owner has published, nothing has changed for anybody.
    assert_eq!(attested_before.key().await.unwrap().expose(), &KEK);
    rotate(&open, 6, &rewrapped).await.unwrap();
    let refused = attested_before.key().await;
    assert!(matches!(refused, Err(GuestClientError::Refused { .. })));
    open.assert_refused("OtherManifest").await;
    let started_since = open.guest().await;
    assert!(started_since.attest().await.is_err());
    open.assert_refused("InitDataNotFromTemplate").await;
}

#[tokio::test]
async fn a_rotation_survives_a_restart_and_the_old_kek_is_in_no_record() {
    let world = World::new();
    let (open, ..) = rotated(&world).await;
    let (identity, head) = (*open.km.identity().unwrap(), open.head().await);
    open.running.stop().await;
    let running = world.boot().await;
    let grant = sealift_kbs_protocol::UnlockGrant {
        identity: Some(&identity),
        epoch: 2,
        head,
        time: NOW,
        state_key: &world.state_key,
    };
    let km = world.unlock(&running, &grant).await.unwrap();
    let open = OpenKm {
        world: &world,
        running,
        km,
    };
    let guest = next_guest(&open).await;
    guest.attest().await.unwrap();
    assert_ne!(guest.key().await.unwrap().expose(), &KEK);
    assert!(open.guest().await.attest().await.is_err());
}

#[tokio::test]
async fn a_rotation_that_began_again_is_finished_with_its_own_keys_alone() {
    let world = World::new();
    let open = world.with_version().await;
    let (_, wrapped) = wrapped();
    let first = rewrap(&open, 5, &wrapped).await.unwrap();
    let second = rewrap(&open, 6, &wrapped).await.unwrap();
    rotate(&open, 7, &first).await.unwrap_err();
    open.assert_refused("OtherRotation").await;
    rotate(&open, 7, &second).await.unwrap();
    rotate(&open, 8, &second).await.unwrap_err();
    open.assert_refused("NoRotation").await;
}

#[tokio::test]
async fn a_rotation_with_one_thing_spoiled_is_refused() {
    type Spoil = fn(&mut Rotate);
    let world = World::new();
    let open = world.with_version().await;
    let rewrapped = rewrap(&open, 5, &wrapped().1).await.unwrap();
    let rows: [(&str, Spoil); 5] = [
        ("OtherRotation", |rotate| rotate.revision = 2),
        ("OtherRotation", |rotate| {
            rotate.keys_sha256 = Digest::of(b"other");
        }),
        ("UnknownVersion", |rotate| rotate.version = name("v2")),
        ("Sequence", |rotate| rotate.seq = 7),
        ("DocumentEnded", |rotate| rotate.not_after = NOW),
    ];
    for (refusal, spoil) in rows {
        let mut document = rotate_document(&open, 6, &rewrapped);
        spoil(&mut document);
        open.change(CommandKind::Rotate, &document)
            .await
            .unwrap_err();
        open.assert_refused(refusal).await;
    }
    rotate(&open, 6, &rewrapped).await.unwrap();
}

#[tokio::test]
async fn data_keys_are_wrapped_anew_only_for_the_current_manifest_under_the_versions_own_kek() {
    let world = World::new();
    let open = world.with_version().await;
    let signers = [world.owner.signer()];
    let (_, keys) = wrapped();
    let send = async |document, keys: &WrappedKeys| {
        let sent = open.client().rewrap(&open.km, &signers, document, keys);
        sent.await.unwrap_err();
    };
    let other = Rewrap {
        manifest_sha256: Digest::of(NEXT_MANIFEST),
        ..rewrap_document(&open, 5, &keys)
    };
    send(other, &keys).await;
    open.assert_refused("OtherManifest").await;
    let foreign = Kek::new(&SecretBytes::random()).wrap(&SecretBytes::random());
    let foreign = WrappedKeys::new(vec![keys.keys()[0].clone(), foreign]).unwrap();
    send(rewrap_document(&open, 5, &foreign), &foreign).await;
    open.assert_refused("Rewrap").await;
    let unknown = Rewrap {
        version: name("v2"),
        ..rewrap_document(&open, 5, &keys)
    };
    send(unknown, &keys).await;
    open.assert_refused("UnknownVersion").await;
    rewrap(&open, 5, &keys).await.unwrap();
}

#[tokio::test]
async fn wrapped_keys_that_the_document_does_not_name_are_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let ((_, signed), (_, sent)) = (wrapped(), wrapped());
    for (bytes, refusal) in [
        (sent.to_bytes(), "OtherWrappedKeys"),
        (vec![0; 59], "WrappedKeys"),
        (Vec::new(), "WrappedKeys"),
    ] {
        let document = rewrap_document(&open, 5, &signed);
        let message = RewrapMessage {
            approvals: vec![world.owner.approve(&document)],
            keys: sealift_kbs_protocol::call::Bytes(bytes),
        };
        let connection = Connection::open_unverified(&open.running.url, ClientLimits::DOCUMENTS);
        let mut connection = connection.await.unwrap();
        let answer = connection.post_json(REWRAP_PATH, &message).await.unwrap();
        assert_eq!(answer.status, 403);
        open.assert_refused(refusal).await;
    }
}

#[tokio::test]
async fn another_owner_rotates_nothing() {
    let other = Owner::new();
    let root = other.root.public();
    let world = World::with_roots(|config| config.owner_roots.push(root));
    let open = world.with_version().await;
    let (_, keys) = wrapped();
    let document = rewrap_document(&open, 1, &keys);
    let signers = [other.signer()];
    let sent = open.client().rewrap(&open.km, &signers, document, &keys);
    sent.await.unwrap_err();
    open.assert_refused("NameTaken").await;
}

#[tokio::test]
async fn only_an_active_version_is_rotated() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    open.register(open.registration()).await.unwrap();
    rewrap(&open, 4, &wrapped().1).await.unwrap_err();
    open.assert_refused("VersionState").await;
}

#[tokio::test]
async fn a_rotated_version_is_never_registered_again() {
    let world = World::new();
    let (open, ..) = rotated(&world).await;
    let again = Register {
        seq: 7,
        serial: 2,
        ..open.registration()
    };
    open.register(again).await.unwrap_err();
    open.assert_refused("AlreadyRegistered").await;
}
