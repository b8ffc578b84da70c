//! What owners may change, and what they refuse themselves.

use sealift_encrypted_batch::Grant;
use sealift_evidence::Assurance;
use sealift_kbs_protocol::{
    KeyManagerClientError, Nonce, Signer,
    command::{
        Acknowledged, Activate, Approval, Channel, CommandKind, Floor, InstallKind, KmAck,
        PUSH_NONCE_PATH, PushNonce, REGISTER_PATH, Register, RegisterMessage,
    },
};
use sealift_pinned_tls::{Answer, ClientLimits, Connection};
use sealift_signed_document::{Digest, Document, Role, SigningKey, hpke_box, sign};

use crate::harness::{
    GUEST_MEASUREMENT, LATER, MODEL, NOW, OpenKm, Owner, VERSION, World, bundle, delegate, name,
    reference_values, template,
};

fn refused<T>(result: Result<T, KeyManagerClientError>) -> u16 {
    match result {
        Err(KeyManagerClientError::Refused { status }) => status.as_u16(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was accepted"),
    }
}

/// A push built by hand.
struct Push {
    register: Register,
    connection: Connection,
}

impl Push {
    async fn new(open: &OpenKm<'_>) -> Self {
        let url = &open.running.url;
        let mut connection = Connection::open_unverified(url, ClientLimits::DOCUMENTS)
            .await
            .unwrap();
        let answer = connection.post_json(PUSH_NONCE_PATH, &()).await.unwrap();
        let PushNonce { push_nonce } = answer.json().unwrap();
        let bundle_sha256 = bundle().digest().unwrap();
        let register = Register {
            push_nonce,
            bundle_sha256,
            ..open.registration()
        };
        Self {
            register,
            connection,
        }
    }

    fn message(&self, owner: &Owner) -> RegisterMessage {
        self.message_by(&[owner])
    }

    fn message_by(&self, owners: &[&Owner]) -> RegisterMessage {
        let approvals: Vec<Approval> = owners
            .iter()
            .map(|owner| owner.approve(&self.register))
            .collect();
        let digest = approvals[0].document.digest();
        let bytes = bundle().to_bytes().unwrap();
        let keys = hpke_box::seal(&self.register.boot_key, Register::TYPE, &digest, &bytes);
        RegisterMessage {
            approvals,
            keys: keys.unwrap(),
        }
    }

    async fn send(&mut self, message: &RegisterMessage) -> Answer {
        self.connection
            .post_json(REGISTER_PATH, message)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_push_is_staged_and_acknowledged() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    let index = open.register(open.registration()).await.unwrap();
    let entry = open.last_entry().await;
    assert_eq!((entry.seq, entry.subjects["serial"].as_str()), (index, "1"));
    assert!(open.guest().await.attest().await.is_err());
    open.assert_refused("VersionState").await;
}

/// ATTACKS 3: the genuine, correctly measured binary under somebody else's root.
#[tokio::test]
async fn an_owner_refuses_a_key_manager_of_a_foreign_root() {
    let host = Owner::new();
    let world = World::with_roots(|config| config.owner_roots = vec![host.root.public()]);
    let running = world.boot().await;
    let appraised = running
        .client
        .appraise(&world.expectation(), &world.appraiser())
        .await;
    let Err(KeyManagerClientError::Untrusted(reason)) = appraised else {
        panic!("a key manager of another owner was trusted")
    };
    let reason = std::error::Error::source(&*reason).unwrap().to_string();
    assert!(reason.contains("other owner roots"), "{reason}");
}

#[tokio::test]
async fn an_owner_refuses_a_key_manager_that_would_believe_another_anchor() {
    let world = World::with_roots(|config| config.anchors.push(Digest::of(b"another root")));
    let running = world.boot().await;
    let mut expectation = world.expectation();
    expectation.anchors.remove(&Digest::of(b"another root"));
    let appraised = running
        .client
        .appraise(&expectation, &world.appraiser())
        .await;
    assert!(matches!(
        appraised,
        Err(KeyManagerClientError::Untrusted(_))
    ));
}

#[tokio::test]
async fn an_owner_refuses_evidence_for_another_nonce() {
    let world = World::new();
    let running = world.boot().await;
    let evidence = running.client.evidence(&Nonce::random()).await.unwrap();
    let appraised = evidence.appraise(&Nonce::random(), &world.expectation(), &world.appraiser());
    assert!(appraised.is_err());
}

/// Whoever stands in between cannot put its own key into genuine evidence.
#[tokio::test]
async fn an_owner_refuses_evidence_with_another_boot_key() {
    let world = World::new();
    let running = world.boot().await;
    let nonce = Nonce::random();
    let mut evidence = running.client.evidence(&nonce).await.unwrap();
    evidence.boot_key = hpke_box::BoxSecret::generate().public();
    assert!(
        evidence
            .appraise(&nonce, &world.expectation(), &world.appraiser())
            .is_err()
    );
}

#[tokio::test]
async fn a_replayed_register_is_refused() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    let mut push = Push::new(&open).await;
    let message = push.message(&world.owner);
    assert_eq!(push.send(&message).await.status, 200);
    assert_eq!(push.send(&message).await.status, 403);
    open.assert_refused("Sequence").await;
}

#[tokio::test]
async fn a_push_nonce_is_good_for_one_push() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    let mut push = Push::new(&open).await;
    assert_eq!(push.send(&push.message(&world.owner)).await.status, 200);
    push.register.seq += 1;
    push.register.serial += 1;
    push.register.version = name("v2");
    assert_eq!(push.send(&push.message(&world.owner)).await.status, 403);
    open.assert_refused("PushNonce").await;
}

