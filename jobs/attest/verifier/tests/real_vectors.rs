//! Verdicts on evidence of real chips. What each file is and where it comes from:
//! `tests/vectors/*/README.md`.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use sealift_evidence::{Certificate, CertificateKind, SnpEvidence, SnpReport};
use sealift_signed_document::Digest;
use sealift_verifier::{
    Anchors, AppraisalPolicy, Assurance, CertificateFault, ChipTcb, Expected, MinimumTcb, Product,
    ReferenceMeasurement, ReferenceValues, Refusal, TurinTcb, Verifier,
};

macro_rules! vector {
    ($path:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../tests/vectors/",
            $path
        ))
    };
}

const GENOA_EVIDENCE: &[u8] = vector!("trustee/attestation-service/tests/e2e/evidence.json");
const MILAN_REPORT: &[u8] = vector!("trustee/deps/verifier/test_data/snp/test-report.bin");
const MILAN_VCEK: &[u8] = vector!("trustee/deps/verifier/test_data/snp/test-vcek.der");

/// 2025-07-01, within the validity of every certificate here.
const NOW: u64 = 1_751_328_000;

fn evidence(report: &[u8], kind: CertificateKind, certificate: &[u8]) -> SnpEvidence {
    let certificate = Certificate {
        kind,
        der: certificate.to_vec(),
    };
    SnpEvidence::new(SnpReport::from_bytes(report).unwrap(), vec![certificate]).unwrap()
}

fn genoa() -> SnpEvidence {
    SnpEvidence::from_kbs_json(GENOA_EVIDENCE).unwrap()
}

fn milan() -> SnpEvidence {
    evidence(MILAN_REPORT, CertificateKind::Vcek, MILAN_VCEK)
}

/// The most that a policy can allow: what it refuses is refused always.
fn permissive() -> AppraisalPolicy {
    let zero = ChipTcb {
        bootloader: 0,
        tee: 0,
        snp: 0,
        microcode: 0,
    };
    AppraisalPolicy {
        min_assurance: Assurance::Simulated,
        min_report_version: 2,
        vmpl: 0,
        allow_debug: false,
        allow_migration_agent: true,
        allow_smt: true,
        min_tcb: MinimumTcb {
            milan: Some(zero),
            genoa: Some(zero),
            turin: Some(TurinTcb {
                fmc: 0,
                bootloader: 0,
                tee: 0,
                snp: 0,
                microcode: 0,
            }),
        },
    }
}

/// A verifier that trusts what `evidence` was launched from, and what it should be bound to.
fn trusting(evidence: &SnpEvidence, policy: AppraisalPolicy) -> (Verifier, Expected) {
    let report = evidence.report().fields();
    let values = ReferenceValues {
        measurements: vec![ReferenceMeasurement {
            name: "vector".to_owned(),
            measurement: report.measurement,
        }],
        policy,
    };
    let expected = Expected {
        report_data: report.report_data,
        host_data: report.host_data,
    };
    (Verifier::new(Anchors::amd(), values), expected)
}

fn refusal(evidence: &SnpEvidence, policy: AppraisalPolicy) -> Refusal {
    let (verifier, expected) = trusting(evidence, policy);
    verifier.appraise(evidence, &expected, NOW).unwrap_err()
}

#[test]
fn a_real_genoa_chip_has_hardware_assurance() {
    let evidence = genoa();
    let tcb = ChipTcb {
        bootloader: 10,
        tee: 0,
        snp: 23,
        microcode: 25,
    };
    let policy = AppraisalPolicy {
        min_assurance: Assurance::Hardware,
        min_report_version: 3,
        min_tcb: MinimumTcb {
            genoa: Some(tcb),
            ..MinimumTcb::default()
        },
        ..permissive()
    };
    let (verifier, expected) = trusting(&evidence, policy);
    let appraised = verifier.appraise(&evidence, &expected, NOW).unwrap();
    assert_eq!(appraised.assurance(), Assurance::Hardware);
    assert_eq!(appraised.product(), Product::Genoa);
    assert_eq!(
        appraised.measurement(),
        evidence.report().fields().measurement
    );
    assert_eq!(
        appraised.evidence_sha256(),
        Digest::of(evidence.report().as_bytes())
    );
}

