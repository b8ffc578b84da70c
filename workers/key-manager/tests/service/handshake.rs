//! The RCAR handshake: one thing wrong at a time.

use sealift_attester::Attester as _;
use sealift_evidence::{SnpEvidence, rcar_report_data};
use sealift_kbs_protocol::{
    TeeKey,
    rcar::{AUTH_PATH, AttestationAnswer},
};
use sealift_simulated_sp::SimulatedSp;

use crate::{
    harness::{GUEST_MEASUREMENT, NOW, OpenKm, World},
    raw::{RawGuest, request},
};

/// Attests with init-data changed by `spoil`, under evidence that truly holds its digest.
async fn attest_with_init_data(open: &OpenKm<'_>, spoil: impl FnOnce(&mut String)) -> bool {
    let guest = open.guest_with(|plan| spoil(&mut plan.init_data)).await;
    guest.attest().await.is_ok()
}

#[tokio::test]
async fn a_second_answer_to_a_challenge_is_refused_after_a_right_one() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    let attestation = guest.attestation();
    assert_eq!(guest.attest(&attestation).await.status, 200);
    assert_eq!(guest.attest(&attestation).await.status, 401);
}

#[tokio::test]
async fn a_nonce_is_used_up_by_a_wrong_answer() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    let right = guest.attestation();
    let mut wrong = right.clone();
    wrong.tee_evidence.additional_evidence = "{}".into();
    assert_eq!(guest.attest(&wrong).await.status, 401);
    open.assert_refused("AdditionalEvidence").await;
    assert_eq!(guest.attest(&right).await.status, 401);
}

#[tokio::test]
async fn a_nonce_is_used_up_by_an_answer_that_does_not_parse() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    let right = guest.attestation();
    let path = sealift_kbs_protocol::rcar::ATTEST_PATH;
    let answer = guest.send(http::Method::POST, path, b"{".to_vec()).await;
    assert_eq!(answer.status, 400);
    assert_eq!(guest.attest(&right).await.status, 401);
}

#[tokio::test]
async fn evidence_for_another_nonce_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let old = RawGuest::challenged(&open).await.attestation();
    let mut guest = RawGuest::challenged(&open).await;
    assert_eq!(guest.attest(&old).await.status, 401);
    open.assert_refused("OtherNonce").await;
}

#[tokio::test]
async fn evidence_replayed_under_a_new_nonce_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let old = RawGuest::challenged(&open).await.attestation();
    let mut guest = RawGuest::challenged(&open).await;
    let mut replayed = guest.attestation();
    replayed.tee_evidence = old.tee_evidence;
    assert_eq!(guest.attest(&replayed).await.status, 401);
    open.assert_refused("Evidence").await;
}

/// ATTACKS 7: evidence of a genuine guest, sent with the key of whoever relays it.
#[tokio::test]
async fn another_tee_pubkey_than_the_attested_one_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    let mut relayed = guest.attestation();
    relayed.runtime_data.tee_pubkey = *TeeKey::generate().public();
    assert_eq!(guest.attest(&relayed).await.status, 401);
    open.assert_refused("Evidence").await;
}

#[tokio::test]
async fn a_guest_with_another_measurement_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let guest = open.guest_with(|plan| plan.measurement = [0x33; 48]).await;
    assert!(guest.attest().await.is_err());
    open.assert_refused("Evidence").await;
    assert!(open.last_entry().await.decision.contains("measurement"));
}

#[tokio::test]
async fn a_report_of_another_root_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    let other = SimulatedSp::create(&world.folder.path().join("other"), NOW).unwrap();
    let report_data = guest.attestation().runtime_data.report_data("");
    guest.launched.sp = other;
    let mut attestation = guest.attestation();
    attestation.tee_evidence.primary_evidence = guest.launched.evidence(&report_data).unwrap();
    assert_eq!(guest.attest(&attestation).await.status, 401);
    open.assert_refused("Evidence").await;
}

#[tokio::test]
async fn a_report_changed_after_it_was_signed_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    let mut attestation = guest.attestation();
    guest.launched.context.measurement = sealift_evidence::Measurement::from_bytes([0; 48]);
    let evidence = &attestation.tee_evidence.primary_evidence;
    let mut fields = evidence.report().fields().clone();
    fields.guest_svn += 1;
    let report = sealift_evidence::SnpReport::from_fields(&fields).unwrap();
    attestation.tee_evidence.primary_evidence =
        SnpEvidence::new(report, evidence.certificates().to_vec()).unwrap();
    assert_eq!(guest.attest(&attestation).await.status, 401);
    open.assert_refused("Evidence").await;
}