#[tokio::test]
async fn a_register_with_one_thing_spoiled_is_refused_for_that_thing() {
    type Spoil = fn(&mut Register);
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    let rows: [(Spoil, &str); 9] = [
        (|register| register.seq = 4, "Sequence"),
        (|register| register.seq = 2, "Sequence"),
        (
            |register| register.km_id = SigningKey::generate().public().thumbprint(),
            "OtherKeyManager",
        ),
        (
            |register| register.push_nonce = Nonce::random(),
            "PushNonce",
        ),
        (
            |register| register.bundle_sha256 = Digest::of(b"other"),
            "OtherBundle",
        ),
        (|register| register.serial = 0, "SerialNotRising"),
        (
            |register| register.template_sha256 = Digest::of(b"other"),
            "NotInstalled",
        ),
        (
            |register| register.reference_values_sha256 = register.template_sha256,
            "NotInstalled",
        ),
        (
            |register| register.min_assurance = Assurance::Hardware,
            "ModeTooWeak",
        ),
    ];
    for (spoil, reason) in rows {
        let mut push = Push::new(&open).await;
        spoil(&mut push.register);
        assert_eq!(
            push.send(&push.message(&world.owner)).await.status,
            403,
            "{reason}"
        );
        open.assert_refused(reason).await;
    }
    let mut push = Push::new(&open).await;
    push.register.boot_key = hpke_box::BoxSecret::generate().public();
    assert_eq!(push.send(&push.message(&world.owner)).await.status, 403);
    open.assert_refused("OtherBoot").await;
    let mut push = Push::new(&open).await;
    assert_eq!(push.send(&push.message(&world.owner)).await.status, 200);
}

/// The keys travel with their document and with no other.
#[tokio::test]
async fn keys_pushed_beside_another_document_are_refused() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    let mut push = Push::new(&open).await;
    let mut message = push.message(&world.owner);
    push.register.serial = 9;
    message.keys = push.message(&world.owner).keys;
    assert_eq!(push.send(&message).await.status, 403);
    open.assert_refused("Document").await;
}

#[tokio::test]
async fn an_undelegated_or_differently_delegated_key_changes_nothing() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    let (stranger, owner) = (SigningKey::generate(), &world.owner);
    let register = open.registration();
    let foreign = delegate(&stranger, &stranger, Role::Admin, &["register.v1"]);
    let witness = delegate(&owner.root, &stranger, Role::Witness, &["register.v1"]);
    let narrow = delegate(&owner.root, &stranger, Role::Admin, &["activate.v1"]);
    for (delegation, reason) in [
        (&foreign, "Document"),
        (&witness, "OtherRole"),
        (&narrow, "Document"),
    ] {
        let signer = [Signer {
            key: &stranger,
            delegation,
        }];
        let pushed = open
            .client()
            .register(&open.km, &signer, register.clone(), &bundle())
            .await;
        assert_eq!(refused(pushed), 403);
        open.assert_refused(reason).await;
    }
}

