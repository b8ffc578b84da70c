//! The appraisal: is this evidence authentic, and is it what I want?

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use sealift_evidence::{
    Assurance, Measurement, Product, ReportFields, SigningKeyKind, SnpEvidence, TcbVersion,
};
use sealift_signed_document::Digest;

use crate::{Anchors, ReferenceValues, Refusal, chain::anchored_chip, vcek::ChipIdentity};

/// ECDSA P-384 with SHA-384, the only algorithm of ABI revision 1.58.
const ECDSA_P384_SHA384: u32 = 1;

/// What the asker knows that the evidence must repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Rebuilt from the asker's own nonce and the keys it was told.
    pub report_data: [u8; 64],
    /// SHA-256 of the init-data that the guest must have been started with.
    pub host_data: [u8; 32],
}

/// Appraises evidence against pinned anchors and signed reference values.
#[derive(Clone, Debug)]
pub struct Verifier {
    anchors: Anchors,
    values: ReferenceValues,
}

/// Evidence that a [`Verifier`] appraised and found good.
///
/// It has no other constructor and cannot be deserialized, so a function that takes one cannot be
/// handed evidence that nobody checked.
#[derive(Clone, Debug)]
pub struct AppraisedEvidence {
    assurance: Assurance,
    evidence_sha256: Digest,
    expected: Expected,
    measurement: Measurement,
    name: String,
    product: Product,
    tcb: TcbVersion,
}

impl Verifier {
    /// A verifier that trusts chains from `anchors` and guests of `values`.
    pub fn new(anchors: Anchors, values: ReferenceValues) -> Self {
        Self { anchors, values }
    }

    /// Appraises `evidence` as the answer to `expected` at `now_unix` (seconds).
    ///
    /// The checks are made in the order of the variants of [`Refusal`]: form, chain of
    /// certificates, signature, binding, what the guest allows, platform, reference values.
    pub fn appraise(
        &self,
        evidence: &SnpEvidence,
        expected: &Expected,
        now_unix: u64,
    ) -> Result<AppraisedEvidence, Refusal> {
        let report = evidence.report().fields();
        self.check_form(report)?;
        let chip = anchored_chip(evidence, &self.anchors, now_unix)?;
        check_chip(report, &chip)?;
        check_signature(evidence, &chip)?;
        check_binding(report, expected)?;
        self.check_guest_policy(report)?;
        self.check_platform(report, &chip)?;
        let name = self.reference_name(report.measurement)?;
        Ok(AppraisedEvidence {
            assurance: self.anchors.assurance(),
            evidence_sha256: evidence.digest(),
            expected: *expected,
            measurement: report.measurement,
            name: name.to_owned(),
            product: chip.product,
            tcb: report.reported_tcb,
        })
    }

    fn check_form(&self, report: &ReportFields) -> Result<(), Refusal> {
        let (version, minimum) = (report.form.version(), self.values.policy.min_report_version);
        if version < minimum {
            return Err(Refusal::ReportVersionTooOld { version, minimum });
        }
        if report.signature_algorithm != ECDSA_P384_SHA384 {
            return Err(Refusal::SignatureAlgorithm {
                algorithm: report.signature_algorithm,
            });
        }
        if report.key_info.signing_key() != SigningKeyKind::Vcek
            || report.key_info.chip_key_masked()
        {
            return Err(Refusal::NotSignedByChip);
        }
        Ok(())
    }

    fn check_guest_policy(&self, report: &ReportFields) -> Result<(), Refusal> {
        let policy = &self.values.policy;
        if report.vmpl != policy.vmpl {
            return Err(Refusal::Vmpl {
                found: report.vmpl,
                expected: policy.vmpl,
            });
        }
        if report.policy.debug_allowed() && !policy.allow_debug {
            return Err(Refusal::DebugAllowed);
        }
        if report.policy.migration_agent_allowed() && !policy.allow_migration_agent {
            return Err(Refusal::MigrationAgentAllowed);
        }
        if report.policy.smt_allowed() && !policy.allow_smt {
            return Err(Refusal::SmtAllowed);
        }
        Ok(())
    }

    fn check_platform(&self, report: &ReportFields, chip: &ChipIdentity) -> Result<(), Refusal> {
        let policy = &self.values.policy;
        let Some(minimum) = policy.min_tcb.for_product(chip.product) else {
            return Err(Refusal::NoMinimumTcb {
                product: chip.product,
            });
        };
        if !report.reported_tcb.at_least(&minimum) {
            return Err(Refusal::TcbTooOld {
                found: report.reported_tcb,
                minimum,
            });
        }
        let (found, minimum) = (self.anchors.assurance(), policy.min_assurance);
        if found < minimum {
            return Err(Refusal::AssuranceTooLow { found, minimum });
        }
        Ok(())
    }

    fn reference_name(&self, measurement: Measurement) -> Result<&str, Refusal> {
        if self.values.measurements.is_empty() {
            return Err(Refusal::NoReferenceValues);
        }
        let mut trusted = self.values.measurements.iter();
        match trusted.find(|reference| reference.measurement == measurement) {
            Some(reference) => Ok(&reference.name),
            None => Err(Refusal::UnknownMeasurement { measurement }),
        }
    }
}

fn check_chip(report: &ReportFields, chip: &ChipIdentity) -> Result<(), Refusal> {
    // Version 2 names no processor; its layout is that of Milan and Genoa.
    let cpu_product = report.product().ok().flatten();
    let by_report = cpu_product.unwrap_or(match chip.product {
        Product::Turin => Product::Genoa,
        product => product,
    });
    if by_report != chip.product {
        return Err(Refusal::OtherProduct {
            report: by_report,
            certificate: chip.product,
        });
    }
    if report.reported_tcb != chip.tcb {
        return Err(Refusal::OtherTcb {
            report: report.reported_tcb,
            certificate: chip.tcb,
        });
    }
    if !chip.is_chip(&report.chip_id) {
        return Err(Refusal::OtherChip);
    }
    Ok(())
}

fn check_signature(evidence: &SnpEvidence, chip: &ChipIdentity) -> Result<(), Refusal> {
    let report = evidence.report();
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &chip.public_key)
        .verify(report.signed_bytes(), &report.fields().signature.to_fixed())
        .map_err(|_| Refusal::ReportSignature)
}

fn check_binding(report: &ReportFields, expected: &Expected) -> Result<(), Refusal> {
    if report.report_data != expected.report_data {
        return Err(Refusal::ReportData);
    }
    if report.host_data != expected.host_data {
        return Err(Refusal::HostData);
    }
    Ok(())
}

impl AppraisedEvidence {
    /// What the anchor of the chain vouches for.
    pub fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// SHA-256 of the report, as documents name the evidence.
    pub fn evidence_sha256(&self) -> Digest {
        self.evidence_sha256
    }

    /// What the guest was started with.
    pub fn host_data(&self) -> &[u8; 32] {
        &self.expected.host_data
    }

    /// What the report binds.
    pub fn report_data(&self) -> &[u8; 64] {
        &self.expected.report_data
    }

    /// What was launched.
    pub fn measurement(&self) -> Measurement {
        self.measurement
    }

    /// The reference value's name for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The processor family.
    pub fn product(&self) -> Product {
        self.product
    }

    /// The platform's security versions.
    pub fn tcb(&self) -> TcbVersion {
        self.tcb
    }
}
