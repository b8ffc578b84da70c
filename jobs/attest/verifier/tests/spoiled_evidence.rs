//! Evidence of a simulated chip, with one thing spoiled in each case.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use std::{fs, path::Path, sync::LazyLock};

use sealift_evidence::{
    Certificate, CertificateKind, GuestPolicy, KeyInfo, ReportFields, SnpEvidence, TcbVersion,
};
use sealift_signed_document::Digest;
use sealift_simulated_sp::{GuestContext, Platform, SimulatedSp};
use sealift_verifier::{
    Anchors, AppraisalPolicy, Assurance, CertificateFault, ChipTcb, Expected, Measurement,
    MinimumTcb, Product, ReferenceMeasurement, ReferenceValues, Refusal, TurinTcb, Verifier,
};

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;
const YEAR: u64 = 365 * 24 * 3600;

const GUEST: GuestContext = GuestContext {
    measurement: MEASUREMENT,
    host_data: [0xD1; 32],
};
const MEASUREMENT: Measurement = Measurement::from_bytes([0x3E; 48]);
const EXPECTED: Expected = Expected {
    report_data: [0xA5; 64],
    host_data: [0xD1; 32],
};

/// A chip that every test process shares: making one costs two RSA-4096 keys.
///
/// The keys stay in the build folder. Processes that make it at once race for the name; the
/// first wins, and the others open what it made.
fn shared_chip(name: &str, platform: Platform) -> SimulatedSp {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    SimulatedSp::open(&shared).unwrap_or_else(|_| {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let made = folder.path().join("simulated");
        SimulatedSp::create_platform(&made, platform, NOW).unwrap();
        drop(fs::rename(&made, &shared));
        SimulatedSp::open(&shared).unwrap()
    })
}

static MILAN: LazyLock<SimulatedSp> =
    LazyLock::new(|| shared_chip("verifier-milan", Platform::milan()));
/// Another chip under another root.
static OTHER: LazyLock<SimulatedSp> =
    LazyLock::new(|| shared_chip("verifier-other-milan", Platform::milan()));

fn values(chip: &SimulatedSp) -> ReferenceValues {
    let TcbVersion {
        fmc,
        bootloader,
        tee,
        snp,
        microcode,
    } = chip.platform().tcb;
    let old = Some(ChipTcb {
        bootloader,
        tee,
        snp,
        microcode,
    });
    let turin = fmc.map(|fmc| TurinTcb {
        fmc,
        bootloader,
        tee,
        snp,
        microcode,
    });
    let min_tcb = match chip.platform().product {
        Product::Milan => MinimumTcb {
            milan: old,
            ..MinimumTcb::default()
        },
        Product::Genoa => MinimumTcb {
            genoa: old,
            ..MinimumTcb::default()
        },
        Product::Turin => MinimumTcb {
            turin,
            ..MinimumTcb::default()
        },
    };
    ReferenceValues {
        measurements: vec![ReferenceMeasurement {
            name: "guest".to_owned(),
            measurement: MEASUREMENT,
        }],
        policy: AppraisalPolicy {
            min_assurance: Assurance::Simulated,
            min_report_version: 3,
            vmpl: 0,
            allow_debug: false,
            allow_migration_agent: false,
            allow_smt: true,
            min_tcb,
        },
    }
}

fn verifier(chip: &SimulatedSp, values: ReferenceValues) -> Verifier {
    let anchors = Anchors::new(Assurance::Simulated, &[chip.ark_fingerprint()]).unwrap();
    Verifier::new(anchors, values)
}

fn good(chip: &SimulatedSp) -> SnpEvidence {
    chip.evidence(&GUEST, &EXPECTED.report_data).unwrap()
}

/// Evidence that the chip signs after `spoil` changed what it reports.
fn reported(chip: &SimulatedSp, spoil: impl FnOnce(&mut ReportFields)) -> SnpEvidence {
    let mut fields = chip.fields(&GUEST, &EXPECTED.report_data);
    spoil(&mut fields);
    SnpEvidence::new(chip.sign(&fields).unwrap(), chip.certificates()).unwrap()
}