/// ATTACKS 3: two owners share a key manager; the name is the first one's.
#[tokio::test]
async fn a_second_owner_cannot_claim_a_models_name() {
    let second = Owner::new();
    let world = World::with_roots(|config| config.owner_roots.push(second.root.public()));
    let open = world.with_version().await;
    let signers = [second.signer()];
    for (seq, kind, content) in [
        (1, InstallKind::InitTemplate, second.approve(&template())),
        (
            2,
            InstallKind::ReferenceValues,
            second.approve(&reference_values(GUEST_MEASUREMENT)),
        ),
    ] {
        let install = open.install_document(seq, kind);
        open.client()
            .install(&open.km, &signers, install, content)
            .await
            .unwrap();
    }
    let register = Register {
        serial: 2,
        version: name("v2"),
        template_sha256: second.approve(&template()).document.digest(),
        ..open.registration()
    };
    let pushed = open
        .client()
        .register(&open.km, &signers, register, &bundle())
        .await;
    assert_eq!(refused(pushed), 403);
    open.assert_refused("NameTaken").await;
    let floor = floor(&open, 3, 9);
    let raised = open
        .client()
        .change(&open.km, &signers, CommandKind::Floor, &floor)
        .await;
    assert_eq!(refused(raised), 403);
    open.assert_refused("NameTaken").await;
}

#[tokio::test]
async fn serials_rise_and_an_active_version_is_never_overwritten() {
    let world = World::new();
    let open = world.with_version().await;
    let register = Register {
        seq: 5,
        ..open.registration()
    };
    let again = Register {
        serial: 2,
        ..register.clone()
    };
    assert_eq!(refused(open.register(again).await), 403);
    open.assert_refused("AlreadyRegistered").await;
    let same_serial = Register {
        version: name("v2"),
        ..register.clone()
    };
    assert_eq!(refused(open.register(same_serial).await), 403);
    open.assert_refused("SerialNotRising").await;
    let next = Register {
        version: name("v2"),
        serial: 2,
        ..register
    };
    open.register(next).await.unwrap();
}

/// The owner lost the keys before it read the acknowledgement, and seals again.
#[tokio::test]
async fn a_staged_version_may_be_pushed_again_until_it_is_activated() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    open.register(open.registration()).await.unwrap();
    let root = world.owner.root.public();
    let status = open
        .client()
        .model_status(&open.km, &root, &name(MODEL))
        .await
        .unwrap();
    assert_eq!((status.seq, status.newest), (3, 1));
    let seq = status.seq + 1;
    open.register(Register {
        seq,
        ..open.registration()
    })
    .await
    .unwrap();
    open.activate(VERSION, 5).await.unwrap();
    let again = Register {
        seq: 6,
        ..open.registration()
    };
    assert_eq!(refused(open.register(again).await), 403);
    open.assert_refused("AlreadyRegistered").await;
}

#[tokio::test]
async fn an_activation_names_a_staged_version_and_its_manifest() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    open.register(open.registration()).await.unwrap();
    let activate = Activate {
        km_id: open.km.km_id().unwrap(),
        seq: 4,
        not_after: LATER,
        model: name(MODEL),
        version: name(VERSION),
        manifest_sha256: Digest::of(b"other"),
    };
    assert_eq!(
        refused(open.change(CommandKind::Activate, &activate).await),
        403
    );
    open.assert_refused("OtherManifest").await;
    let ended = Activate {
        not_after: NOW,
        ..activate.clone()
    };
    assert_eq!(
        refused(open.change(CommandKind::Activate, &ended).await),
        403
    );
    open.assert_refused("DocumentEnded").await;
    let unknown = Activate {
        version: name("v9"),
        ..activate
    };
    assert_eq!(
        refused(open.change(CommandKind::Activate, &unknown).await),
        403
    );
    open.assert_refused("UnknownVersion").await;
    open.activate(VERSION, 4).await.unwrap();
    assert_eq!(refused(open.activate(VERSION, 5).await), 403);
    open.assert_refused("VersionState").await;
}

/// ATTACKS 15: a captured change is good for nothing else.
#[tokio::test]
async fn a_document_of_one_kind_is_not_taken_for_another() {
    let world = World::new();
    let open = world.with_version().await;
    let floor = floor(&open, 5, 2);
    assert_eq!(
        refused(open.change(CommandKind::Channel, &floor).await),
        403
    );
    open.assert_refused("Document").await;
}