#[test]
fn real_milan_chips_with_version_2_reports_pass_where_the_policy_reads_them() {
    let hex = vector!("sev/tests/certs_data/report_milan.hex");
    let of_sev = evidence(
        &hex::decode(hex.trim_ascii()).unwrap(),
        CertificateKind::Vcek,
        vector!("sev/tests/certs_data/vcek_milan.der"),
    );
    for evidence in [milan(), of_sev] {
        let (verifier, expected) = trusting(&evidence, permissive());
        let appraised = verifier.appraise(&evidence, &expected, NOW).unwrap();
        assert_eq!(appraised.product(), Product::Milan);

        let newer = AppraisalPolicy {
            min_report_version: 3,
            ..permissive()
        };
        let too_old = Refusal::ReportVersionTooOld {
            version: 2,
            minimum: 3,
        };
        assert_eq!(refusal(&evidence, newer), too_old);
    }
}

#[test]
fn a_real_guest_that_allows_debug_is_refused() {
    let evidence = evidence(
        vector!("go-sev-guest/verify/testdata/attestation.bin"),
        CertificateKind::Vcek,
        vector!("go-sev-guest/verify/testdata/vcek.testcer"),
    );
    assert_eq!(refusal(&evidence, permissive()), Refusal::DebugAllowed);
    // Everything else about it is right.
    let debug = AppraisalPolicy {
        allow_debug: true,
        ..permissive()
    };
    let (verifier, expected) = trusting(&evidence, debug);
    verifier.appraise(&evidence, &expected, NOW).unwrap();
}

#[test]
fn a_real_report_by_a_providers_key_is_refused() {
    let evidence = evidence(
        vector!("trustee/deps/verifier/test_data/snp/test-vlek-report.bin"),
        CertificateKind::Vlek,
        vector!("trustee/deps/verifier/test_data/snp/test-vlek.der"),
    );
    assert_eq!(refusal(&evidence, permissive()), Refusal::NotSignedByChip);
}

/// A provider's certificate that calls itself a chip's has no hardware id.
#[test]
fn a_providers_certificate_is_no_chip_certificate() {
    let vlek = vector!("trustee/deps/verifier/test_data/snp/test-vlek.der");
    let evidence = evidence(MILAN_REPORT, CertificateKind::Vcek, vlek);
    assert_eq!(
        refusal(&evidence, permissive()),
        Refusal::Certificate {
            kind: CertificateKind::Vcek,
            fault: CertificateFault::Extensions
        }
    );
}

#[test]
fn certificates_that_were_changed_after_signing_are_refused() {
    let changed: [&[u8]; 2] = [
        vector!("trustee/deps/verifier/test_data/snp/test-vcek-invalid-legacy.der"),
        vector!("trustee/deps/verifier/test_data/snp/test-vcek-invalid-new.der"),
    ];
    for vcek in changed {
        let evidence = evidence(MILAN_REPORT, CertificateKind::Vcek, vcek);
        assert_eq!(
            refusal(&evidence, permissive()),
            Refusal::Certificate {
                kind: CertificateKind::Vcek,
                fault: CertificateFault::Signature
            }
        );
    }
}

/// No report of this chip is public: the certificate passes, and a report of another chip fails
/// with it.
#[test]
fn a_real_turin_certificate_is_read_and_belongs_to_turin() {
    let vcek = vector!("sev/tests/certs_data/vcek_turin.der");
    let evidence = evidence(genoa().report().as_bytes(), CertificateKind::Vcek, vcek);
    assert_eq!(
        refusal(&evidence, permissive()),
        Refusal::OtherProduct {
            report: Product::Genoa,
            certificate: Product::Turin
        }
    );
}

/// AMD's certificate of another chip of the same family, which had another TCB.
#[test]
fn the_certificate_of_another_real_chip_is_refused() {
    let other = vector!("go-sev-guest/verify/testdata/vcek.testcer");
    let evidence = evidence(MILAN_REPORT, CertificateKind::Vcek, other);
    assert!(matches!(
        refusal(&evidence, permissive()),
        Refusal::OtherTcb { .. }
    ));
}

/// The chip id is compared with the certificate although the certificate's name is "SEV-VCEK" and
/// not "VCEK"; the signature, which also fails here, is checked after it.
#[test]
fn a_real_report_with_another_chip_id_is_refused_for_the_chip() {
    for (offset, with) in [(0x1A0, 1), (0x1DF, 1)] {
        let mut bytes = MILAN_REPORT.to_vec();
        bytes[offset] ^= with;
        let evidence = evidence(&bytes, CertificateKind::Vcek, MILAN_VCEK);
        assert_eq!(refusal(&evidence, permissive()), Refusal::OtherChip);
    }
}

