//! Certificates that the simulated authority itself signed, with one thing spoiled in each case:
//! the signatures hold, so only the check of that thing can refuse.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use aws_lc_rs::{rand::SystemRandom, rsa, signature::RSA_PSS_SHA384};
use der::{
    Decode, Encode,
    asn1::{Any, BitString, Ia5StringRef, OctetString},
    oid::ObjectIdentifier,
};
use sealift_evidence::{
    Certificate as SentCertificate, CertificateKind, Measurement, SnpEvidence, SnpReport,
    TcbVersion,
};
use sealift_signed_document::Digest;
use sealift_simulated_sp::{GuestContext, SimulatedSp};
use sealift_verifier::{
    Anchors, AppraisalPolicy, Assurance, CertificateFault, ChipTcb, Expected, MinimumTcb,
    ReferenceMeasurement, ReferenceValues, Refusal, Verifier,
};
use x509_cert::{
    Certificate, TbsCertificate,
    ext::{Extension, pkix::BasicConstraints},
    spki::AlgorithmIdentifierOwned,
    time::{Time, Validity},
};

const NOW: u64 = 1_767_225_600;
const MEASUREMENT: Measurement = Measurement::from_bytes([0x3E; 48]);
const GUEST: GuestContext = GuestContext {
    measurement: MEASUREMENT,
    host_data: [0xD1; 32],
};
const EXPECTED: Expected = Expected {
    report_data: [0xA5; 64],
    host_data: [0xD1; 32],
};

const KEY_USAGE: &str = "2.5.29.15";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const PRODUCT: &str = "1.3.6.1.4.1.3704.1.2";
const BOOTLOADER: &str = "1.3.6.1.4.1.3704.1.3.1";
const MICROCODE: &str = "1.3.6.1.4.1.3704.1.3.8";
const HWID: &str = "1.3.6.1.4.1.3704.1.4";

/// A chip of its own, because these tests sign with its authority's keys.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("verifier-reissuing");
    if SimulatedSp::open(&shared).is_err() {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let made = folder.path().join("simulated");
        SimulatedSp::create(&made, NOW).unwrap();
        // Another process may have been first; then its chip is as good.
        drop(fs::rename(&made, &shared));
    }
    shared
});

static CHIP: LazyLock<SimulatedSp> = LazyLock::new(|| SimulatedSp::open(&FOLDER).unwrap());

/// Changes what a certificate says.
type Spoil<'a> = &'a dyn Fn(&mut TbsCertificate);