fn floor(open: &OpenKm<'_>, seq: u64, serial: u64) -> Floor {
    let km_id = open.km.km_id().unwrap();
    Floor {
        km_id,
        seq,
        not_after: LATER,
        model: name(MODEL),
        serial,
    }
}

#[tokio::test]
async fn a_floor_only_rises() {
    let world = World::new();
    let open = world.with_version().await;
    open.change(CommandKind::Floor, &floor(&open, 5, 3))
        .await
        .unwrap();
    for serial in [3, 2] {
        let lower = floor(&open, 6, serial);
        assert_eq!(refused(open.change(CommandKind::Floor, &lower).await), 403);
        open.assert_refused("FloorNotRising").await;
    }
    let below = Register {
        seq: 6,
        version: name("v2"),
        serial: 2,
        ..open.registration()
    };
    assert_eq!(refused(open.register(below).await), 403);
    open.assert_refused("SerialNotRising").await;
}

#[tokio::test]
async fn a_channel_points_at_an_active_version() {
    let world = World::new();
    let open = world.with_version().await;
    let channel = |serial| Channel {
        km_id: open.km.km_id().unwrap(),
        seq: 5,
        not_after: LATER,
        model: name(MODEL),
        channel: name("stable"),
        serial,
    };
    assert_eq!(
        refused(open.change(CommandKind::Channel, &channel(2)).await),
        403
    );
    open.assert_refused("UnknownVersion").await;
    open.change(CommandKind::Channel, &channel(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn where_two_roots_must_agree_one_is_not_enough() {
    let second = Owner::new();
    let world = World::with_roots(|config| {
        config.owner_roots.push(second.root.public());
        config.threshold = 2;
    });
    let open = world.open().await;
    let push = Push::new(&open).await;
    let install = open.install_document(1, InstallKind::InitTemplate);
    let one = [world.owner.signer()];
    let alone = open
        .client()
        .install(&open.km, &one, install.clone(), open.template_approval())
        .await;
    assert_eq!(refused(alone), 403);
    open.assert_refused("Threshold").await;
    let twice = [world.owner.signer(), world.owner.signer()];
    let same = open
        .client()
        .install(&open.km, &twice, install.clone(), open.template_approval())
        .await;
    assert_eq!(refused(same), 403);
    open.assert_refused("Threshold").await;
    let both = [world.owner.signer(), second.signer()];
    open.client()
        .install(&open.km, &both, install, open.template_approval())
        .await
        .unwrap();
    drop(push);
}

#[tokio::test]
async fn a_grant_has_one_recipient_of_its_own_and_is_given_once() {
    let world = World::new();
    let open = world.with_version().await;
    let (user, signers) = (SigningKey::generate(), [world.owner.signer()]);
    let first = open.grant_document(&user, 5);
    let ack = open
        .client()
        .grant(&open.km, &signers, &first)
        .await
        .unwrap();
    let identity = open.km.identity().unwrap();
    let recipient = |ack| {
        let accepted =
            sealift_encrypted_batch::GrantRecipient::accept(ack, identity, &user.public());
        accepted.unwrap().ack().age_recipient.clone()
    };
    assert_eq!(open.client().grant_ack(first.grant).await.unwrap(), ack);
    let again = Grant {
        seq: 6,
        ..first.clone()
    };
    assert_eq!(
        refused(open.client().grant(&open.km, &signers, &again).await),
        403
    );
    open.assert_refused("GrantExists").await;
    let second = open.grant_document(&user, 6);
    let other = open
        .client()
        .grant(&open.km, &signers, &second)
        .await
        .unwrap();
    assert_ne!(recipient(&ack), recipient(&other));
}

#[tokio::test]
async fn an_acknowledgement_of_somebody_else_is_not_believed() {
    let world = World::new();
    let open = world.open().await;
    open.install().await;
    let mut push = Push::new(&open).await;
    let message = push.message(&world.owner);
    let answer: Acknowledged = push.send(&message).await.json().unwrap();
    let identity = open.km.identity().unwrap();
    let ack = answer.ack.verify::<KmAck>(identity).unwrap();
    let forged = sign(ack.document(), &SigningKey::generate()).unwrap();
    assert!(forged.verify::<KmAck>(identity).is_err());
    assert_eq!(
        ack.document().document_sha256,
        message.approvals[0].document.digest()
    );
}