#[test]
fn a_real_certificate_with_any_byte_changed_is_refused() {
    let (verifier, expected) = trusting(&milan(), permissive());
    for offset in 0..MILAN_VCEK.len() {
        let mut vcek = MILAN_VCEK.to_vec();
        vcek[offset] ^= 1;
        let evidence = evidence(MILAN_REPORT, CertificateKind::Vcek, &vcek);
        assert!(
            verifier.appraise(&evidence, &expected, NOW).is_err(),
            "offset {offset}"
        );
    }
}

#[test]
fn a_certificate_from_before_snp_is_refused() {
    let naples = vector!("sev/tests/naples/cek.cert");
    let evidence = evidence(MILAN_REPORT, CertificateKind::Vcek, naples);
    assert_eq!(
        refusal(&evidence, permissive()),
        Refusal::Certificate {
            kind: CertificateKind::Vcek,
            fault: CertificateFault::Malformed
        }
    );
}

#[test]
fn real_certificates_are_valid_from_their_first_to_their_last_second() {
    // openssl x509 -dates: Jan 24 17:58:26 2023 to Jan 24 17:58:26 2030.
    let (first, last) = (1_674_583_106, 1_895_507_906);
    let evidence = milan();
    let (verifier, expected) = trusting(&evidence, permissive());
    let at = |now| verifier.appraise(&evidence, &expected, now).map(|_| ());
    let fault = |fault| {
        Err(Refusal::Certificate {
            kind: CertificateKind::Vcek,
            fault,
        })
    };
    assert_eq!(at(first), Ok(()));
    assert_eq!(at(first - 1), fault(CertificateFault::NotYetValid));
    assert_eq!(at(last), Ok(()));
    assert_eq!(at(last + 1), fault(CertificateFault::Expired));
}

/// Each bit that is signed: none can be changed without the signature noticing, whatever the
/// checks before it say.
#[test]
fn a_real_report_with_any_byte_changed_is_refused() {
    let (verifier, expected) = trusting(&milan(), permissive());
    for offset in (0..0x2D0).step_by(13) {
        let mut bytes = MILAN_REPORT.to_vec();
        bytes[offset] ^= 1;
        let Ok(report) = SnpReport::from_bytes(&bytes) else {
            continue;
        };
        let certificate = Certificate {
            kind: CertificateKind::Vcek,
            der: MILAN_VCEK.to_vec(),
        };
        let evidence = SnpEvidence::new(report, vec![certificate]).unwrap();
        assert!(
            verifier.appraise(&evidence, &expected, NOW).is_err(),
            "offset {offset:#x}"
        );
    }
}

/// An independent implementation agrees about the chain and the signature of the same bytes.
#[test]
fn the_sev_crate_agrees_about_chain_and_signature() {
    use sev::{
        certs::snp::{Certificate, Chain, Verifiable, builtin::milan, ca},
        firmware::guest::AttestationReport,
        parser::ByteParser,
    };
    let chain = Chain {
        ca: ca::Chain {
            ark: milan::ark().unwrap(),
            ask: milan::ask().unwrap(),
        },
        vek: Certificate::from_der(MILAN_VCEK).unwrap(),
    };
    let report = AttestationReport::from_bytes(MILAN_REPORT).unwrap();
    (&chain, &report).verify().unwrap();
    let (verifier, expected) = trusting(&milan(), permissive());
    verifier.appraise(&milan(), &expected, NOW).unwrap();

    let mut spoiled = MILAN_REPORT.to_vec();
    spoiled[0x90] ^= 1;
    let report = AttestationReport::from_bytes(&spoiled).unwrap();
    (&chain, &report).verify().unwrap_err();
    let spoiled = evidence(&spoiled, CertificateKind::Vcek, MILAN_VCEK);
    assert_eq!(
        verifier.appraise(&spoiled, &expected, NOW).unwrap_err(),
        Refusal::ReportSignature
    );
}

/// The READMEs say what each vector is; a file that is not the one they describe proves nothing.
#[test]
fn the_vectors_are_the_files_that_their_readmes_describe() {
    let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/vectors");
    for origin in ["trustee", "sev", "go-sev-guest"] {
        let folder = vectors.join(origin);
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
        let rows: Vec<Vec<&str>> = readme
            .lines()
            .filter(|line| line.starts_with("| ") && !line.starts_with("| file"))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        assert!(!rows.is_empty(), "{origin}");
        for row in rows {
            let bytes = std::fs::read(folder.join(row[0])).unwrap();
            assert_eq!(
                Digest::of(&bytes).to_string(),
                row[2],
                "{origin}/{}",
                row[0]
            );
        }
    }
}