/// Good evidence in which `spoil` changed the certificate of `kind`.
fn certified(kind: CertificateKind, spoil: impl FnOnce(&mut Vec<u8>)) -> SnpEvidence {
    let mut certificates = MILAN.certificates();
    let one = certificates
        .iter_mut()
        .find(|one| one.kind == kind)
        .unwrap();
    spoil(&mut one.der);
    SnpEvidence::new(good(&MILAN).report().clone(), certificates).unwrap()
}

fn refused(kind: CertificateKind, fault: CertificateFault) -> Refusal {
    Refusal::Certificate { kind, fault }
}

#[test]
fn good_evidence_of_every_platform_passes_with_simulated_assurance() {
    for (name, platform) in [
        ("verifier-milan", Platform::milan()),
        ("verifier-genoa", Platform::genoa()),
        ("verifier-turin", Platform::turin()),
    ] {
        let chip = shared_chip(name, platform);
        let evidence = good(&chip);
        let appraised = verifier(&chip, values(&chip))
            .appraise(&evidence, &EXPECTED, NOW)
            .unwrap();
        assert_eq!(appraised.assurance(), Assurance::Simulated);
        assert_eq!(appraised.product(), platform.product);
        assert_eq!(appraised.tcb(), platform.tcb);
        assert_eq!(appraised.measurement(), MEASUREMENT);
        assert_eq!(appraised.name(), "guest");
        assert_eq!(appraised.host_data(), &EXPECTED.host_data);
        assert_eq!(appraised.evidence_sha256(), evidence.digest());
    }
}

/// Each row has the chip itself sign a report in which one field is not as it should be.
#[test]
fn evidence_with_one_field_spoiled_is_refused_for_that_field() {
    let (chip, milan) = (&*MILAN, MILAN.platform().tcb);
    let newer = TcbVersion {
        snp: milan.snp + 1,
        ..milan
    };
    let other = Measurement::from_bytes([0; 48]);
    let policy = |bits: u64| GuestPolicy::from_bits(0x3_0000 | bits).unwrap();
    let key_info = |bits: u32| KeyInfo::from_bits(bits).unwrap();
    let rows: Vec<(SnpEvidence, Refusal)> = vec![
        (
            reported(chip, |f| f.form = sealift_evidence::ReportForm::V2),
            Refusal::ReportVersionTooOld {
                version: 2,
                minimum: 3,
            },
        ),
        (
            reported(chip, |f| f.signature_algorithm = 2),
            Refusal::SignatureAlgorithm { algorithm: 2 },
        ),
        (
            reported(chip, |f| f.key_info = key_info(1 << 2)),
            Refusal::NotSignedByChip,
        ),
        (
            reported(chip, |f| f.key_info = key_info(7 << 2)),
            Refusal::NotSignedByChip,
        ),
        (
            reported(chip, |f| f.key_info = key_info(1 << 1)),
            Refusal::NotSignedByChip,
        ),
        (
            reported(chip, |f| f.form = genoa_form()),
            Refusal::OtherProduct {
                report: Product::Genoa,
                certificate: Product::Milan,
            },
        ),
        (
            reported(chip, |f| f.reported_tcb = newer),
            Refusal::OtherTcb {
                report: newer,
                certificate: milan,
            },
        ),
        (reported(chip, |f| f.chip_id[63] ^= 1), Refusal::OtherChip),
        (reported(chip, |f| f.chip_id = [0; 64]), Refusal::OtherChip),
        (
            reported(chip, |f| f.report_data[63] ^= 1),
            Refusal::ReportData,
        ),
        (reported(chip, |f| f.host_data[0] ^= 1), Refusal::HostData),
        (
            reported(chip, |f| f.vmpl = 1),
            Refusal::Vmpl {
                found: 1,
                expected: 0,
            },
        ),
        (
            reported(chip, |f| f.policy = policy(1 << 19)),
            Refusal::DebugAllowed,
        ),
        (
            reported(chip, |f| f.policy = policy(1 << 18)),
            Refusal::MigrationAgentAllowed,
        ),
        (
            reported(chip, |f| f.measurement = other),
            Refusal::UnknownMeasurement { measurement: other },
        ),
    ];
    let verifier = verifier(chip, values(chip));
    for (evidence, expected) in rows {
        assert_eq!(
            verifier.appraise(&evidence, &EXPECTED, NOW).unwrap_err(),
            expected
        );
    }
}

