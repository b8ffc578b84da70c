//! From an attested guest to its model key, and every way in which that is refused.

use http::{HeaderMap, HeaderValue, Method, header};
use sealift_kbs_protocol::{
    GuestClientError, TeeKey,
    command::{CommandKind, Floor, Withdraw},
    jwe::{self, Jwe, JweError},
    rcar::{AttestationAnswer, RESOURCE_PREFIX},
};
use sealift_key_manager::EntryType;

use crate::{
    harness::{KEK, LATER, MODEL, NOW, TestGuest, VERSION, World, name},
    raw::RawGuest,
};

async fn refused_status(guest: &TestGuest) -> u16 {
    match guest.key().await.err().unwrap() {
        GuestClientError::NotAttested => 401,
        GuestClientError::Refused { status } => status.as_u16(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_attested_guest_receives_its_versions_key() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    assert_eq!(guest.key().await.unwrap().expose(), &KEK);
    let entry = open.last_entry().await;
    assert_eq!(entry.kind, EntryType::KeyReleased);
    assert_eq!(entry.subjects["model"], MODEL);
    assert_eq!(entry.decision, "allowed");
}

#[tokio::test]
async fn a_guest_that_did_not_attest_receives_nothing() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    let path = format!("{RESOURCE_PREFIX}{MODEL}/{VERSION}/kek");
    assert_eq!(guest.get(&path).await.status, 401);
    guest.cookie = HeaderValue::from_static("kbs-session-id=00000000000000000000000000000000");
    assert_eq!(guest.get(&path).await.status, 401);
    guest.cookie = HeaderValue::from_static("other=1");
    assert_eq!(guest.get(&path).await.status, 401);
}

/// ATTACKS 25: no path but the one leads to a key, and none at all to an encrypted layer's.
#[tokio::test]
async fn every_other_spelling_of_the_path_is_not_found() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::attested(&open).await;
    for path in [
        format!("{MODEL}/{VERSION}/fhe"),
        format!("{MODEL}/{VERSION}/head"),
        format!("{MODEL}/{VERSION}/KEK"),
        format!("{}/{VERSION}/kek", MODEL.to_uppercase()),
        format!("{MODEL}/{VERSION}/%6bek"),
        format!("%73entiment/{VERSION}/kek"),
        format!("{MODEL}%2f{VERSION}/kek"),
        format!("{MODEL}/{VERSION}/kek/"),
        format!("{MODEL}//{VERSION}/kek"),
        format!("{MODEL}/./{VERSION}/kek"),
        format!("x/../{MODEL}/{VERSION}/kek"),
        format!("{MODEL}/{VERSION}/kek?x=1"),
        format!("{MODEL}/{VERSION}"),
        format!("{MODEL}/{VERSION}/head/fhe"),
    ] {
        let answer = guest.get(&format!("{RESOURCE_PREFIX}{path}")).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn another_versions_key_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::attested(&open).await;
    let answer = guest.get(&format!("{RESOURCE_PREFIX}{MODEL}/v2/kek")).await;
    assert_eq!(answer.status, 403);
    open.assert_refused("OtherVersion").await;
}

#[tokio::test]
async fn a_version_below_the_floor_is_not_released() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    let floor = Floor {
        km_id: open.km.km_id().unwrap(),
        seq: 5,
        not_after: LATER,
        model: name(MODEL),
        serial: 2,
    };
    open.change(CommandKind::Floor, &floor).await.unwrap();
    assert_eq!(refused_status(&guest).await, 403);
    open.assert_refused("BelowFloor").await;
}

#[tokio::test]
async fn a_withdrawn_version_is_not_released_and_attests_nobody() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    let withdraw = Withdraw {
        km_id: open.km.km_id().unwrap(),
        seq: 5,
        not_after: LATER,
        model: name(MODEL),
        version: name(VERSION),
    };
    open.change(CommandKind::Withdraw, &withdraw).await.unwrap();
    assert_eq!(refused_status(&guest).await, 403);
    open.assert_refused("VersionState").await;
    assert!(open.guest().await.attest().await.is_err());
    open.assert_refused("VersionState").await;
}

#[tokio::test]
async fn no_more_guests_hold_the_key_than_the_lease_allows() {
    let world = World::new();
    let open = world.with_version().await;
    let (first, second, third) = (
        open.attested().await,
        open.attested().await,
        open.attested().await,
    );
    first.key().await.unwrap();
    second.key().await.unwrap();
    first.key().await.unwrap();
    assert_eq!(refused_status(&third).await, 403);
    open.assert_refused("NoFreeLease").await;
    open.witness(NOW).await;
    world.at(NOW + 3_600);
    open.witness(NOW + 3_600).await;
    let fourth = open.attested().await;
    fourth.key().await.unwrap();
}

#[tokio::test]
async fn a_guest_whose_lease_is_over_must_attest_again() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.attested().await;
    open.witness(NOW).await;
    world.at(NOW + 3_600);
    assert_eq!(refused_status(&guest).await, 401);
    open.witness(NOW + 3_600).await;
    guest.attest().await.unwrap();
    guest.key().await.unwrap();
}

/// A cookie or token only says whose key the answer is encrypted to.
#[tokio::test]
async fn a_stolen_cookie_or_token_yields_only_what_the_guests_own_key_opens() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    let attestation = guest.attestation();
    let token = guest
        .attest(&attestation)
        .await
        .json::<AttestationAnswer>()
        .unwrap()
        .token;
    let path = format!("{RESOURCE_PREFIX}{MODEL}/{VERSION}/kek");
    let mut headers = HeaderMap::new();
    let bearer = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    headers.insert(header::AUTHORIZATION, bearer);
    let by_token = guest
        .connection
        .send(Method::GET, &path, headers, vec![])
        .await
        .unwrap();
    for answer in [by_token, guest.get(&path).await] {
        assert_eq!(answer.status, 200);
        let jwe: Jwe = answer.json().unwrap();
        assert_eq!(jwe::open(&guest.tee_key, &jwe).unwrap().as_slice(), KEK);
        assert_eq!(
            jwe::open(&TeeKey::generate(), &jwe).err(),
            Some(JweError::DoesNotOpen)
        );
    }
}

#[tokio::test]
async fn a_token_of_another_signer_stands_for_nobody() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::attested(&open).await;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::AUTHORIZATION,
        HeaderValue::from_static("Bearer e30.e30.AAAA"),
    );
    let path = format!("{RESOURCE_PREFIX}{MODEL}/{VERSION}/kek");
    let answer = guest
        .connection
        .send(Method::GET, &path, headers, vec![])
        .await
        .unwrap();
    assert_eq!(answer.status, 401);
}
