//! The end of a version's keys: in the records, in memory, in older copies of the records, and
//! what the receipt says of the copies that are out of reach.

use std::{fs, path::Path};

use sealift_kbs_protocol::{
    GuestClientError, KeyManagerClientError, Signer, UnlockGrant,
    command::{CommandKind, Register, Withdraw},
    erasure::{Erase, Erasure, OwnerCopies, REKEY_PATH, Rekey, RekeyMessage},
    merkle::TreeHead,
    model_status::VersionState,
};
use sealift_key_manager::EntryType;
use sealift_pinned_tls::{ClientLimits, Connection};
use sealift_signed_document::{
    Digest, Document, Role, SecretBytes, Signed, SigningKey, hpke_box, sign,
};

use crate::{
    encrypted_head::EncryptedHead,
    harness::{KEK, LATER, MODEL, NOW, OpenKm, Owner, VERSION, World, delegate, name},
};

fn erase_document(open: &OpenKm<'_>, seq: u64) -> Erase {
    Erase {
        km_id: open.km.km_id().unwrap(),
        seq,
        not_after: LATER,
        model: name(MODEL),
        version: name(VERSION),
        manifest_sha256: Digest::of(b"manifest"),
        copies: OwnerCopies {
            owner: false,
            escrow: vec!["vault".to_owned()],
        },
    }
}

async fn erase(open: &OpenKm<'_>, seq: u64) -> Result<(), KeyManagerClientError> {
    let document = erase_document(open, seq);
    open.change(CommandKind::Erase, &document).await
}

async fn rekey(
    open: &OpenKm<'_>,
    epoch: u64,
    state_key: &SecretBytes<32>,
) -> Result<(), KeyManagerClientError> {
    let witness = open.world.owner.witness();
    let rekeyed = open
        .client()
        .rekey(&open.km, witness, (epoch, state_key))
        .await;
    rekeyed.map(drop)
}

async fn receipt(open: &OpenKm<'_>) -> Result<Signed<Erasure>, KeyManagerClientError> {
    let (model, version) = (name(MODEL), name(VERSION));
    open.client().erasure(&open.km, &model, &version).await
}

fn copy_state(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// What a witness that saw `head` grants over a copy of the state.
async fn unlocks(
    world: &World,
    state: &Path,
    (identity, epoch): (&sealift_signed_document::VerifyingKey, u64),
    (head, state_key): (TreeHead, &SecretBytes<32>),
) -> Option<Vec<u8>> {
    let running = world.boot_in(state).await;
    let grant = UnlockGrant {
        identity: Some(identity),
        epoch,
        head,
        time: NOW,
        state_key,
    };
    let Ok(km) = world.unlock(&running, &grant).await else {
        running.stop().await;
        return None;
    };
    let open = OpenKm { world, running, km };
    let guest = open.guest().await;
    let key = match guest.attest().await {
        Ok(()) => guest.key().await.ok().map(|key| key.expose().to_vec()),
        Err(_) => None,
    };
    open.running.stop().await;
    Some(key.unwrap_or_default())
}

/// ATTACKS 21: an older copy of the database holds the erased KEK, under a state key that is gone.
#[tokio::test]
async fn an_old_database_and_the_current_state_key_do_not_reveal_an_erased_kek() {
    let world = World::new();
    let open = world.with_version().await;
    let (identity, seen) = (*open.km.identity().unwrap(), open.head().await);
    let old = world.folder.path().join("old");
    copy_state(&world.state(), &old);
    let next = SecretBytes::random();
    erase(&open, 5).await.unwrap();
    rekey(&open, 2, &next).await.unwrap();
    let head = open.head().await;
    open.running.stop().await;

    // The old state key would still open the old copy: it has to be destroyed.
    let witness = (&identity, 9);
    let control = world.folder.path().join("control");
    copy_state(&old, &control);
    let found = unlocks(&world, &control, witness, (seen, &world.state_key)).await;
    assert_eq!(found.unwrap(), KEK);

    for copy in [&old, &world.state()] {
        let opened = unlocks(&world, copy, witness, (seen, &next)).await;
        let expected = (copy != &old).then(Vec::new);
        assert_eq!(opened, expected, "{}", copy.display());
    }
    // And the current records open under the old key no more, for the newest witness either.
    let state = world.state();
    let stale = unlocks(&world, &state, (&identity, 11), (head, &world.state_key)).await;
    assert_eq!(stale, None);
}

#[tokio::test]
async fn no_byte_of_a_record_from_before_stays_on_the_disk() {
    let world = World::new();
    let open = world.with_version().await;
    let before = sealed_rows(&world.state()).await;
    assert!(before.len() > 5, "{}", before.len());
    erase(&open, 5).await.unwrap();
    rekey(&open, 2, &SecretBytes::random()).await.unwrap();
    open.running.stop().await;
    let files = fs::read_dir(world.state()).unwrap();
    let disk: Vec<u8> = files
        .flat_map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    for row in before {
        let start = &row[..32];
        assert!(!disk.windows(32).any(|part| part == start));
    }
}

/// Encrypted rows as a host can read them while the key manager runs: from a copy of the files.
async fn sealed_rows(state: &Path) -> Vec<Vec<u8>> {
    use sqlx::Row as _;
    let copy = tempfile::tempdir().unwrap();
    copy_state(state, copy.path());
    let file = copy.path().join(sealift_key_manager::DATABASE_FILE);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let mut rows = Vec::new();
    for table in ["model_keys", "versions", "models", "keys", "installed"] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT sealed FROM {table}"));
        let found = sqlx::query(sql).fetch_all(&pool).await.unwrap();
        rows.extend(found.iter().map(|row| row.get::<Vec<u8>, _>(0)));
    }
    pool.close().await;
    rows
}