/// Turin's certificates hold 8 bytes of the chip id; the others must be zero.
#[test]
fn a_turin_chip_id_with_more_than_its_hardware_id_is_refused() {
    let turin = shared_chip("verifier-turin", Platform::turin());
    let verifier = verifier(&turin, values(&turin));
    for byte in [0, 7, 8, 63] {
        let evidence = reported(&turin, |fields| fields.chip_id[byte] ^= 1);
        let refusal = verifier.appraise(&evidence, &EXPECTED, NOW).unwrap_err();
        assert_eq!(refusal, Refusal::OtherChip);
    }
}

fn genoa_form() -> sealift_evidence::ReportForm {
    let cpu = sealift_evidence::CpuId {
        family: 0x19,
        model: 0x11,
        stepping: 1,
    };
    sealift_evidence::ReportForm::V3(cpu)
}

/// Nobody but the chip signs: changed after signing, by another chip, or not at all.
#[test]
fn evidence_that_the_certified_chip_did_not_sign_is_refused() {
    let changed = {
        let mut fields = good(&MILAN).report().fields().clone();
        fields.guest_svn = 1;
        sealift_evidence::SnpReport::from_fields(&fields).unwrap()
    };
    let by_other = {
        let mut fields = OTHER.fields(&GUEST, &EXPECTED.report_data);
        fields.chip_id = good(&MILAN).report().fields().chip_id;
        OTHER.sign(&fields).unwrap()
    };
    let unsigned = {
        let fields = MILAN.fields(&GUEST, &EXPECTED.report_data);
        sealift_evidence::SnpReport::from_fields(&fields).unwrap()
    };
    for report in [changed, by_other, unsigned] {
        let evidence = SnpEvidence::new(report, MILAN.certificates()).unwrap();
        let refusal = verifier(&MILAN, values(&MILAN)).appraise(&evidence, &EXPECTED, NOW);
        assert_eq!(refusal.unwrap_err(), Refusal::ReportSignature);
    }
}

#[test]
fn a_chain_with_one_certificate_spoiled_is_refused_for_that_certificate() {
    let of_other = |kind| {
        OTHER
            .certificates()
            .into_iter()
            .find(|one| one.kind == kind)
            .unwrap()
            .der
    };
    let flip_last = |der: &mut Vec<u8>| *der.last_mut().unwrap() ^= 1;
    let verifier = verifier(&MILAN, values(&MILAN));
    let refusal = |evidence| verifier.appraise(&evidence, &EXPECTED, NOW).unwrap_err();

    for kind in [
        CertificateKind::Ark,
        CertificateKind::Ask,
        CertificateKind::Vcek,
    ] {
        let malformed = refusal(certified(kind, |der| der.push(0)));
        assert_eq!(malformed, refused(kind, CertificateFault::Malformed));
    }
    for kind in [CertificateKind::Ask, CertificateKind::Vcek] {
        let unsigned = refusal(certified(kind, flip_last));
        assert_eq!(unsigned, refused(kind, CertificateFault::Signature));
    }
    // The other root is as well-formed as ours, but nobody pinned it.
    let fingerprint = OTHER.ark_fingerprint();
    let other_ark = refusal(certified(CertificateKind::Ark, |der| {
        *der = of_other(CertificateKind::Ark);
    }));
    assert_eq!(other_ark, Refusal::UnknownAnchor { fingerprint });
    let spoiled_ark = refusal(certified(CertificateKind::Ark, flip_last));
    assert!(matches!(spoiled_ark, Refusal::UnknownAnchor { .. }));
    let other_ask = refusal(certified(CertificateKind::Ask, |der| {
        *der = of_other(CertificateKind::Ask);
    }));
    assert_eq!(
        other_ask,
        refused(CertificateKind::Ask, CertificateFault::Issuer)
    );
    // Both signing keys have the same name, so only the signature tells them apart.
    let other_vcek = refusal(certified(CertificateKind::Vcek, |der| {
        *der = of_other(CertificateKind::Vcek);
    }));
    assert_eq!(
        other_vcek,
        refused(CertificateKind::Vcek, CertificateFault::Signature)
    );
}

