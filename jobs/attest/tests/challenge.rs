//! Challenges to guests behind real TLS, with evidence of a simulated chip. One thing is wrong
//! with the guest in each case.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use std::sync::{Arc, atomic::Ordering};

use sealift_attest::{Attest, AttestError, AttestedGuest, AttestedGuests, Input};
use sealift_evidence::{Assurance, Measurement};
use sealift_job::{Job, JobError};
use sealift_operator_fixtures::{
    GUEST_MEASUREMENT, GuestBackend, NOW, Played, Spoil, World, context,
};
use sealift_pinned_tls::{ClientError, ClientLimits};
use sealift_provision::{Pod, Pods, Published};
use sealift_verifier::Refusal;

struct Zone {
    world: World,
    pod: Pod,
    guests: Arc<AttestedGuests>,
    played: Arc<Played>,
}

impl Zone {
    fn new() -> Self {
        let world = World::new();
        let (backend, played) = GuestBackend::new(&world);
        let pods = Arc::new(Pods::new(world.settings_alone(), Box::new(backend)));
        let pod = world.pod();
        pods.create(&pod).unwrap();
        Self {
            world,
            pod,
            guests: Arc::new(AttestedGuests::new(pods)),
            played,
        }
    }

    fn spoil(&self, spoil: Spoil) {
        *self.played.spoil.lock().unwrap() = spoil;
    }

    async fn challenge(&self) -> Result<Arc<AttestedGuest>, AttestError> {
        self.guests.challenge(&self.pod, NOW).await
    }

    async fn refused(&self, spoil: Spoil) -> AttestError {
        self.spoil(spoil);
        self.challenge().await.unwrap_err()
    }

    async fn attest(&self) -> Result<sealift_attest::Output, JobError> {
        let job = Attest::new(Arc::clone(&self.guests));
        job.run(
            &Input {
                pod: self.pod.clone(),
            },
            &context(&self.world),
        )
        .await
    }
}

#[tokio::test]
async fn an_honest_guest_is_attested_with_the_key_of_its_own_connection() {
    let zone = Zone::new();
    let guest = zone.challenge().await.unwrap();
    assert_eq!(guest.appraised().measurement(), GUEST_MEASUREMENT);
    assert_eq!(guest.appraised().assurance(), Assurance::Simulated);
    assert_eq!(
        guest.init_data().sealift().model,
        zone.pod.model.to_string()
    );
    let output = zone.attest().await.unwrap();
    assert_eq!(output.assurance, "simulated");
    assert_eq!(output.measurement, GUEST_MEASUREMENT.to_string());
    assert_eq!(output.tls_spki_sha256, guest.tls_spki_sha256());
}

#[tokio::test]
async fn a_relay_that_repeats_the_guests_own_answer_is_refused() {
    let zone = Zone::new();
    let refused = zone.refused(Spoil::NamesOtherTlsKey).await;
    assert!(matches!(refused, AttestError::OtherKey { .. }), "{refused}");
    assert!(refused.is_refusal() && !refused.is_transient());
}

#[tokio::test]
async fn a_relay_that_puts_its_own_key_into_the_guests_answer_is_refused() {
    let zone = Zone::new();
    let refused = zone.refused(Spoil::EvidenceOfOtherTlsKey).await;
    assert!(
        matches!(refused, AttestError::Evidence(Refusal::ReportData)),
        "{refused}"
    );
}

#[tokio::test]
async fn a_receipt_key_that_the_evidence_does_not_name_is_refused() {
    let zone = Zone::new();
    let refused = zone.refused(Spoil::EvidenceOfOtherReceiptKey).await;
    assert!(
        matches!(refused, AttestError::Evidence(Refusal::ReportData)),
        "{refused}"
    );
}

#[tokio::test]
async fn an_answer_to_an_earlier_nonce_is_refused() {
    let zone = Zone::new();
    zone.challenge().await.unwrap();
    let refused = zone.refused(Spoil::Replay).await;
    assert!(
        matches!(refused, AttestError::Evidence(Refusal::ReportData)),
        "{refused}"
    );
}

#[tokio::test]
async fn evidence_in_the_role_of_a_key_manager_is_refused() {
    let zone = Zone::new();
    let refused = zone.refused(Spoil::OtherRole).await;
    assert!(
        matches!(refused, AttestError::Evidence(Refusal::ReportData)),
        "{refused}"
    );
}

