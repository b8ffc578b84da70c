//! From locked to open, and what keeps a key manager locked.

use std::{fs, path::Path};

use sealift_kbs_protocol::{
    KeyManagerClientError, UnlockGrant,
    merkle::TreeHead,
    unlock::{UNLOCK_PATH, Unlock, UnlockMessage},
};
use sealift_key_manager::DATABASE_FILE;
use sealift_pinned_tls::{ClientLimits, Connection};
use sealift_signed_document::{
    Digest, Document, Envelope, Role, SecretBytes, SigningKey, VerifyingKey, hpke_box, sign,
};

use crate::harness::{NOW, OpenKm, Owner, Running, World, delegate};

/// What a witness keeps of a key manager.
struct Seen {
    identity: VerifyingKey,
    head: TreeHead,
}

impl Seen {
    async fn of(open: &OpenKm<'_>) -> Self {
        Self {
            identity: *open.km.identity().unwrap(),
            head: open.head().await,
        }
    }

    fn grant<'a>(&'a self, world: &'a World, epoch: u64) -> UnlockGrant<'a> {
        UnlockGrant {
            identity: Some(&self.identity),
            epoch,
            head: self.head,
            time: NOW,
            state_key: &world.state_key,
        }
    }
}

/// Boots over a state folder and asserts that it stays locked, for a reason in its answer.
async fn stays_locked(world: &World, running: &Running, grant: &UnlockGrant<'_>) {
    let refused = world.unlock(running, grant).await;
    assert!(matches!(
        refused,
        Err(KeyManagerClientError::Refused { .. })
    ));
    let still = running
        .client
        .appraise(&world.expectation(), &world.appraiser())
        .await
        .unwrap();
    assert!(still.identity().is_none());
}