/// A chip certificate is no authority, and an authority is no chip.
#[test]
fn a_certificate_in_another_role_is_refused() {
    let chain = MILAN.certificates();
    let der = |kind| {
        chain
            .iter()
            .find(|one| one.kind == kind)
            .unwrap()
            .der
            .clone()
    };
    let verifier = verifier(&MILAN, values(&MILAN));
    let in_role = |kind, der: Vec<u8>| {
        let evidence = certified(kind, |own| *own = der);
        verifier.appraise(&evidence, &EXPECTED, NOW).unwrap_err()
    };
    assert_eq!(
        in_role(CertificateKind::Vcek, der(CertificateKind::Ask)),
        refused(CertificateKind::Vcek, CertificateFault::Extensions)
    );
    assert_eq!(
        in_role(CertificateKind::Ask, der(CertificateKind::Vcek)),
        refused(CertificateKind::Ask, CertificateFault::Issuer)
    );
    assert!(matches!(
        in_role(CertificateKind::Ark, der(CertificateKind::Ask)),
        Refusal::UnknownAnchor { .. }
    ));
}

#[test]
fn a_hole_in_the_chain_is_not_filled_with_amds_certificates() {
    let verifier = verifier(&MILAN, values(&MILAN));
    let without = |kind| {
        let rest: Vec<Certificate> = MILAN
            .certificates()
            .into_iter()
            .filter(|one| one.kind != kind)
            .collect();
        let evidence = SnpEvidence::new(good(&MILAN).report().clone(), rest).unwrap();
        verifier.appraise(&evidence, &EXPECTED, NOW).unwrap_err()
    };
    let missing = Refusal::MissingCertificate {
        kind: CertificateKind::Vcek,
    };
    assert_eq!(without(CertificateKind::Vcek), missing);
    assert_eq!(
        without(CertificateKind::Ask),
        refused(CertificateKind::Ask, CertificateFault::Issuer)
    );
    let amd = Anchors::amd().fingerprints()[0];
    assert_eq!(
        without(CertificateKind::Ark),
        Refusal::UnknownAnchor { fingerprint: amd }
    );
}

#[test]
fn certificates_are_valid_within_their_dates_only() {
    let verifier = verifier(&MILAN, values(&MILAN));
    let at = |now| verifier.appraise(&good(&MILAN), &EXPECTED, now).map(|_| ());
    assert_eq!(at(NOW), Ok(()));
    assert_eq!(
        at(NOW - 1),
        Err(refused(CertificateKind::Ark, CertificateFault::NotYetValid))
    );
    assert_eq!(at(NOW + 7 * YEAR), Ok(()));
    assert_eq!(
        at(NOW + 7 * YEAR + 1),
        Err(refused(CertificateKind::Vcek, CertificateFault::Expired))
    );
    assert_eq!(
        at(NOW + 25 * YEAR + 1),
        Err(refused(CertificateKind::Ark, CertificateFault::Expired))
    );
}

/// Each row makes the policy ask for one thing that good evidence does not have.
#[test]
fn a_policy_that_asks_for_more_refuses() {
    let tcb = MILAN.platform().tcb;
    let more = |change: fn(&mut ChipTcb)| {
        let mut values = values(&MILAN);
        change(values.policy.min_tcb.milan.as_mut().unwrap());
        let minimum = values.policy.min_tcb.for_product(Product::Milan).unwrap();
        (
            values,
            Refusal::TcbTooOld {
                found: tcb,
                minimum,
            },
        )
    };
    let with = |change: fn(&mut AppraisalPolicy), refusal| {
        let mut values = values(&MILAN);
        change(&mut values.policy);
        (values, refusal)
    };
    let rows = [
        more(|minimum| minimum.bootloader += 1),
        more(|minimum| minimum.tee += 1),
        more(|minimum| minimum.snp += 1),
        more(|minimum| minimum.microcode += 1),
        with(|policy| policy.allow_smt = false, Refusal::SmtAllowed),
        with(
            |policy| policy.vmpl = 1,
            Refusal::Vmpl {
                found: 0,
                expected: 1,
            },
        ),
        with(
            |policy| policy.min_report_version = 5,
            Refusal::ReportVersionTooOld {
                version: 3,
                minimum: 5,
            },
        ),
        with(
            |policy| policy.min_tcb.milan = None,
            Refusal::NoMinimumTcb {
                product: Product::Milan,
            },
        ),
        with(
            |policy| policy.min_assurance = Assurance::Hardware,
            Refusal::AssuranceTooLow {
                found: Assurance::Simulated,
                minimum: Assurance::Hardware,
            },
        ),
    ];
    for (values, expected) in rows {
        let refusal = verifier(&MILAN, values).appraise(&good(&MILAN), &EXPECTED, NOW);
        assert_eq!(refusal.unwrap_err(), expected);
    }
}

