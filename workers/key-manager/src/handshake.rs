//! The RCAR handshake: challenge, then evidence that is appraised against the owner's own
//! template and reference values.

use std::{collections::BTreeMap, sync::Arc};

use sealift_evidence::Tee;
use sealift_init_data::{
    InitData, InitTemplate, RegisteredSlots, RenderedInitData, SealiftToml, rerender_equals,
};
use sealift_kbs_protocol::{
    Name, Nonce,
    command::InstallKind,
    rcar::{Attestation, AttestationAnswer, Challenge, PROTOCOL_VERSION, Request, TeeEvidence},
};
use sealift_signed_document::{Digest, Document};
use sealift_verifier::{AppraisedEvidence, Expected, ReferenceValues, Verifier};

use crate::{
    refusal::Refusal,
    service::Open,
    sessions::{AttestedGuest, GuestFacts},
    state::{
        log::{EntryType, Event},
        records::{Installed, QuarantinedGuest, Version, VersionState},
        vault::{Change, Vault},
    },
};

/// A challenge with its cookie.
pub(crate) struct Challenged {
    pub(crate) challenge: Challenge,
    pub(crate) cookie: String,
}

/// An attested guest's token, with the cookie that stands for it from now on.
pub(crate) struct Answered {
    pub(crate) answer: AttestationAnswer,
    pub(crate) cookie: String,
    /// Seconds that the cookie is good for.
    pub(crate) seconds: u64,
}

/// Answers `/auth`.
pub(crate) async fn challenge(open: &Open, request: &Request) -> Result<Challenged, Refusal> {
    if request.version != PROTOCOL_VERSION || request.tee != Tee::Snp {
        return Err(Refusal::Protocol);
    }
    let nonce = Nonce::random().to_string();
    let now = open.time().await;
    let cookie = open.sessions.challenge(nonce.clone(), now)?;
    let extra_params = serde_json::Value::String(String::new());
    Ok(Challenged {
        challenge: Challenge {
            nonce,
            extra_params,
        },
        cookie,
    })
}

/// Answers `/attest`. The nonce is gone whatever comes of it.
pub(crate) async fn attest(open: &Open, cookie: &str, body: &[u8]) -> Result<Answered, Refusal> {
    let now = open.time().await;
    let nonce = open.sessions.take_challenge(cookie, now)?;
    let attested = admit(open, cookie, &nonce, body).await;
    if let Err(refusal) = &attested {
        let subjects = BTreeMap::from([("nonce", Digest::of(nonce.as_bytes()).to_string())]);
        open.record_refusal(subjects, refusal).await;
    }
    attested
}

async fn admit(open: &Open, cookie: &str, nonce: &str, body: &[u8]) -> Result<Answered, Refusal> {
    let attestation: Attestation = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    let now = ledger.time(clock);
    ledger.check_witness(clock)?;
    open.sessions.make_room(now)?;
    let appraised = appraise(open, &ledger.vault, &attestation, nonce, now)?;
    let facts = appraised.facts(&attestation, nonce);
    let mut guest = AttestedGuest::new(GuestFacts {
        not_after: now.saturating_add(appraised.version.register.lease.seconds),
        ..facts
    });
    let event = Event {
        subjects: guest.subjects([
            ("init_data_sha256", guest.facts.init_data_sha256.to_string()),
            ("measurement", guest.facts.measurement.to_string()),
            ("assurance", guest.facts.assurance.to_string()),
        ]),
        ..Event::new(EntryType::Attested, []).under(guest.facts.register_sha256)
    };
    let entry = ledger.record(clock, Change::none(), event).await?;
    drop(ledger);
    guest.facts.log_index = entry.seq;
    let token = open.tokens.issue(&guest, entry.time)?;
    let seconds = guest.facts.not_after.saturating_sub(entry.time);
    open.sessions
        .admit(cookie, &token, &Arc::new(guest), entry.time);
    Ok(Answered {
        answer: AttestationAnswer { token },
        cookie: cookie.to_owned(),
        seconds,
    })
}

/// What was found to be true of a guest.
struct Appraised {
    version: Version,
    init_data: RenderedInitData,
    evidence: AppraisedEvidence,
}

impl Appraised {
    fn facts(&self, attestation: &Attestation, nonce: &str) -> GuestFacts {
        let register = &self.version.register;
        GuestFacts {
            nonce: nonce.to_owned(),
            tee_pubkey: attestation.runtime_data.tee_pubkey,
            model: register.model.clone(),
            version: register.version.clone(),
            serial: register.serial,
            manifest_sha256: self.version.manifest_sha256(),
            template_sha256: register.template_sha256,
            reference_values_sha256: register.reference_values_sha256,
            register_sha256: self.version.register_sha256,
            init_data_sha256: self.init_data.digest(),
            evidence_sha256: self.evidence.evidence_sha256(),
            measurement: self.evidence.measurement(),
            assurance: self.evidence.assurance(),
            not_after: 0,
            log_index: 0,
        }
    }
}

