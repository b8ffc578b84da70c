//! What lies on the disk.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, Method, header};
use sealift_kbs_protocol::{UnlockGrant, rcar::RESOURCE_PREFIX};
use sealift_key_manager::EntryType;
use sealift_pinned_tls::{ClientError, ClientLimits, Connection};

use crate::{
    encrypted_head::EncryptedHead,
    harness::{KEK, MODEL, NOW, OpenKm, VERSION, World},
    raw::RawGuest,
};

/// All bytes of all files of a folder.
fn bytes_of(folder: &Path) -> Vec<u8> {
    let files = fs::read_dir(folder).unwrap();
    files
        .flat_map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[tokio::test]
async fn the_database_holds_no_secret_in_the_clear() {
    let world = World::new();
    let head = EncryptedHead::new();
    let open = head.registered(&world, |_| ()).await;
    let guest = open.attested().await;
    guest.key().await.unwrap();
    guest.client.open_session().await.unwrap();
    let user = sealift_signed_document::SigningKey::generate();
    let grant = open.grant_document(&user, 5);
    let signers = [world.owner.signer()];
    open.client()
        .grant(&open.km, &signers, &grant)
        .await
        .unwrap();
    let bytes = bytes_of(&world.state());
    assert!(contains(&bytes, b"key-released"), "the log is in the clear");
    for secret in [
        KEK.as_slice(),
        hex::encode(KEK).as_bytes(),
        STANDARD.encode(KEK).as_bytes(),
        // Block secrets follow magic, facts and two numbers; any part of them will do.
        &head.secret[head.secret.len() / 3..][..32],
        STANDARD
            .encode(&head.secret[head.secret.len() / 3..][..33])
            .as_bytes(),
        b"AGE-SECRET-KEY-1",
        world.state_key.expose(),
        // The object identifier of Ed25519 in PKCS#8 (RFC 8410): 1.3.101.112.
        &[0x06, 0x03, 0x2b, 0x65, 0x70],
    ] {
        assert!(!contains(&bytes, secret));
    }
}

#[tokio::test]
async fn the_database_is_for_its_owner_alone() {
    let world = World::new();
    let _open = world.open().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.state()), 0o700);
    for file in fs::read_dir(world.state()).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn a_second_key_manager_does_not_open_the_same_state() {
    let world = World::new();
    let open = world.open().await;
    let second = world.boot().await;
    let grant = UnlockGrant {
        epoch: 2,
        ..world.first_unlock()
    };
    assert!(world.unlock(&second, &grant).await.is_err());
    open.install().await;
}

/// The key was logged as released and the answer never arrived.
#[tokio::test]
async fn a_key_manager_killed_between_log_and_answer_has_the_entry_and_answers_again() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = RawGuest::attested(&open).await;
    let url = open.running.url.clone();
    // A client that has no room for the answer: the entry is made, the answer is lost.
    let deaf = ClientLimits {
        body_bytes: 0,
        ..ClientLimits::DOCUMENTS
    };
    let mut connection = Connection::open_unverified(&url, deaf).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, guest.cookie.clone());
    let path = format!("{RESOURCE_PREFIX}{MODEL}/{VERSION}/kek");
    let lost = connection
        .send(Method::GET, &path, headers, Vec::new())
        .await;
    assert!(matches!(lost, Err(ClientError::BadBody { .. })));
    let (identity, head) = (*open.km.identity().unwrap(), open.head().await);
    open.running.stop().await;

    let running = world.boot().await;
    let grant = UnlockGrant {
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
    let answer = open
        .client()
        .log_entry(head.size - 1, &open.head().await)
        .await
        .unwrap();
    let entry: sealift_key_manager::LogEntry = serde_json::from_str(&answer.leaf).unwrap();
    assert_eq!(entry.kind, EntryType::KeyReleased);
    assert_eq!(open.attested().await.key().await.unwrap().expose(), &KEK);
}