#[tokio::test]
async fn the_receipt_says_what_was_deleted_and_which_copies_there_were() {
    let (world, head) = (World::new(), EncryptedHead::new());
    let open = head.registered(&world, |_| ()).await;
    let (holder, attested) = (open.attested().await, open.attested().await);
    holder.key().await.unwrap();
    erase(&open, 5).await.unwrap();
    // The state key has not been changed yet, so older copies still hold the keys.
    let early = receipt(&open).await.map(drop).unwrap_err();
    assert!(matches!(early, KeyManagerClientError::Refused { status } if status == 404));
    rekey(&open, 2, &SecretBytes::random()).await.unwrap();
    let signed = receipt(&open).await.unwrap();
    let said = signed.document();
    assert_eq!(
        (
            said.deleted.model_keys,
            said.deleted.fhe_bundles,
            said.epoch
        ),
        (1, 1, 2)
    );
    assert_eq!((said.guests.len(), said.sessions_ended), (1, 2));
    assert_eq!(said.guests[0].lease_ends, NOW + 3_600);
    assert_eq!(said.copies, erase_document(&open, 5).copies);
    assert_eq!(said.erased_index + 1, said.rekeyed_index);
    assert_eq!(said.owner_root, world.owner.root.public());
    let entry = open.last_entry().await;
    assert_eq!(
        (entry.kind, entry.seq),
        (EntryType::Rekeyed, said.rekeyed_index)
    );
    drop(attested);
}

#[tokio::test]
async fn an_open_session_ends_with_the_erasure_of_its_version() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    guest.client.open_session().await.unwrap();
    guest.key().await.unwrap();
    erase(&open, 5).await.unwrap();
    assert!(matches!(
        guest.key().await,
        Err(GuestClientError::NotAttested)
    ));
    assert!(guest.attest().await.is_err());
    open.assert_refused("VersionState").await;
}

#[tokio::test]
async fn a_version_is_erased_once_and_its_name_is_used_up() {
    let world = World::new();
    let open = world.with_version().await;
    erase(&open, 5).await.unwrap();
    erase(&open, 6).await.unwrap_err();
    open.assert_refused("VersionState").await;
    let withdraw = Withdraw {
        km_id: open.km.km_id().unwrap(),
        seq: 6,
        not_after: LATER,
        model: name(MODEL),
        version: name(VERSION),
    };
    open.change(CommandKind::Withdraw, &withdraw)
        .await
        .unwrap_err();
    open.assert_refused("VersionState").await;
    let again = Register {
        seq: 6,
        serial: 2,
        ..open.registration()
    };
    open.register(again).await.unwrap_err();
    open.assert_refused("AlreadyRegistered").await;
    let root = world.owner.root.public();
    let status = open
        .client()
        .model_status(&open.km, &root, &name(MODEL))
        .await;
    assert_eq!(status.unwrap().versions[0].state, VersionState::Erased);
}