/// Nonce and form; which version; that version's template, rendered again; the evidence.
fn appraise(
    open: &Open,
    vault: &Vault,
    attestation: &Attestation,
    nonce: &str,
    now: u64,
) -> Result<Appraised, Refusal> {
    let runtime = &attestation.runtime_data;
    if runtime.nonce != nonce {
        return Err(Refusal::OtherNonce);
    }
    let guest = QuarantinedGuest::id(&runtime.tee_pubkey.thumbprint());
    if vault.get::<QuarantinedGuest>(&guest)?.is_some() {
        return Err(Refusal::Quarantined);
    }
    let TeeEvidence {
        primary_evidence,
        additional_evidence,
    } = &attestation.tee_evidence;
    if !additional_evidence.is_empty() {
        return Err(Refusal::AdditionalEvidence);
    }
    let received = attestation
        .init_data
        .as_ref()
        .filter(|init_data| init_data.format == "toml");
    let received = received.ok_or(Refusal::NoInitData)?.body.as_bytes();
    let version = named_version(vault, received)?;
    let init_data = rerender(open, vault, &version, received)?;
    let register = &version.register;
    let values = installed::<ReferenceValues>(
        vault,
        &version,
        (
            &register.reference_values_sha256,
            InstallKind::ReferenceValues,
        ),
    )?;
    let expected = Expected {
        report_data: runtime.report_data(additional_evidence),
        host_data: *init_data.digest().as_bytes(),
    };
    let evidence = Verifier::new(open.anchors().clone(), values)
        .appraise(primary_evidence, &expected, now)
        .map_err(Refusal::Evidence)?;
    if evidence.assurance() < register.min_assurance {
        return Err(Refusal::AssuranceTooLow);
    }
    Ok(Appraised {
        version,
        init_data,
        evidence,
    })
}

/// The version that init-data speaks of. Nothing else in it is believed yet.
fn named_version(vault: &Vault, received: &[u8]) -> Result<Version, Refusal> {
    use sealift_init_data::InitDataNotFromTemplate::Unreadable;
    let unreadable = |error| Refusal::InitDataNotFromTemplate(Unreadable(error));
    let init_data = InitData::parse(received).map_err(unreadable)?;
    let sealift = SealiftToml::of(&init_data).map_err(unreadable)?;
    let name = |text: &str| text.parse::<Name>().map_err(|_| Refusal::UnknownVersion);
    let id = Version::id(&name(&sealift.model)?, &name(&sealift.version)?);
    let version = vault.get::<Version>(&id)?.ok_or(Refusal::UnknownVersion)?;
    if version.state == VersionState::Active {
        Ok(version)
    } else {
        Err(Refusal::VersionState)
    }
}

/// Renders the owner's template with this key manager's own records and compares every byte.
fn rerender(
    open: &Open,
    vault: &Vault,
    version: &Version,
    received: &[u8],
) -> Result<RenderedInitData, Refusal> {
    let register = &version.register;
    let template = installed::<InitTemplate>(
        vault,
        version,
        (&register.template_sha256, InstallKind::InitTemplate),
    )?;
    if !template.allows(Tee::Snp) {
        return Err(Refusal::TeeNotAllowed);
    }
    let slots = RegisteredSlots {
        model: register.model.to_string(),
        version: register.version.to_string(),
        serial: register.serial,
        manifest_sha256: version.manifest_sha256(),
        owner_root: version.root,
        template_sha256: register.template_sha256,
        km_id: open.km_id.clone(),
        km_tls_sha256: open.keys.tls.spki_sha256(),
    };
    rerender_equals(&template, &slots, received).map_err(Refusal::InitDataNotFromTemplate)
}

/// A document that the version's owner installed.
fn installed<D: Document + Clone>(
    vault: &Vault,
    version: &Version,
    (digest, kind): (&Digest, InstallKind),
) -> Result<D, Refusal> {
    let missing = Refusal::NotInstalled(D::TYPE);
    let record = vault.get::<Installed>(&Installed::id(&version.root, digest))?;
    let record = record.filter(|record| record.kind == kind).ok_or(missing)?;
    let signed = record
        .document
        .verify::<D>(&record.signer)
        .map_err(Refusal::Document)?;
    Ok(signed.document().clone())
}