#[tokio::test]
async fn another_measurement_is_refused_with_the_way_to_accept_a_rebuild() {
    let zone = Zone::new();
    zone.spoil(Spoil::Measurement(Measurement::from_bytes([0x33; 48])));
    let error = zone.attest().await.unwrap_err();
    assert!(
        error.remedy().unwrap().contains("reference accept"),
        "{error}"
    );
}

#[tokio::test]
async fn init_data_for_another_version_is_refused() {
    let zone = Zone::new();
    let (trust, pods) = (zone.world.trust(), zone.guests.pods());
    let newer = Published {
        serial: 8,
        ..zone.world.published()
    };
    let registered = pods.registered_slots(&Pod::of("detached", &newer), &trust);
    let slots = sealift_init_data::OperatorSlots {
        km_url: "https://127.0.0.1:1".into(),
        store_url: "file:///store".into(),
    };
    let text = sealift_init_data::render(trust.template().document(), &registered, &slots);
    let refused = zone
        .refused(Spoil::InitData(text.unwrap().as_str().into()))
        .await;
    assert!(matches!(refused, AttestError::InitData(_)), "{refused}");
}

#[tokio::test]
async fn init_data_with_one_more_space_is_refused() {
    let zone = Zone::new();
    let guest = zone.challenge().await.unwrap();
    let text = guest
        .init_data()
        .init_data()
        .as_str()
        .replacen(" = ", "  = ", 1);
    let refused = zone.refused(Spoil::InitData(text)).await;
    assert!(matches!(refused, AttestError::InitData(_)), "{refused}");
}

#[tokio::test]
async fn a_guest_that_was_started_with_other_init_data_than_it_shows_is_refused() {
    let zone = Zone::new();
    let refused = zone.refused(Spoil::HostData).await;
    assert!(
        matches!(refused, AttestError::Evidence(Refusal::HostData)),
        "{refused}"
    );
}

#[tokio::test]
async fn a_tee_that_the_template_does_not_allow_is_refused() {
    let zone = Zone::new();
    assert!(matches!(
        zone.refused(Spoil::Tee).await,
        AttestError::Tee(_)
    ));
}

#[tokio::test]
async fn a_guest_without_evidence_may_have_some_later() {
    let zone = Zone::new();
    let error = zone.refused(Spoil::NoEvidence).await;
    assert!(error.is_transient() && !error.is_refusal(), "{error}");
    assert!(!zone.refused(Spoil::Malformed).await.is_transient());
}

#[tokio::test]
async fn every_refusal_is_permanent_and_says_what_to_do() {
    let zone = Zone::new();
    for spoil in [
        Spoil::NamesOtherTlsKey,
        Spoil::HostData,
        Spoil::Tee,
        Spoil::Malformed,
    ] {
        zone.spoil(spoil);
        let error = zone.attest().await.unwrap_err();
        assert!(!error.remedy().unwrap().is_empty(), "{error}");
    }
}

#[tokio::test]
async fn a_refused_guest_leaves_no_earlier_proof_behind() {
    let zone = Zone::new();
    zone.challenge().await.unwrap();
    zone.refused(Spoil::NamesOtherTlsKey).await;
    let again = zone.guests.attested(&zone.pod, NOW).await;
    assert!(matches!(again, Err(AttestError::OtherKey { .. })));
}

#[tokio::test]
async fn a_proof_is_kept_while_its_guest_runs_and_made_anew_for_the_next_one() {
    let zone = Zone::new();
    let first = zone.challenge().await.unwrap();
    let (same, _) = zone.guests.attested(&zone.pod, NOW).await.unwrap();
    assert_eq!(same.tls_spki_sha256(), first.tls_spki_sha256());
    assert_eq!(zone.played.challenges.load(Ordering::SeqCst), 1);

    zone.played.end_guests();
    let (next, _) = zone.guests.attested(&zone.pod, NOW).await.unwrap();
    assert_ne!(next.tls_spki_sha256(), first.tls_spki_sha256());
    assert_eq!(zone.played.starts.load(Ordering::SeqCst), 2);
    assert_eq!(zone.played.challenges.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_that_does_not_hold_the_attested_key() {
    let zone = Zone::new();
    let guest = zone.challenge().await.unwrap();
    zone.played.switch_tls_keys();
    let sent = guest
        .post_json("/sealift/v1/score", &"batch", ClientLimits::DOCUMENTS)
        .await;
    assert!(matches!(sent, Err(ClientError::Handshake { .. })));
    assert_eq!(zone.played.dispatches.load(Ordering::SeqCst), 0);
}
