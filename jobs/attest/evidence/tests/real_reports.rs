//! Reports of real chips, read with our codec and with the `sev` crate's. What each file is and
//! where it comes from: `tests/vectors/*/README.md`.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use sealift_evidence::{CertificateKind, Product, ReportForm, SnpEvidence, SnpReport};
use sev::{firmware::guest::AttestationReport, parser::ByteParser};

macro_rules! vector {
    ($path:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../tests/vectors/",
            $path
        ))
    };
}

fn real_reports() -> Vec<(&'static str, Vec<u8>)> {
    let hex = vector!("sev/tests/certs_data/report_milan.hex");
    vec![
        (
            "Milan, version 2",
            vector!("trustee/deps/verifier/test_data/snp/test-report.bin").to_vec(),
        ),
        (
            "Milan VLEK, version 3",
            vector!("trustee/deps/verifier/test_data/snp/test-vlek-report.bin").to_vec(),
        ),
        (
            "Milan with DEBUG, version 2",
            vector!("go-sev-guest/verify/testdata/attestation.bin").to_vec(),
        ),
        (
            "Milan of sev, version 2",
            hex::decode(hex.trim_ascii()).unwrap(),
        ),
    ]
}

const KBS_EVIDENCE: &[u8] = vector!("trustee/attestation-service/tests/e2e/evidence.json");