#[tokio::test]
async fn an_erasure_with_one_thing_spoiled_is_refused() {
    type Spoil = fn(&mut Erase);
    let world = World::new();
    let open = world.with_version().await;
    let rows: [(&str, Spoil); 6] = [
        ("UnknownVersion", |erase| erase.version = name("v2")),
        ("UnknownVersion", |erase| erase.model = name("other")),
        ("OtherManifest", |erase| {
            erase.manifest_sha256 = Digest::of(b"other");
        }),
        ("Malformed", |erase| {
            erase.copies.escrow = vec!["x".repeat(257)];
        }),
        ("Malformed", |erase| {
            erase.copies.escrow = vec![String::new(); 17];
        }),
        ("Sequence", |erase| erase.seq = 4),
    ];
    for (refusal, spoil) in rows {
        let mut document = erase_document(&open, 5);
        spoil(&mut document);
        if document.model != name(MODEL) {
            document.seq = 1;
        }
        open.change(CommandKind::Erase, &document)
            .await
            .unwrap_err();
        open.assert_refused(refusal).await;
    }
    let guest = open.attested().await;
    assert_eq!(guest.key().await.unwrap().expose(), &KEK);
}

#[tokio::test]
async fn another_owner_erases_nothing() {
    let other = Owner::new();
    let root = other.root.public();
    let world = World::with_roots(|config| config.owner_roots.push(root));
    let open = world.with_version().await;
    let document = erase_document(&open, 1);
    let signers = [other.signer()];
    let sent = open
        .client()
        .change(&open.km, &signers, CommandKind::Erase, &document);
    sent.await.map(drop).unwrap_err();
    open.assert_refused("NameTaken").await;
}

#[tokio::test]
async fn a_change_of_the_state_key_with_one_thing_spoiled_is_refused() {
    struct Spoiled {
        rekey: Rekey,
        key: SigningKey,
        delegation: sealift_signed_document::Envelope,
        secret: Vec<u8>,
    }
    type Spoil = fn(&mut Spoiled, &World);
    let world = World::new();
    let open = world.open().await;
    let rows: [(&str, Spoil); 7] = [
        ("OtherBoot", |spoiled, _| {
            spoiled.rekey.boot_key = hpke_box::BoxSecret::generate().public();
        }),
        ("OtherKeyManager", |spoiled, _| {
            spoiled.rekey.km_id = SigningKey::generate().public().thumbprint();
        }),
        ("State", |spoiled, _| spoiled.rekey.epoch = 1),
        ("Document", |spoiled, _| {
            spoiled.key = SigningKey::generate();
        }),
        ("Document", |spoiled, _| {
            spoiled.delegation = Owner::new().witness_delegation;
        }),
        ("OtherRole", |spoiled, world| {
            let root = &world.owner.root;
            spoiled.delegation = delegate(root, &spoiled.key, Role::Admin, &["rekey.v1"]);
        }),
        ("BadStateKey", |spoiled, _| spoiled.secret.truncate(31)),
    ];
    for (refusal, spoil) in rows {
        let mut spoiled = Spoiled {
            rekey: Rekey {
                km_id: open.km.km_id().unwrap(),
                boot_key: *open.km.boot_key(),
                epoch: 2,
            },
            key: SigningKey::from_pkcs8(&world.owner.witness.to_pkcs8()).unwrap(),
            delegation: world.owner.witness_delegation.clone(),
            secret: vec![7; 32],
        };
        spoil(&mut spoiled, &world);
        let document = sign(&spoiled.rekey, &spoiled.key).unwrap();
        let boxed = hpke_box::seal(
            &spoiled.rekey.boot_key,
            Rekey::TYPE,
            &document.digest(),
            &spoiled.secret,
        );
        let message = RekeyMessage {
            document,
            delegation: spoiled.delegation,
            state_key: boxed.unwrap(),
        };
        let connection = Connection::open_unverified(&open.running.url, ClientLimits::DOCUMENTS);
        let mut connection = connection.await.unwrap();
        let answer = connection.post_json(REKEY_PATH, &message).await.unwrap();
        assert_eq!(answer.status, 403, "{refusal}");
        open.assert_refused(refusal).await;
    }
    let (admin, key): (Signer<'_>, _) = (world.owner.signer(), SecretBytes::random());
    let by_admin = open.client().rekey(&open.km, admin, (2, &key));
    by_admin.await.map(drop).unwrap_err();
    rekey(&open, 2, &SecretBytes::random()).await.unwrap();
}
