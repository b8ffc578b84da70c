//! Why evidence is not accepted.

use sealift_evidence::{Assurance, CertificateKind, Measurement, Product, TcbVersion};
use sealift_signed_document::Digest;

/// Why evidence was refused. The variants stand in the order of the checks: a refusal says that
/// everything above it held, but for [`Self::Certificate`], whose faults of form are found before
/// the anchor is compared and the others after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The policy asks for fields that only newer reports have.
    #[error("the report has version {version}, the policy asks for {minimum}; update the firmware")]
    ReportVersionTooOld {
        /// Of the report.
        version: u32,
        /// Of the policy.
        minimum: u32,
    },
    /// Not ECDSA P-384 with SHA-384.
    #[error("the report names signature algorithm {algorithm}; only 1 (ECDSA P-384) is known")]
    SignatureAlgorithm {
        /// What the report names.
        algorithm: u32,
    },
    /// Signed by a provider's key, or by none: the report then names no chip.
    #[error("the report is not signed by a chip's own key (VCEK); choose a host that uses VCEK")]
    NotSignedByChip,
    /// The chain has a hole that nothing built in fills.
    #[error("the evidence lacks the {kind} certificate; fetch it and send it with the report")]
    MissingCertificate {
        /// Which one.
        kind: CertificateKind,
    },
    /// The chain ends in a root that nobody pinned.
    #[error("the chain ends in root {fingerprint}, which is not among the trusted anchors")]
    UnknownAnchor {
        /// SHA-256 of the root certificate.
        fingerprint: Digest,
    },
    /// A certificate is unusable or does not fit into the chain.
    #[error("the {kind} certificate is refused: {fault}")]
    Certificate {
        /// Which one.
        kind: CertificateKind,
        /// What is wrong with it.
        fault: CertificateFault,
    },
    /// Report and certificates are of different processor families.
    #[error("the report is by a {report} processor, its VCEK by a {certificate} one")]
    OtherProduct {
        /// By the report's CPUID fields.
        report: Product,
        /// By the certificate.
        certificate: Product,
    },
    /// The VCEK was derived from another TCB than the report says.
    #[error("the report says TCB {report}, its VCEK is for {certificate}; fetch the VCEK again")]
    OtherTcb {
        /// `reported_tcb`.
        report: TcbVersion,
        /// By the certificate's extensions.
        certificate: TcbVersion,
    },
    /// The VCEK belongs to another chip.
    #[error("the VCEK's hardware id is not the report's chip id; fetch the VCEK of this chip")]
    OtherChip,
    /// Not signed by this VCEK, or changed since.
    #[error("the VCEK does not verify the report's signature")]
    ReportSignature,
    /// A replay, an answer to somebody else, or other keys.
    #[error("the report does not bind what it was asked for: nonce or keys differ")]
    ReportData,
    /// Started with other init-data.
    #[error("the guest was not started with the expected init-data")]
    HostData,
    /// Asked for from a privilege level that does not own the guest.
    #[error("the report is for privilege level {found}, not {expected}")]
    Vmpl {
        /// Of the report.
        found: u32,
        /// Of the policy.
        expected: u32,
    },
    /// The host can read the guest's memory.
    #[error("the guest's policy allows the host to debug it; start it without DEBUG")]
    DebugAllowed,
    /// A migration agent can hold the guest's keys.
    #[error("the guest's policy allows a migration agent; start it without MIGRATE_MA")]
    MigrationAgentAllowed,
    /// Sibling threads can run beside the guest.
    #[error("the guest's policy allows SMT; start it without, or allow it in the appraisal policy")]
    SmtAllowed,
    /// The policy says nothing about this processor, so it is not trusted.
    #[error("the appraisal policy has no minimum TCB for {product}; add one to trust it")]
    NoMinimumTcb {
        /// Of the VCEK.
        product: Product,
    },
    /// Known-vulnerable firmware or microcode.
    #[error("the platform's TCB is {found}, the policy asks for at least {minimum}")]
    TcbTooOld {
        /// `reported_tcb`.
        found: TcbVersion,
        /// Of the policy.
        minimum: TcbVersion,
    },
    /// The root that verified the chain vouches for too little.
    #[error("the evidence has assurance `{found}`, the policy asks for `{minimum}`")]
    AssuranceTooLow {
        /// By the anchor.
        found: Assurance,
        /// Of the policy.
        minimum: Assurance,
    },
    /// Nothing is trusted.
    #[error("the list of reference values is empty and trusts nobody")]
    NoReferenceValues,
    /// The guest runs something that no reference value names.
    #[error("no reference value names launch measurement {measurement}; was the image rebuilt?")]
    UnknownMeasurement {
        /// Of the report.
        measurement: Measurement,
    },
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// Not an X.509 certificate, or not in DER.
    #[error("it cannot be parsed")]
    Malformed,
    /// A signature algorithm other than RSASSA-PSS with SHA-384.
    #[error("it is not signed with RSASSA-PSS, SHA-384 and a 48-byte salt")]
    Algorithm,
    /// An extension that must be understood is not.
    #[error("it has a critical extension that is not understood")]
    CriticalExtension,
    /// Signs others without being a certificate authority.
    #[error("it is no certificate authority")]
    NotAuthority,
    /// Its issuer is not the subject above it.
    #[error("it names another issuer")]
    Issuer,
    /// The key above it did not sign it.
    #[error("its issuer's key does not verify its signature")]
    Signature,
    /// The time lies before it.
    #[error("it is not yet valid")]
    NotYetValid,
    /// The time lies after it.
    #[error("it has expired")]
    Expired,
    /// A chip certificate without its AMD extensions, or with contradicting ones.
    #[error("its AMD extensions are missing or malformed")]
    Extensions,
    /// The signing certificate is not for this processor family.
    #[error("it is for another processor family than the chip's certificate")]
    Product,
}