#[test]
fn real_reports_survive_our_encoder_byte_for_byte() {
    for (name, bytes) in real_reports() {
        let report =
            SnpReport::from_bytes(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let encoded = SnpReport::from_fields(report.fields()).unwrap();
        assert_eq!(encoded.as_bytes().as_slice(), bytes, "{name}");
    }
}

#[test]
fn the_real_kbs_evidence_survives_byte_for_byte() {
    let evidence = SnpEvidence::from_kbs_json(KBS_EVIDENCE.trim_ascii()).unwrap();
    let fields = evidence.report().fields();
    assert!(matches!(fields.form, ReportForm::V3(cpu) if cpu.model == 0xA0));
    assert_eq!(fields.product(), Ok(Some(Product::Genoa)));
    assert_eq!(
        fields.reported_tcb.to_string(),
        "bootloader 10, tee 0, snp 23, microcode 25"
    );
    assert!(evidence.certificate(CertificateKind::Vcek).is_some());
    assert!(evidence.certificate(CertificateKind::Ask).is_none());
    assert_eq!(evidence.to_kbs_json(), KBS_EVIDENCE.trim_ascii());
}

/// The JSON that attesters send is the serde form of the `sev` crate's struct: whatever it writes
/// we must read as the same bytes, and it must read what we write.
#[test]
fn our_kbs_json_and_that_of_the_sev_crate_mean_the_same_bytes() {
    let mut reports = real_reports();
    let kbs = SnpEvidence::from_kbs_json(KBS_EVIDENCE).unwrap();
    reports.push(("Genoa, version 3", kbs.report().as_bytes().to_vec()));
    reports.push(("version 5", version_5(&kbs).as_bytes().to_vec()));
    for (name, bytes) in reports {
        // The sev crate refuses version 2 reports without a chip id; none of these is one.
        let theirs = AttestationReport::from_bytes(&bytes).unwrap();
        let json = serde_json::json!({"attestation_report": theirs, "cert_chain": null});
        let ours = SnpEvidence::from_kbs_json(json.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(ours.report().as_bytes().as_slice(), bytes, "{name}");

        let json: serde_json::Value = serde_json::from_slice(&ours.to_kbs_json()).unwrap();
        let read: AttestationReport =
            serde_json::from_value(json["attestation_report"].clone()).unwrap();
        assert_eq!(read, theirs, "{name}");
    }
}

/// No real version 5 report is public, so one is made of a real version 3 report.
fn version_5(real: &SnpEvidence) -> SnpReport {
    let mut fields = real.report().fields().clone();
    let cpu = fields.form.cpu().unwrap();
    fields.form = ReportForm::V5(
        cpu,
        sealift_evidence::Mitigations {
            launch: 5,
            current: 7,
        },
    );
    SnpReport::from_fields(&fields).unwrap()
}

#[test]
fn the_kbs_serde_form_is_the_same_json() {
    let evidence: SnpEvidence = serde_json::from_slice(KBS_EVIDENCE).unwrap();
    assert_eq!(
        serde_json::to_vec(&evidence).unwrap(),
        KBS_EVIDENCE.trim_ascii()
    );
}

/// Each row changes one thing in the real evidence.
#[test]
fn kbs_evidence_with_one_thing_spoiled_is_refused_for_that_thing() {
    let text = std::str::from_utf8(KBS_EVIDENCE).unwrap();
    for (spoiled, expected) in [
        (
            text.replacen("\"version\":3", "\"version\":4", 1),
            "no valid report",
        ),
        (
            text.replacen("\"version\":3", "\"version\":2", 1),
            "`cpuid_fam_id` does not fit",
        ),
        (
            text.replacen("\"version\":3", "\"version\":5", 1),
            "`launch_mit_vector` does not fit",
        ),
        (
            text.replacen("\"cpuid_mod_id\":160", "\"cpuid_mod_id\":null", 1),
            "`cpuid_fam_id` does not fit",
        ),
        (
            text.replacen("\"cpuid_mod_id\":160", "\"cpuid_mod_id\":255", 1),
            "no valid report",
        ),
        (
            text.replacen("\"fmc\":null", "\"fmc\":1", 1),
            "`current_tcb.fmc` does not fit",
        ),
        (
            text.replacen("\"policy\":196608", "\"policy\":65536", 1),
            "no valid report",
        ),
        (
            text.replacen("\"plat_info\":37", "\"plat_info\":64", 1),
            "no valid report",
        ),
        (
            text.replacen("\"key_info\":0", "\"key_info\":32", 1),
            "no valid report",
        ),
        (
            text.replacen("\"host_data\":[0,", "\"host_data\":[", 1),
            "`host_data` has 31 bytes",
        ),
        (
            text.replacen("\"host_data\":[0,", "\"host_data\":[256,", 1),
            "not the KBS `snp` JSON",
        ),
        (
            text.replacen("\"vmpl\":0,", "", 1),
            "not the KBS `snp` JSON",
        ),
        (
            text.replacen("\"vmpl\":0,", "\"vmpl\":0,\"vmpl\":0,", 1),
            "not the KBS `snp` JSON",
        ),
        (
            text.replacen("\"vmpl\":0,", "\"vmpl\":0,\"vmql\":0,", 1),
            "not the KBS `snp` JSON",
        ),
        (
            text.replacen("\"VCEK\"", "\"CRL\"", 1),
            "`cert_type` names \"CRL\"",
        ),
        (
            text.replacen(
                "\"cert_chain\":[",
                "\"cert_chain\":[{\"cert_type\":\"VCEK\",\"data\":[48]},",
                1,
            ),
            "two VCEK certificates",
        ),
        (
            text.replacen("\"data\":[48", "\"data\":[-48", 1),
            "not the KBS `snp` JSON",
        ),
    ] {
        let error = SnpEvidence::from_kbs_json(spoiled.as_bytes()).unwrap_err();
        assert!(
            error.to_string().contains(expected),
            "expected {expected:?}, got: {error}"
        );
    }
}

#[test]
fn a_signature_scalar_longer_than_the_curve_is_refused() {
    let mut json: serde_json::Value = serde_json::from_slice(KBS_EVIDENCE).unwrap();
    json["attestation_report"]["signature"]["r"][71] = 1.into();
    let error = SnpEvidence::from_kbs_json(json.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("no valid report"), "{error}");
}

#[test]
fn oversized_kbs_evidence_is_not_parsed() {
    let json = vec![b' '; sealift_evidence::MAX_KBS_JSON_BYTES + 1];
    let error = SnpEvidence::from_kbs_json(&json).unwrap_err();
    assert!(error.to_string().contains("bytes of JSON"), "{error}");
}