fn copy_state(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_locked_key_manager_answers_evidence_and_unlock_alone() {
    let world = World::new();
    let running = world.boot().await;
    let mut connection = Connection::open_unverified(&running.url, ClientLimits::DOCUMENTS)
        .await
        .unwrap();
    let request = crate::raw::request();
    let auth = connection
        .post_json("/kbs/v0/auth", &request)
        .await
        .unwrap();
    assert_eq!(auth.status, 503);
    for path in [
        "/kbs/v0/resource/m/v/kek",
        "/kbs/v0/sealift/session",
        "/sealift/v1/checkpoint?since=0",
        "/sealift/v1/log-entry?index=0&size=1",
    ] {
        assert_eq!(connection.get(path).await.unwrap().status, 503, "{path}");
    }
    assert_eq!(
        connection.get("/sealift/v1/other").await.unwrap().status,
        404
    );
    assert_eq!(
        connection
            .get("/sealift/v1/evidence?nonce=x")
            .await
            .unwrap()
            .status,
        400
    );
    assert_eq!(
        connection.get("/sealift/v1/evidence").await.unwrap().status,
        400
    );
    assert!(!world.state().exists());
}

#[tokio::test]
async fn an_unlocked_key_manager_shows_its_identity_and_its_lasting_tls_key() {
    let world = World::new();
    let running = world.boot().await;
    let boot_tls = running.client.tls_spki_sha256().await.unwrap();
    let km = world.unlock(&running, &world.first_unlock()).await.unwrap();
    assert!(km.identity().is_some());
    assert_ne!(running.client.tls_spki_sha256().await.unwrap(), boot_tls);
}

#[tokio::test]
async fn identity_tls_key_and_versions_survive_a_restart() {
    let world = World::new();
    let open = world.with_version().await;
    let (seen, tls) = (Seen::of(&open).await, open.tls().await);
    open.running.stop().await;
    let running = world.boot().await;
    let km = world
        .unlock(&running, &seen.grant(&world, 2))
        .await
        .unwrap();
    assert_eq!(km.identity(), Some(&seen.identity));
    let open = OpenKm {
        world: &world,
        running,
        km,
    };
    assert_eq!(open.tls().await, tls);
    let guest = open.attested().await;
    assert_eq!(guest.key().await.unwrap().expose(), &crate::harness::KEK);
}

#[tokio::test]
async fn a_boot_is_unlocked_once() {
    let world = World::new();
    let open = world.open().await;
    let again = world.unlock(&open.running, &world.first_unlock()).await;
    assert!(matches!(again, Err(KeyManagerClientError::Refused { .. })));
}

#[tokio::test]
async fn another_state_key_leaves_it_locked_and_the_right_one_opens_it_then() {
    let world = World::new();
    let open = world.open().await;
    let seen = Seen::of(&open).await;
    open.running.stop().await;
    let running = world.boot().await;
    let other = SecretBytes::random();
    let wrong = UnlockGrant {
        state_key: &other,
        ..seen.grant(&world, 2)
    };
    stays_locked(&world, &running, &wrong).await;
    world
        .unlock(&running, &seen.grant(&world, 2))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_epoch_that_does_not_rise_leaves_it_locked() {
    let world = World::new();
    let open = world.open().await;
    let seen = Seen::of(&open).await;
    open.running.stop().await;
    let running = world.boot().await;
    for epoch in [0, 1] {
        stays_locked(&world, &running, &seen.grant(&world, epoch)).await;
    }
    world
        .unlock(&running, &seen.grant(&world, 7))
        .await
        .unwrap();
}

/// ATTACKS 8: the host puts an older copy of the disk under the same key manager.
#[tokio::test]
async fn an_old_copy_of_the_database_leaves_it_locked() {
    let world = World::new();
    let open = world.open().await;
    open.running.stop().await;
    let old = world.folder.path().join("old");
    copy_state(&world.state(), &old);

    let running = world.boot().await;
    let early = UnlockGrant {
        epoch: 2,
        ..world.first_unlock()
    };
    let km = world.unlock(&running, &early).await.unwrap();
    let open = OpenKm {
        world: &world,
        running,
        km,
    };
    open.install().await;
    let seen = Seen::of(&open).await;
    open.running.stop().await;

    let running = world.boot_in(&old).await;
    stays_locked(&world, &running, &seen.grant(&world, 3)).await;
    let running = world.boot_in(&world.folder.path().join("empty")).await;
    stays_locked(&world, &running, &seen.grant(&world, 3)).await;
    let running = world.boot().await;
    world
        .unlock(&running, &seen.grant(&world, 3))
        .await
        .unwrap();
}

/// ATTACKS 8: two key managers went on from one copy; the witness saw one of them.
#[tokio::test]
async fn another_history_leaves_it_locked() {
    let world = World::new();
    let open = world.open().await;
    open.running.stop().await;
    let fork = world.folder.path().join("fork");
    copy_state(&world.state(), &fork);
    let mut histories = Vec::new();
    for state in [world.state(), fork.clone()] {
        let running = world.boot_in(&state).await;
        let early = UnlockGrant {
            epoch: 2,
            ..world.first_unlock()
        };
        let km = world.unlock(&running, &early).await.unwrap();
        let open = OpenKm {
            world: &world,
            running,
            km,
        };
        open.install().await;
        histories.push(Seen::of(&open).await);
        open.running.stop().await;
    }
    assert_eq!(histories[0].head.size, histories[1].head.size);
    let running = world.boot_in(&fork).await;
    stays_locked(&world, &running, &histories[0].grant(&world, 3)).await;
    world
        .unlock(&running, &histories[1].grant(&world, 3))
        .await
        .unwrap();
}

/// A row of another moment of the same epoch: the log is whole and every record opens.
#[tokio::test]
async fn a_row_rolled_back_within_an_epoch_leaves_it_locked() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    open.register(open.registration()).await.unwrap();
    open.running.stop().await;
    let before = world.folder.path().join("before");
    copy_state(&world.state(), &before);

    let running = world.boot().await;
    let early = UnlockGrant {
        epoch: 2,
        ..world.first_unlock()
    };
    let km = world.unlock(&running, &early).await.unwrap();
    let open = OpenKm {
        world: &world,
        running,
        km,
    };
    open.activate(crate::harness::VERSION, 4).await.unwrap();
    let floor = sealift_kbs_protocol::command::Floor {
        km_id: open.km.km_id().unwrap(),
        seq: 5,
        not_after: crate::harness::LATER,
        model: crate::harness::name(crate::harness::MODEL),
        serial: 2,
    };
    let kind = sealift_kbs_protocol::command::CommandKind::Floor;
    let old_row = model_row(&world.state()).await;
    open.change(kind, &floor).await.unwrap();
    let seen = Seen::of(&open).await;
    open.running.stop().await;

    let intact = world.folder.path().join("intact");
    copy_state(&world.state(), &intact);
    put_model_row(&world.state(), &old_row).await;
    let running = world.boot().await;
    stays_locked(&world, &running, &seen.grant(&world, 3)).await;
    let running = world.boot_in(&intact).await;
    world
        .unlock(&running, &seen.grant(&world, 3))
        .await
        .unwrap();
}

async fn connect(state: &Path, read_only: bool) -> sqlx::SqlitePool {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(state.join(DATABASE_FILE))
        .read_only(read_only);
    sqlx::sqlite::SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .unwrap()
}

/// Reads a row as a host can while the key manager runs: from a copy of the files.
async fn model_row(state: &Path) -> Vec<u8> {
    use sqlx::Row as _;
    let copy = tempfile::tempdir().unwrap();
    copy_state(state, copy.path());
    let pool = connect(copy.path(), false).await;
    let row = sqlx::query("SELECT sealed FROM models")
        .fetch_one(&pool)
        .await
        .unwrap();
    row.get(0)
}

async fn put_model_row(state: &Path, sealed: &[u8]) {
    let pool = connect(state, false).await;
    sqlx::query("UPDATE models SET sealed = ?")
        .bind(sealed)
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
}

/// An unlock message built by hand.
struct Message {
    unlock: Unlock,
    key: SigningKey,
    delegation: Envelope,
}

impl Message {
    async fn new(world: &World, running: &Running, owner: &Owner) -> Self {
        let km = running
            .client
            .appraise(&world.expectation(), &world.appraiser())
            .await
            .unwrap();
        let unlock = Unlock {
            km_id: None,
            boot_key: *km.boot_key(),
            boot_nonce: *km.boot_nonce(),
            epoch: 1,
            tree_size: 0,
            root: Digest::of(b""),
            time: NOW,
        };
        let key = SigningKey::from_pkcs8(&owner.witness.to_pkcs8()).unwrap();
        Self {
            unlock,
            key,
            delegation: owner.witness_delegation.clone(),
        }
    }

    async fn send(&self, world: &World, running: &Running) -> u16 {
        let document = sign(&self.unlock, &self.key).unwrap();
        let digest = document.digest();
        let to = &self.unlock.boot_key;
        let state_key =
            hpke_box::seal(to, Unlock::TYPE, &digest, world.state_key.expose()).unwrap();
        let message = UnlockMessage {
            document,
            delegation: self.delegation.clone(),
            state_key,
        };
        let mut connection = Connection::open_unverified(&running.url, ClientLimits::DOCUMENTS)
            .await
            .unwrap();
        connection
            .post_json(UNLOCK_PATH, &message)
            .await
            .unwrap()
            .status
            .as_u16()
    }
}

#[tokio::test]
async fn an_unlock_with_one_thing_spoiled_is_refused() {
    type Spoil = fn(&mut Message, &World);
    let world = World::new();
    let running = world.boot().await;
    let rows: [(&str, Spoil); 8] = [
        ("another boot's key", |message, _| {
            message.unlock.boot_key = hpke_box::BoxSecret::generate().public();
        }),
        ("another boot's nonce", |message, _| {
            message.unlock.boot_nonce = sealift_kbs_protocol::Nonce::random();
        }),
        ("a key that nobody delegated", |message, _| {
            message.key = SigningKey::generate();
        }),
        ("a delegation by a foreign root", |message, _| {
            message.delegation = Owner::new().witness_delegation;
        }),
        ("an admin key", |message, world| {
            let key = SigningKey::generate();
            let root = &world.owner.root;
            message.delegation = delegate(root, &key, Role::Admin, &["unlock.v1"]);
            message.key = key;
        }),
        ("an identity that was never made", |message, _| {
            message.unlock.km_id = Some(SigningKey::generate().public().thumbprint());
        }),
        ("a longer history", |message, _| {
            message.unlock.tree_size = 1;
        }),
        ("another empty tree", |message, _| {
            message.unlock.root = Digest::of(b"x");
        }),
    ];
    for (what, spoil) in rows {
        let mut message = Message::new(&world, &running, &world.owner).await;
        spoil(&mut message, &world);
        assert_eq!(message.send(&world, &running).await, 403, "{what}");
    }
    let message = Message::new(&world, &running, &world.owner).await;
    assert_eq!(message.send(&world, &running).await, 200);
}

/// A captured unlock is for one boot: its box opens with that boot's key alone.
#[tokio::test]
async fn an_unlock_replayed_to_the_next_boot_is_refused() {
    let world = World::new();
    let running = world.boot().await;
    let message = Message::new(&world, &running, &world.owner).await;
    running.stop().await;
    let running = world.boot().await;
    assert_eq!(message.send(&world, &running).await, 403);
}

#[tokio::test]
async fn a_database_of_one_mode_is_not_opened_under_another_root() {
    let world = World::new();
    let open = world.open().await;
    let seen = Seen::of(&open).await;
    open.running.stop().await;
    // Another owner measures its own root into the same binary and brings the same disk.
    let mut other = World::new();
    other.state_key = SecretBytes::random();
    let running = other.boot_in(&world.state()).await;
    let refused = other.unlock(&running, &seen.grant(&other, 2)).await;
    assert!(matches!(
        refused,
        Err(KeyManagerClientError::Refused { .. })
    ));
}