/// ATTACKS 2: HOST_DATA matches each of these, because the operator chose them before the launch.
#[tokio::test]
async fn init_data_with_one_thing_changed_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    assert!(attest_with_init_data(&open, |_| ()).await);
    let replace = |from: &'static str, to: &'static str| {
        move |text: &mut String| {
            assert!(text.contains(from));
            *text = text.replacen(from, to, 1);
        }
    };
    let exec = replace("ExecProcessRequest := false", "ExecProcessRequest := true");
    assert!(!attest_with_init_data(&open, exec).await, "a rego line");
    open.assert_refused("InitDataNotFromTemplate").await;
    let space = replace("package agent_policy", "package  agent_policy");
    assert!(!attest_with_init_data(&open, space).await, "one more space");
    open.assert_refused("InitDataNotFromTemplate").await;
    let entry = |text: &mut String| text.push_str("\"zz.toml\" = '''\nx = 1\n'''\n");
    assert!(!attest_with_init_data(&open, entry).await, "one more entry");
    open.assert_refused("InitDataNotFromTemplate").await;
    let comment = |text: &mut String| text.push_str("# comment\n");
    assert!(!attest_with_init_data(&open, comment).await, "a comment");
    open.assert_refused("InitDataNotFromTemplate").await;
    let store = replace("file:///store", "file:///UPPER");
    assert!(
        !attest_with_init_data(&open, store).await,
        "a slot against its pattern"
    );
    open.assert_refused("InitDataNotFromTemplate").await;
    let serial = replace("serial = 1", "serial = 2");
    assert!(
        !attest_with_init_data(&open, serial).await,
        "another serial"
    );
    open.assert_refused("InitDataNotFromTemplate").await;
}

#[tokio::test]
async fn init_data_for_a_version_that_is_not_registered_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let other = |text: &mut String| *text = text.replace("version = \"v1\"", "version = \"v2\"");
    assert!(!attest_with_init_data(&open, other).await);
    open.assert_refused("UnknownVersion").await;
}

#[tokio::test]
async fn init_data_that_the_evidence_does_not_hold_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    guest.launched.context.host_data = [0; 32];
    let attestation = guest.attestation();
    assert_eq!(guest.attest(&attestation).await.status, 401);
    open.assert_refused("Evidence").await;
}

#[tokio::test]
async fn an_attestation_without_init_data_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    let mut attestation = guest.attestation();
    attestation.init_data = None;
    assert_eq!(guest.attest(&attestation).await.status, 401);
    open.assert_refused("NoInitData").await;
}

#[tokio::test]
async fn a_challenge_ends_after_five_minutes() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    let attestation = guest.attestation();
    world.at(NOW + 300);
    assert_eq!(guest.attest(&attestation).await.status, 401);
}

#[tokio::test]
async fn another_protocol_version_is_refused() {
    let world = World::new();
    let open = world.with_version().await;
    let mut guest = RawGuest::challenged(&open).await;
    for version in ["0.1.0", "0.4.1", "0.4", ""] {
        let mut request = request();
        request.version = version.into();
        let answer = guest
            .connection
            .post_json(AUTH_PATH, &request)
            .await
            .unwrap();
        assert_eq!(answer.status, 401, "{version}");
    }
    let sample = serde_json::json!({"version": "0.4.0", "tee": "sample", "extra-params": ""});
    let answer = guest
        .connection
        .post_json(AUTH_PATH, &sample)
        .await
        .unwrap();
    assert_eq!(answer.status, 401);
    let body: serde_json::Value = answer.json().unwrap();
    assert!(
        body["type"]
            .as_str()
            .unwrap()
            .ends_with("/AttestationError")
    );
}

/// What stock clients do with a token: decode its claims and look at `exp`.
#[tokio::test]
async fn the_token_is_an_attestation_result_with_an_end() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
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
    let claims = token.split('.').nth(1).unwrap();
    let claims: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["exp"], NOW + 3_600);
    let cpu = &claims["submods"]["cpu0"];
    assert_eq!(cpu["ear.status"], "affirming");
    let evidence = &cpu["ear.veraison.annotated-evidence"];
    assert_eq!(
        evidence["snp"]["measurement"],
        hex::encode(GUEST_MEASUREMENT)
    );
    let key = serde_json::to_value(attestation.runtime_data.tee_pubkey).unwrap();
    assert_eq!(evidence["runtime_data_claims"]["tee-pubkey"], key);
}

/// ATTACKS 7: the key manager answers evidence over its own object and never over a caller's.
#[tokio::test]
async fn no_evidence_of_the_key_manager_answers_an_rcar_challenge() {
    let world = World::new();
    let open = world.with_version().await;
    let nonce = sealift_kbs_protocol::Nonce::random();
    let evidence = open.client().evidence(&nonce).await.unwrap();
    let held = evidence.evidence.report().fields().report_data;
    let key = TeeKey::generate().public().to_json();
    assert_ne!(held, rcar_report_data(&nonce.to_string(), &key, ""));
    let boot = serde_json::to_value(evidence.boot_key).unwrap();
    assert_ne!(held, rcar_report_data(&nonce.to_string(), &boot, ""));
}
