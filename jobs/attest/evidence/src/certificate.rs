//! Certificates that travel with a report.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::EvidenceError;

/// Largest certificate that is accepted; AMD's have less than 2 KiB.
pub const MAX_CERTIFICATE_BYTES: usize = 8 << 10;

/// What a certificate in the evidence claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateKind {
    /// AMD root key.
    Ark,
    /// AMD SEV signing key, between the root and the chip.
    Ask,
    /// Versioned chip endorsement key: signs reports.
    Vcek,
    /// Versioned loaded endorsement key: signs reports for a cloud provider, not for a chip.
    Vlek,
}

impl CertificateKind {
    /// The spelling in `cert_type` of the KBS evidence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ark => "ARK",
            Self::Ask => "ASK",
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Ark, Self::Ask, Self::Vcek, Self::Vlek]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl std::fmt::Display for CertificateKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One certificate, as the attester sent it; nothing about it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What the sender says it is.
    pub kind: CertificateKind,
    /// X.509 in DER.
    pub der: Vec<u8>,
}

impl Certificate {
    /// Takes DER or PEM bytes; attesters send either.
    pub(crate) fn from_der_or_pem(
        kind: CertificateKind,
        bytes: Vec<u8>,
    ) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_CERTIFICATE_BYTES {
            return Err(EvidenceError::CertificateTooLarge {
                kind,
                bytes: bytes.len(),
            });
        }
        let der = if bytes.starts_with(PEM_BEGIN) {
            der_of_pem(&bytes).ok_or(EvidenceError::MalformedPem { kind })?
        } else {
            bytes
        };
        Ok(Self { kind, der })
    }
}

const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// Reads exactly one certificate (RFC 7468), without text before or after it.
fn der_of_pem(pem: &[u8]) -> Option<Vec<u8>> {
    let body = std::str::from_utf8(pem.strip_prefix(PEM_BEGIN)?).ok()?;
    let base64 = body.trim_end().strip_suffix(PEM_END)?;
    let joined: String = base64
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .collect();
    STANDARD.decode(joined).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(der: &[u8]) -> Vec<u8> {
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n{PEM_END}\n",
            STANDARD.encode(der)
        )
        .into_bytes()
    }

    #[test]
    fn a_pem_certificate_becomes_its_der() {
        let certificate =
            Certificate::from_der_or_pem(CertificateKind::Ask, pem(&[0x30, 1, 2])).unwrap();
        assert_eq!(certificate.der, [0x30, 1, 2]);
    }

    #[test]
    fn two_certificates_in_one_pem_are_refused() {
        let mut two = pem(&[0x30, 1]);
        two.extend(pem(&[0x30, 2]));
        assert!(matches!(
            Certificate::from_der_or_pem(CertificateKind::Ask, two),
            Err(EvidenceError::MalformedPem {
                kind: CertificateKind::Ask
            })
        ));
    }

    #[test]
    fn an_oversized_certificate_is_refused() {
        assert!(matches!(
            Certificate::from_der_or_pem(CertificateKind::Vcek, vec![0; MAX_CERTIFICATE_BYTES + 1]),
            Err(EvidenceError::CertificateTooLarge { .. })
        ));
    }
}
