//! One X.509 certificate of AMD's kind: RSASSA-PSS with SHA-384.

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use der::{
    Decode, Encode, Reader, SliceReader,
    oid::{AssociatedOid, ObjectIdentifier},
};
use x509_cert::{
    Certificate,
    ext::pkix::{BasicConstraints, KeyUsage},
    name::Name,
};

use crate::CertificateFault;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// RSASSA-PSS-params (RFC 4055) in the two spellings that AMD uses: SHA-384, MGF1 with SHA-384,
/// salt 48; older certificates also write out the trailer field, whose default it is.
const PSS_SHA384_PARAMETERS: [&[u8]; 2] = [&PSS_WITH_TRAILER, &PSS_WITHOUT_TRAILER];

const PSS_WITH_TRAILER: [u8; 59] = [
    0x30, 0x39, 0xA0, 0x0F, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
    0x02, 0x05, 0x00, 0xA1, 0x1C, 0x30, 0x1A, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01,
    0x01, 0x08, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, 0xA2, 0x03, 0x02, 0x01, 0x30, 0xA3, 0x03, 0x02, 0x01, 0x01,
];

const PSS_WITHOUT_TRAILER: [u8; 54] = [
    0x30, 0x34, 0xA0, 0x0F, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
    0x02, 0x05, 0x00, 0xA1, 0x1C, 0x30, 0x1A, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01,
    0x01, 0x08, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, 0xA2, 0x03, 0x02, 0x01, 0x30,
];

/// A parsed certificate with the bytes that its issuer signed, as received.
pub(crate) struct ParsedCertificate<'a> {
    x509: Certificate,
    signed: &'a [u8],
}

impl<'a> ParsedCertificate<'a> {
    /// Parses a certificate whose signature algorithm and critical extensions are understood.
    pub(crate) fn from_der(der: &'a [u8]) -> Result<Self, CertificateFault> {
        let x509 = Certificate::from_der(der).map_err(|_| CertificateFault::Malformed)?;
        let signed = signed_part(der).map_err(|_| CertificateFault::Malformed)?;
        let outer = &x509.signature_algorithm;
        let parameters = outer.parameters.as_ref().and_then(|any| any.to_der().ok());
        let known = parameters.is_some_and(|der| PSS_SHA384_PARAMETERS.contains(&der.as_slice()));
        if outer.oid != RSASSA_PSS || !known || x509.tbs_certificate.signature != *outer {
            return Err(CertificateFault::Algorithm);
        }
        let understood = [BasicConstraints::OID, KeyUsage::OID];
        let extensions = x509.tbs_certificate.extensions.iter().flatten();
        if extensions
            .clone()
            .any(|one| one.critical && !understood.contains(&one.extn_id))
        {
            return Err(CertificateFault::CriticalExtension);
        }
        Ok(Self { x509, signed })
    }

    /// Checks that this certificate is a certificate authority.
    pub(crate) fn check_authority(&self) -> Result<(), CertificateFault> {
        let tbs = &self.x509.tbs_certificate;
        let is_ca =
            matches!(tbs.get::<BasicConstraints>(), Ok(Some((_, constraints))) if constraints.ca);
        let signs = matches!(tbs.get::<KeyUsage>(), Ok(Some((_, usage))) if usage.key_cert_sign());
        if is_ca && signs {
            Ok(())
        } else {
            Err(CertificateFault::NotAuthority)
        }
    }

    /// Checks that `issuer` issued and signed this certificate.
    pub(crate) fn check_issued_by(
        &self,
        issuer: &ParsedCertificate<'_>,
    ) -> Result<(), CertificateFault> {
        let (own, above) = (&self.x509.tbs_certificate, &issuer.x509.tbs_certificate);
        if own.issuer != above.subject {
            return Err(CertificateFault::Issuer);
        }
        let key = above
            .subject_public_key_info
            .to_der()
            .map_err(|_| CertificateFault::Malformed)?;
        // None when the string claims unused bits: a second spelling of the same signature.
        let signature = self
            .x509
            .signature
            .as_bytes()
            .ok_or(CertificateFault::Malformed)?;
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key)
            .verify(self.signed, signature)
            .map_err(|_| CertificateFault::Signature)
    }

    /// Checks that the certificate is valid at `now_unix`.
    pub(crate) fn check_validity(&self, now_unix: u64) -> Result<(), CertificateFault> {
        let validity = &self.x509.tbs_certificate.validity;
        if now_unix < validity.not_before.to_unix_duration().as_secs() {
            Err(CertificateFault::NotYetValid)
        } else if now_unix > validity.not_after.to_unix_duration().as_secs() {
            Err(CertificateFault::Expired)
        } else {
            Ok(())
        }
    }

    pub(crate) fn x509(&self) -> &Certificate {
        &self.x509
    }

    /// Whether the subject has exactly one common name, which is `name`.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        common_names(&self.x509.tbs_certificate.subject).eq([name.as_bytes()])
    }
}

fn common_names(name: &Name) -> impl Iterator<Item = &[u8]> {
    name.0
        .iter()
        .flat_map(|relative| relative.0.iter())
        .filter(|attribute| attribute.oid == COMMON_NAME)
        .map(|attribute| attribute.value.value())
}

/// The TBSCertificate as received: re-encoding could repair what the issuer never signed.
fn signed_part(der: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(der)?;
    reader.sequence(|inside| {
        let signed = inside.tlv_bytes()?;
        inside.tlv_bytes()?;
        inside.tlv_bytes()?;
        Ok(signed)
    })
}
