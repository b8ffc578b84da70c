//! What an operator can make a guest say about itself.

use http::StatusCode;
use sealift_confidential::{ATTEST_PATH, FailureBody, FailureCode, GuestEvidence, attested_keys};
use sealift_evidence::{Role, attested_keys_report_data, rcar_report_data};
use sealift_kbs_protocol::{Nonce, TeeKey};
use sealift_pinned_tls::Answer;
use sealift_verifier::Expected;

use crate::world::{NOW, Running, World};

async fn asked(running: &Running, query: &str) -> Answer {
    let path = format!("{ATTEST_PATH}{query}");
    running.connect().await.get(&path).await.unwrap()
}

async fn evidence(running: &Running, nonce: &Nonce) -> GuestEvidence {
    let answer = asked(running, &format!("?nonce={}", nonce.to_query())).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.json().unwrap()
}

#[tokio::test]
async fn an_operator_recognises_the_guest_on_its_own_connection() {
    let world = World::new().await;
    let running = world.guest().await;
    let mut connection = running.connect().await;
    let nonce = Nonce::random();
    let path = format!("{ATTEST_PATH}?nonce={}", nonce.to_query());
    let said: GuestEvidence = connection.get(&path).await.unwrap().json().unwrap();
    assert_eq!(said.tls_spki_sha256, connection.peer_spki());
    assert_eq!(said.init_data, world.init_data().as_str());
    let keys = attested_keys(&said.receipt_key, &connection.peer_spki());
    let expected = Expected {
        report_data: attested_keys_report_data(Role::Guest, nonce.as_bytes(), &keys),
        host_data: *world.init_data().digest().as_bytes(),
    };
    world
        .verifier()
        .appraise(&said.evidence, &expected, NOW)
        .unwrap();
}

/// An operator wants evidence for the key manager's challenge with a key of its own: then the
/// model key would be encrypted to it.
#[tokio::test]
async fn the_digest_of_a_relayed_key_manager_challenge_cannot_be_obtained() {
    let world = World::new().await;
    let running = world.guest().await;
    let relay = serde_json::to_value(TeeKey::generate().public()).unwrap();
    let wanted = rcar_report_data("bm9uY2U=", &relay, "");
    let (first, rest) = wanted.split_first_chunk::<32>().unwrap();
    for nonce in [*first, rest.try_into().unwrap()] {
        let nonce = Nonce::from_bytes(nonce);
        let said = evidence(&running, &nonce).await;
        let report_data = said.evidence.report().fields().report_data;
        assert_ne!(report_data, wanted);
        // The nonce goes into our object and nothing goes around it.
        let keys = attested_keys(&said.receipt_key, &said.tls_spki_sha256);
        let ours = attested_keys_report_data(Role::Guest, nonce.as_bytes(), &keys);
        assert_eq!(report_data, ours);
    }
}

#[tokio::test]
async fn a_challenge_is_a_nonce_of_32_bytes_and_nothing_else() {
    let world = World::new().await;
    let running = world.guest().await;
    let nonce = Nonce::random().to_query();
    let report_data = "A".repeat(86);
    for query in [
        String::new(),
        "?nonce=".to_owned(),
        format!("?nonce={report_data}"),
        format!("?report_data={report_data}"),
        format!("?nonce={nonce}&report_data={report_data}"),
        format!("?nonce={nonce}&nonce={nonce}"),
        format!("?nonce={nonce}="),
    ] {
        let answer = asked(&running, &query).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        let body: FailureBody = answer.json().unwrap();
        assert_eq!((body.code, body.retryable), (FailureCode::Malformed, false));
    }
}
