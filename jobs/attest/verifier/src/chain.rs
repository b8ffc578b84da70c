//! From a pinned root to the chip: ARK → ASK → VCEK.

use sealift_evidence::{Certificate, CertificateKind, Product, SnpEvidence};
use sealift_signed_document::Digest;

use crate::{
    Anchors, CertificateFault, Refusal, anchors::amd_certificate, certificate::ParsedCertificate,
    vcek::ChipIdentity,
};

/// The chip that an anchored chain vouches for at `now_unix`.
///
/// Authorities that the evidence does not bring are AMD's own, if this build has them.
pub(crate) fn anchored_chip(
    evidence: &SnpEvidence,
    anchors: &Anchors,
    now_unix: u64,
) -> Result<ChipIdentity, Refusal> {
    let vcek_der = sent(evidence, CertificateKind::Vcek).ok_or(Refusal::MissingCertificate {
        kind: CertificateKind::Vcek,
    })?;
    let vcek = parsed(CertificateKind::Vcek, vcek_der)?;
    let chip = in_certificate(CertificateKind::Vcek, ChipIdentity::of(&vcek))?;
    let ask_der = authority(evidence, CertificateKind::Ask, chip.product)?;
    let ask = parsed(CertificateKind::Ask, ask_der)?;
    let ark_der = authority(evidence, CertificateKind::Ark, chip.product)?;
    let ark = parsed(CertificateKind::Ark, ark_der)?;

    let fingerprint = Digest::of(ark_der);
    if !anchors.fingerprints().contains(&fingerprint) {
        return Err(Refusal::UnknownAnchor { fingerprint });
    }
    for (kind, certificate, issuer) in [
        (CertificateKind::Ark, &ark, &ark),
        (CertificateKind::Ask, &ask, &ark),
        (CertificateKind::Vcek, &vcek, &ask),
    ] {
        in_certificate(kind, certificate.check_issued_by(issuer))?;
        in_certificate(kind, certificate.check_validity(now_unix))?;
        if kind != CertificateKind::Vcek {
            in_certificate(kind, certificate.check_authority())?;
        }
    }
    if !ask.is_named(&format!("SEV-{}", chip.product)) {
        return Err(refused(CertificateKind::Ask, CertificateFault::Product));
    }
    Ok(chip)
}

fn sent(evidence: &SnpEvidence, kind: CertificateKind) -> Option<&[u8]> {
    evidence
        .certificate(kind)
        .map(|Certificate { der, .. }| der.as_slice())
}

fn authority(
    evidence: &SnpEvidence,
    kind: CertificateKind,
    product: Product,
) -> Result<&[u8], Refusal> {
    sent(evidence, kind)
        .or_else(|| amd_certificate(product, kind))
        .ok_or(Refusal::MissingCertificate { kind })
}

fn parsed(kind: CertificateKind, der: &[u8]) -> Result<ParsedCertificate<'_>, Refusal> {
    in_certificate(kind, ParsedCertificate::from_der(der))
}

fn in_certificate<T>(
    kind: CertificateKind,
    result: Result<T, CertificateFault>,
) -> Result<T, Refusal> {
    result.map_err(|fault| refused(kind, fault))
}

fn refused(kind: CertificateKind, fault: CertificateFault) -> Refusal {
    Refusal::Certificate { kind, fault }
}