/// Evidence whose certificate of each `kind` says what `spoil` made of it, signed by its issuer.
fn reissued(spoiled: &[(CertificateKind, Spoil<'_>)]) -> SnpEvidence {
    let mut certificates = CHIP.certificates();
    for (kind, spoil) in spoiled {
        sign_again(&mut certificates, *kind, |x509| {
            spoil(&mut x509.tbs_certificate);
        });
    }
    SnpEvidence::new(good_report(), certificates).unwrap()
}

fn good_report() -> SnpReport {
    CHIP.evidence(&GUEST, &EXPECTED.report_data)
        .unwrap()
        .report()
        .clone()
}

fn sign_again(
    certificates: &mut [SentCertificate],
    kind: CertificateKind,
    spoil: impl FnOnce(&mut Certificate),
) {
    let certificate = certificates
        .iter_mut()
        .find(|one| one.kind == kind)
        .unwrap();
    let mut x509 = Certificate::from_der(&certificate.der).unwrap();
    spoil(&mut x509);
    let issuer = match kind {
        CertificateKind::Vcek => "ask.pk8",
        _ => "ark.pk8",
    };
    let key = rsa::KeyPair::from_pkcs8(&fs::read(FOLDER.join(issuer)).unwrap()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    let signed = x509.tbs_certificate.to_der().unwrap();
    key.sign(
        &RSA_PSS_SHA384,
        &SystemRandom::new(),
        &signed,
        &mut signature,
    )
    .unwrap();
    x509.signature = BitString::from_bytes(&signature).unwrap();
    certificate.der = x509.to_der().unwrap();
}

/// The verdict of a verifier that pinned whatever root the evidence brings.
fn verdict(evidence: &SnpEvidence) -> Result<(), Refusal> {
    let TcbVersion {
        bootloader,
        tee,
        snp,
        microcode,
        ..
    } = CHIP.platform().tcb;
    let policy = AppraisalPolicy {
        min_assurance: Assurance::Simulated,
        min_report_version: 3,
        vmpl: 0,
        allow_debug: false,
        allow_migration_agent: false,
        allow_smt: true,
        min_tcb: MinimumTcb {
            milan: Some(ChipTcb {
                bootloader,
                tee,
                snp,
                microcode,
            }),
            ..MinimumTcb::default()
        },
    };
    let measurements = vec![ReferenceMeasurement {
        name: "guest".to_owned(),
        measurement: MEASUREMENT,
    }];
    let ark = evidence.certificate(CertificateKind::Ark).unwrap();
    let anchors = Anchors::new(Assurance::Simulated, &[Digest::of(&ark.der)]).unwrap();
    Verifier::new(
        anchors,
        ReferenceValues {
            measurements,
            policy,
        },
    )
    .appraise(evidence, &EXPECTED, NOW)
    .map(|_| ())
}

fn refused(kind: CertificateKind, fault: CertificateFault) -> Result<(), Refusal> {
    Err(Refusal::Certificate { kind, fault })
}

fn extensions(tbs: &mut TbsCertificate) -> &mut Vec<Extension> {
    tbs.extensions.as_mut().unwrap()
}

fn without(tbs: &mut TbsCertificate, oid: &str) {
    let oid = ObjectIdentifier::new_unwrap(oid);
    extensions(tbs).retain(|one| one.extn_id != oid);
}

fn with(tbs: &mut TbsCertificate, oid: &str, value: &[u8]) {
    let oid = ObjectIdentifier::new_unwrap(oid);
    let one = extensions(tbs)
        .iter_mut()
        .find(|one| one.extn_id == oid)
        .unwrap();
    one.extn_value = OctetString::new(value).unwrap();
}

#[test]
fn certificates_that_are_signed_again_unchanged_pass() {
    let unchanged = |_: &mut TbsCertificate| {};
    let evidence = reissued(&[
        (CertificateKind::Ark, &unchanged),
        (CertificateKind::Ask, &unchanged),
        (CertificateKind::Vcek, &unchanged),
    ]);
    assert_eq!(verdict(&evidence), Ok(()));
}

#[test]
fn an_authority_that_is_none_is_refused() {
    let not_ca = BasicConstraints {
        ca: false,
        path_len_constraint: None,
    }
    .to_der()
    .unwrap();
    // A BIT STRING with digitalSignature alone.
    let signs_no_certificates = [0x03, 0x02, 0x07, 0x80];
    let spoils: [Spoil<'_>; 4] = [
        &|tbs| without(tbs, BASIC_CONSTRAINTS),
        &|tbs| with(tbs, BASIC_CONSTRAINTS, &not_ca),
        &|tbs| without(tbs, KEY_USAGE),
        &|tbs| with(tbs, KEY_USAGE, &signs_no_certificates),
    ];
    for spoil in spoils {
        for kind in [CertificateKind::Ark, CertificateKind::Ask] {
            let evidence = reissued(&[(kind, spoil)]);
            assert_eq!(
                verdict(&evidence),
                refused(kind, CertificateFault::NotAuthority)
            );
        }
    }
}

#[test]
fn each_certificate_of_the_chain_has_its_own_dates() {
    let time = |unix| {
        Time::UtcTime(der::asn1::UtcTime::from_unix_duration(Duration::from_secs(unix)).unwrap())
    };
    let past = Validity {
        not_before: time(NOW - 10),
        not_after: time(NOW - 1),
    };
    let future = Validity {
        not_before: time(NOW + 1),
        not_after: time(NOW + 10),
    };
    for kind in [
        CertificateKind::Ark,
        CertificateKind::Ask,
        CertificateKind::Vcek,
    ] {
        let expired = reissued(&[(kind, &|tbs| tbs.validity = past)]);
        assert_eq!(verdict(&expired), refused(kind, CertificateFault::Expired));
        let early = reissued(&[(kind, &|tbs| tbs.validity = future)]);
        assert_eq!(
            verdict(&early),
            refused(kind, CertificateFault::NotYetValid)
        );
    }
}

#[test]
fn a_critical_extension_that_is_not_understood_is_refused() {
    for kind in [
        CertificateKind::Ark,
        CertificateKind::Ask,
        CertificateKind::Vcek,
    ] {
        let evidence = reissued(&[(kind, &|tbs| {
            extensions(tbs).push(Extension {
                extn_id: ObjectIdentifier::new_unwrap("2.5.29.30"),
                critical: true,
                extn_value: OctetString::new([0x30, 0x00]).unwrap(),
            });
        })]);
        assert_eq!(
            verdict(&evidence),
            refused(kind, CertificateFault::CriticalExtension)
        );
    }
}

/// The signature is right, but the signed part names another algorithm than the outer one.
#[test]
fn a_certificate_that_names_another_algorithm_inside_is_refused() {
    for kind in [
        CertificateKind::Ark,
        CertificateKind::Ask,
        CertificateKind::Vcek,
    ] {
        let evidence = reissued(&[(kind, &|tbs| tbs.signature.parameters = None)]);
        assert_eq!(
            verdict(&evidence),
            refused(kind, CertificateFault::Algorithm)
        );
    }
}

/// The key signed with RSASSA-PSS and SHA-384, but the certificate says something else: without
/// parameters PSS means SHA-1, and the other names are of other schemes.
#[test]
fn a_certificate_that_names_a_weaker_algorithm_is_refused() {
    let null = Some(Any::null());
    for (oid, parameters) in [
        ("1.2.840.113549.1.1.10", None),
        ("1.2.840.113549.1.1.12", null.clone()),
        ("1.2.840.113549.1.1.5", null),
    ] {
        for kind in [
            CertificateKind::Ark,
            CertificateKind::Ask,
            CertificateKind::Vcek,
        ] {
            let mut certificates = CHIP.certificates();
            sign_again(&mut certificates, kind, |x509| {
                let oid = ObjectIdentifier::new_unwrap(oid);
                let algorithm = AlgorithmIdentifierOwned {
                    oid,
                    parameters: parameters.clone(),
                };
                x509.signature_algorithm = algorithm.clone();
                x509.tbs_certificate.signature = algorithm;
            });
            let evidence = SnpEvidence::new(good_report(), certificates).unwrap();
            assert_eq!(
                verdict(&evidence),
                refused(kind, CertificateFault::Algorithm)
            );
        }
    }
}

#[test]
fn a_signing_key_of_another_family_is_refused() {
    let genoa = "CN=SEV-Genoa,O=Sealift simulated AMD-SP";
    let evidence = reissued(&[
        (CertificateKind::Ask, &|tbs| {
            tbs.subject = genoa.parse().unwrap();
        }),
        (CertificateKind::Vcek, &|tbs| {
            tbs.issuer = genoa.parse().unwrap();
        }),
    ]);
    assert_eq!(
        verdict(&evidence),
        refused(CertificateKind::Ask, CertificateFault::Product)
    );

    let product = Ia5StringRef::new("Genoa-B1").unwrap().to_der().unwrap();
    let evidence = reissued(&[(CertificateKind::Vcek, &|tbs| with(tbs, PRODUCT, &product))]);
    assert_eq!(
        verdict(&evidence),
        refused(CertificateKind::Ask, CertificateFault::Product)
    );
}

#[test]
fn a_chip_certificate_without_one_clear_identity_is_refused() {
    let spoils: [Spoil<'_>; 8] = [
        &|tbs| without(tbs, HWID),
        &|tbs| without(tbs, MICROCODE),
        &|tbs| without(tbs, PRODUCT),
        &|tbs| tbs.extensions = None,
        // The same security version twice: which one counts?
        &|tbs| {
            let oid = ObjectIdentifier::new_unwrap(BOOTLOADER);
            let one = extensions(tbs)
                .iter()
                .find(|one| one.extn_id == oid)
                .unwrap()
                .clone();
            extensions(tbs).push(one);
        },
        // An INTEGER that does not fit, one with a superfluous zero, and a hardware id cut short.
        &|tbs| with(tbs, BOOTLOADER, &[0x02, 0x02, 0x01, 0x00]),
        &|tbs| with(tbs, BOOTLOADER, &[0x02, 0x02, 0x00, 0x04]),
        &|tbs| with(tbs, HWID, &[7; 63]),
    ];
    for spoil in spoils {
        let evidence = reissued(&[(CertificateKind::Vcek, spoil)]);
        assert_eq!(
            verdict(&evidence),
            refused(CertificateKind::Vcek, CertificateFault::Extensions)
        );
    }
}

#[test]
fn a_certificate_of_another_chip_or_tcb_is_refused_although_it_has_the_right_key() {
    let other_chip = reissued(&[(CertificateKind::Vcek, &|tbs| with(tbs, HWID, &[7; 64]))]);
    assert_eq!(verdict(&other_chip), Err(Refusal::OtherChip));
    let other_tcb = reissued(&[(CertificateKind::Vcek, &|tbs| {
        with(tbs, BOOTLOADER, &[0x02, 0x01, 0x7F]);
    })]);
    assert!(matches!(verdict(&other_tcb), Err(Refusal::OtherTcb { .. })));
}

/// A host that hides its chips writes zero; a certificate for "zero" would then fit all of them.
#[test]
fn a_hidden_chip_is_no_chip() {
    let evidence = reissued(&[(CertificateKind::Vcek, &|tbs| with(tbs, HWID, &[0; 64]))]);
    let mut fields = CHIP.fields(&GUEST, &EXPECTED.report_data);
    fields.chip_id = [0; 64];
    let report = CHIP.sign(&fields).unwrap();
    let evidence = SnpEvidence::new(report, evidence.certificates().to_vec()).unwrap();
    assert_eq!(verdict(&evidence), Err(Refusal::OtherChip));
}

/// Newer certificates of AMD's wrap the hardware id.
#[test]
fn a_hardware_id_in_an_octet_string_is_the_same_id() {
    let chip_id = CHIP.fields(&GUEST, &[0; 64]).chip_id;
    let wrapped = OctetString::new(chip_id).unwrap().to_der().unwrap();
    let evidence = reissued(&[(CertificateKind::Vcek, &|tbs| with(tbs, HWID, &wrapped))]);
    assert_eq!(verdict(&evidence), Ok(()));
}
