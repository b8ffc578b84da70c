//! The session and its channel.

use sealift_kbs_protocol::{
    GuestCertificate, GuestClientError, SessionGrantError,
    call::{CallOutcome, CertifyRequest, FheRequest, Op},
    channel::{CallAnswer, ClientChannel},
};
use sealift_signed_document::{Digest, SecretBytes, SigningKey};

use crate::{
    harness::{NOW, World},
    raw::{RawGuest, certify_request},
};

#[tokio::test]
async fn a_guests_keys_are_certified_once_in_a_session() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    let grant = guest.client.open_session().await.unwrap();
    assert_eq!(grant.document().manifest_sha256, Digest::of(b"manifest"));
    assert_eq!(grant.document().not_after, NOW + 3_600);
    let (receipt_key, tls) = (SigningKey::generate().public(), Digest::of(b"tls"));
    let certificate = guest.client.certify(receipt_key, tls).await.unwrap();
    let entry = open.last_entry().await;
    assert_eq!(certificate.document().log_index, entry.seq);
    assert_eq!(
        entry.subjects["guest_cert_sha256"],
        certificate.digest().to_string()
    );
    let again = guest.client.certify(receipt_key, tls).await.unwrap();
    assert_eq!(again.digest(), certificate.digest());
    let other = guest
        .client
        .certify(SigningKey::generate().public(), tls)
        .await;
    assert!(matches!(
        other,
        Err(GuestClientError::CallRefused { op: Op::Certify })
    ));
    open.assert_refused("AlreadyCertified").await;
}

#[tokio::test]
async fn a_session_is_granted_once_and_the_same_again() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    let first = guest.client.open_session().await.unwrap();
    let (key, tls) = (SigningKey::generate().public(), Digest::of(b"tls"));
    guest.client.certify(key, tls).await.unwrap();
    let second = guest.client.open_session().await.unwrap();
    assert_eq!(first.digest(), second.digest());
    guest.client.certify(key, tls).await.unwrap();
}

/// ATTACKS 10: a false key manager in between, with the right TLS key even.
#[tokio::test]
async fn a_session_of_a_foreign_identity_is_refused_by_the_guest() {
    let world = World::new();
    let open = world.with_version().await;
    let foreign = SigningKey::generate().public().thumbprint();
    let guest = open.guest_with(|plan| plan.km_id = foreign).await;
    guest.attest().await.unwrap();
    let refused = guest.client.open_session().await;
    assert!(matches!(
        refused,
        Err(GuestClientError::Session(
            SessionGrantError::OtherKeyManager { .. }
        ))
    ));
}

#[tokio::test]
async fn a_guest_refuses_another_tls_key_than_the_pinned_one() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open
        .guest_with(|plan| plan.pin = Digest::of(b"other"))
        .await;
    assert!(matches!(
        guest.attest().await,
        Err(GuestClientError::Transport(_))
    ));
}

/// ATTACKS 10: the cookie and the session's name are known, its secret is not.
#[tokio::test]
async fn a_stolen_cookie_opens_no_operation() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::attested(&open).await;
    let session = guest
        .session(&open)
        .await
        .grant()
        .document()
        .session
        .clone();
    let mut thief = ClientChannel::new(session, &SecretBytes::random());
    let message = certify_request(&mut thief);
    assert_eq!(guest.call(&message).await.status, 401);
    open.assert_refused("Channel").await;
    // The guest itself is not disturbed.
    let mut channel = guest.channel(&open).await;
    let message = certify_request(&mut channel);
    assert_eq!(guest.call(&message).await.status, 200);
}

#[tokio::test]
async fn a_call_without_a_session_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::attested(&open).await;
    let unknown = sealift_kbs_protocol::channel::SessionId::random();
    let mut channel = ClientChannel::new(unknown, &SecretBytes::random());
    let message = certify_request(&mut channel);
    assert_eq!(guest.call(&message).await.status, 401);
}

#[tokio::test]
async fn a_repeated_call_gets_the_stored_answer() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::attested(&open).await;
    let mut channel = guest.channel(&open).await;
    let message = certify_request(&mut channel);
    let first = guest.call(&message).await;
    let entries = open.head().await.size;
    let second = guest.call(&message).await;
    assert_eq!(first.body, second.body);
    assert_eq!(open.head().await.size, entries);
    let answer: CallAnswer = second.json().unwrap();
    let bytes = channel.open(&answer).unwrap();
    assert!(matches!(
        CallOutcome::from_bytes(&bytes),
        Ok(CallOutcome::Granted(_))
    ));
}

