//! A report with the certificates its attester knows.

use sealift_signed_document::Digest;

use crate::{Certificate, CertificateKind, ReportError, SnpReport};

/// Evidence of an SEV-SNP attester: a well-formed report and at most one certificate of each
/// kind. Nothing in it has been appraised.
///
/// Its serde form is the KBS `snp` evidence JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpEvidence {
    report: SnpReport,
    certificates: Vec<Certificate>,
}

impl SnpEvidence {
    /// Joins a report and certificates; two certificates of one kind are refused.
    pub fn new(report: SnpReport, certificates: Vec<Certificate>) -> Result<Self, EvidenceError> {
        for (index, certificate) in certificates.iter().enumerate() {
            if certificates[..index]
                .iter()
                .any(|earlier| earlier.kind == certificate.kind)
            {
                return Err(EvidenceError::RepeatedCertificate {
                    kind: certificate.kind,
                });
            }
        }
        Ok(Self {
            report,
            certificates,
        })
    }

    /// The report.
    pub fn report(&self) -> &SnpReport {
        &self.report
    }

    /// The certificate of `kind`, if the attester sent one.
    pub fn certificate(&self, kind: CertificateKind) -> Option<&Certificate> {
        self.certificates
            .iter()
            .find(|certificate| certificate.kind == kind)
    }

    /// All certificates, in the sender's order.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// What documents call `evidence_sha256`: SHA-256 of the report's 1184 bytes.
    ///
    /// Certificates are endorsements that anybody can fetch again, so they do not count.
    pub fn digest(&self) -> Digest {
        Digest::of(self.report.as_bytes())
    }
}

/// Why bytes are not evidence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// More than one certificate says that it has this role.
    #[error("the evidence has two {kind} certificates; send one")]
    RepeatedCertificate {
        /// The role.
        kind: CertificateKind,
    },
    /// Larger than any certificate of AMD's.
    #[error(
        "the {kind} certificate has {bytes} bytes, more than {}",
        crate::MAX_CERTIFICATE_BYTES
    )]
    CertificateTooLarge {
        /// Which one.
        kind: CertificateKind,
        /// Its size.
        bytes: usize,
    },
    /// Begins like PEM and is none.
    #[error("the {kind} certificate is not one PEM certificate; send DER or a single PEM block")]
    MalformedPem {
        /// Which one.
        kind: CertificateKind,
    },
    /// A `cert_type` with no meaning for a report.
    #[error("`cert_type` names {name:?}; only ARK, ASK, VCEK and VLEK belong to a report")]
    UnknownCertificateKind {
        /// What was sent.
        name: String,
    },
    /// Larger than any evidence can be.
    #[error(
        "the evidence has {bytes} bytes of JSON, more than {}",
        crate::MAX_KBS_JSON_BYTES
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not the KBS `snp` JSON.
    #[error("the evidence is not the KBS `snp` JSON")]
    Json(#[source] serde_json::Error),
    /// An array member has another length than the report's field.
    #[error("`{field}` has {found} bytes instead of {expected}")]
    FieldLength {
        /// The JSON member.
        field: &'static str,
        /// What the report holds.
        expected: usize,
        /// What was sent.
        found: usize,
    },
    /// A member that this report version or processor does not have, or lacks.
    #[error("`{field}` does not fit a version {version} report of this processor")]
    FieldPresence {
        /// The JSON member.
        field: &'static str,
        /// The report's version.
        version: u32,
    },
    /// The fields do not make a report.
    #[error("the evidence holds no valid report")]
    Report(#[source] ReportError),
}