#[test]
fn an_empty_list_of_reference_values_trusts_nobody() {
    let mut values = values(&MILAN);
    values.measurements.clear();
    let refusal = verifier(&MILAN, values).appraise(&good(&MILAN), &EXPECTED, NOW);
    assert_eq!(refusal.unwrap_err(), Refusal::NoReferenceValues);
}

/// With the most permissive policy there is, a simulated chip stays a stranger to AMD's roots.
#[test]
fn a_simulated_chip_is_nothing_to_a_verifier_of_hardware() {
    let mut values = values(&MILAN);
    values.policy.allow_debug = true;
    values.policy.allow_migration_agent = true;
    let fingerprint = MILAN.ark_fingerprint();
    let verifier = Verifier::new(Anchors::amd(), values);
    let refusal = verifier
        .appraise(&good(&MILAN), &EXPECTED, NOW)
        .unwrap_err();
    assert_eq!(refusal, Refusal::UnknownAnchor { fingerprint });
}

#[test]
fn no_anchors_trust_nobody() {
    let anchors = Anchors::new(Assurance::Simulated, &[]).unwrap();
    let fingerprint = MILAN.ark_fingerprint();
    let refusal = Verifier::new(anchors, values(&MILAN)).appraise(&good(&MILAN), &EXPECTED, NOW);
    assert_eq!(refusal.unwrap_err(), Refusal::UnknownAnchor { fingerprint });
}

/// An attacker takes the digest of an RCAR handshake for a challenge, or relays another guest's
/// answer: both reports bind other data than the asker rebuilds.
#[test]
fn evidence_for_another_question_is_refused() {
    use sealift_evidence::{Role, attested_keys_report_data, rcar_report_data};
    use std::collections::BTreeMap;
    let jwk = serde_json::json!({"kty": "EC", "crv": "P-256", "x": "attacker", "y": "attacker"});
    let rcar = rcar_report_data("AAAA", &jwk, "");
    let keys = |tls: &str| BTreeMap::from([("tls".to_owned(), tls.to_owned())]);
    let own = attested_keys_report_data(Role::Guest, &[7; 32], &keys("own"));
    let relayed = attested_keys_report_data(Role::Guest, &[7; 32], &keys("relay"));
    let as_key_manager = attested_keys_report_data(Role::KeyManager, &[7; 32], &keys("own"));
    let verifier = verifier(&MILAN, values(&MILAN));
    for (answered, asked) in [
        (own, rcar),
        (relayed, own),
        (as_key_manager, own),
        (own, relayed),
    ] {
        let evidence = MILAN.evidence(&GUEST, &answered).unwrap();
        let expected = Expected {
            report_data: asked,
            ..EXPECTED
        };
        let refusal = verifier.appraise(&evidence, &expected, NOW).unwrap_err();
        assert_eq!(refusal, Refusal::ReportData);
    }
}

#[test]
fn reference_values_are_a_closed_signed_document() {
    use sealift_signed_document::{SigningKey, canonical_json, parse_canonical, sign};
    let key = SigningKey::generate();
    let signed = sign(&values(&MILAN), &key).unwrap();
    let read = signed.verify::<ReferenceValues>(&key.public()).unwrap();
    assert_eq!(read.document(), &values(&MILAN));

    let json = String::from_utf8(canonical_json(&values(&MILAN)).unwrap()).unwrap();
    for spoiled in [
        json.replace("\"vmpl\":0", "\"vmpl\":0,\"vmpm\":0"),
        json.replace("\"vmpl\":0", "\"vmpl\":0,\"vmpl\":0"),
        json.replace("\"allow_debug\":false,", ""),
        json.replace("\"allow_debug\"", "\"allow_dubug\""),
    ] {
        parse_canonical::<ReferenceValues>(spoiled.as_bytes()).unwrap_err();
    }
    assert_eq!(
        parse_canonical::<ReferenceValues>(json.as_bytes()).unwrap(),
        values(&MILAN)
    );
    assert_ne!(Digest::of(json.as_bytes()), signed.digest());
}