#[tokio::test]
async fn a_replayed_or_reordered_call_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::attested(&open).await;
    let mut channel = guest.channel(&open).await;
    let first = certify_request(&mut channel);
    let second = certify_request(&mut channel);
    assert_eq!(guest.call(&second).await.status, 200);
    assert_eq!(guest.call(&first).await.status, 401);
    open.assert_refused("Channel").await;
    let third = certify_request(&mut channel);
    assert_eq!(guest.call(&third).await.status, 200);
    assert_eq!(guest.call(&second).await.status, 401);
}

#[tokio::test]
async fn another_box_under_a_used_number_ends_the_session() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::attested(&open).await;
    let opened = guest.session(&open).await;
    let session = opened.grant().document().session.clone();
    let mut channel = ClientChannel::new(session.clone(), opened.secret());
    let message = certify_request(&mut channel);
    assert_eq!(guest.call(&message).await.status, 200);
    let mut again = ClientChannel::new(session, opened.secret());
    let other = certify_request(&mut again);
    assert_eq!(other.seq, message.seq);
    assert_eq!(guest.call(&other).await.status, 401);
    open.assert_refused("Channel").await;
    let next = certify_request(&mut channel);
    assert_eq!(guest.call(&next).await.status, 401);
    // Nor is a key released to it any more.
    let path = format!(
        "/kbs/v0/resource/{}/{}/kek",
        crate::harness::MODEL,
        crate::harness::VERSION
    );
    assert_eq!(guest.get(&path).await.status, 401);
}

#[tokio::test]
async fn attesting_again_ends_the_old_session() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::attested(&open).await;
    let mut channel = guest.channel(&open).await;
    let again = RawGuest::challenged(&open).await;
    let old = std::mem::replace(&mut guest, again);
    guest.tee_key = old.tee_key;
    let attestation = guest.attestation();
    assert_eq!(guest.attest(&attestation).await.status, 200);
    let message = certify_request(&mut channel);
    assert_eq!(guest.call(&message).await.status, 401);
    let mut channel = guest.channel(&open).await;
    let message = certify_request(&mut channel);
    assert_eq!(guest.call(&message).await.status, 200);
}

/// ATTACKS 9: a certificate after the session has ended.
#[tokio::test]
async fn nothing_is_certified_after_the_session_has_ended() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    guest.client.open_session().await.unwrap();
    open.witness(NOW).await;
    world.at(NOW + 3_600);
    let refused = guest
        .client
        .certify(SigningKey::generate().public(), Digest::of(b""))
        .await;
    assert!(matches!(refused, Err(GuestClientError::NotAttested)));
}

#[tokio::test]
async fn a_request_of_another_operation_is_refused_inside_the_session() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::attested(&open).await;
    let mut channel = guest.channel(&open).await;
    let keys = CertifyRequest {
        receipt_key: SigningKey::generate().public(),
        tls_spki_sha256: Digest::of(b""),
    };
    let bytes = serde_json::to_vec(&keys).unwrap();
    let message = channel.request(Op::Unwrap, &bytes).unwrap();
    let answer = guest.call(&message).await;
    assert_eq!(answer.status, 200);
    let bytes = channel.open(&answer.json().unwrap()).unwrap();
    assert!(matches!(
        CallOutcome::from_bytes(&bytes),
        Ok(CallOutcome::Refused)
    ));
    open.assert_refused("Malformed").await;
}

#[tokio::test]
async fn rows_of_an_unknown_batch_are_not_decrypted() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    guest.client.open_session().await.unwrap();
    let request = FheRequest {
        batch_sha256: Digest::of(b"batch"),
        partition: 0,
        run: "run".into(),
        layer: "head".into(),
        rows: vec![],
        faults: vec![],
    };
    let refused = guest.client.fhe(&request).await;
    assert!(matches!(
        refused,
        Err(GuestClientError::CallRefused { op: Op::Fhe })
    ));
}

#[tokio::test]
async fn the_certificate_names_the_session_it_was_given_in() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    let grant = guest.client.open_session().await.unwrap();
    let key = SigningKey::generate().public();
    let certificate = guest.client.certify(key, Digest::of(b"tls")).await.unwrap();
    let identity = open.km.identity().unwrap();
    let certificate = certificate
        .envelope()
        .verify::<GuestCertificate>(identity)
        .unwrap();
    let said = certificate.document();
    assert_eq!(said.session_grant_sha256, grant.digest());
    assert_eq!(
        (said.receipt_key, said.tls_spki_sha256),
        (key, Digest::of(b"tls"))
    );
}
