//! What AMD certifies about a chip: the extensions of a VCEK ("Versioned Chip Endorsement Key
//! (VCEK) Certificate and KDS Interface Specification", revision 0.51, table 8).

use der::{Decode, asn1::Ia5StringRef, oid::ObjectIdentifier};
use sealift_evidence::{Product, TcbVersion};
use x509_cert::ext::Extension;

use crate::{CertificateFault, certificate::ParsedCertificate};

const PRODUCT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
const BOOTLOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// What a VCEK certificate says about the chip that holds its key.
pub(crate) struct ChipIdentity {
    pub(crate) product: Product,
    pub(crate) tcb: TcbVersion,
    /// 64 bytes; Turin has 8.
    pub(crate) hwid: Vec<u8>,
    /// Uncompressed P-384 point.
    pub(crate) public_key: Vec<u8>,
}

impl ChipIdentity {
    /// Reads the extensions and the key.
    pub(crate) fn of(certificate: &ParsedCertificate<'_>) -> Result<Self, CertificateFault> {
        let tbs = &certificate.x509().tbs_certificate;
        let extensions = tbs.extensions.as_deref().unwrap_or_default();
        Self::read(extensions, certificate).ok_or(CertificateFault::Extensions)
    }

    fn read(extensions: &[Extension], certificate: &ParsedCertificate<'_>) -> Option<Self> {
        let product = product(extension(extensions, PRODUCT_NAME)?)?;
        let svn = |oid| u8::from_der(extension(extensions, oid)?).ok();
        let fmc = match product {
            Product::Turin => Some(svn(FMC)?),
            Product::Milan | Product::Genoa => None,
        };
        let tcb = TcbVersion {
            fmc,
            bootloader: svn(BOOTLOADER)?,
            tee: svn(TEE)?,
            snp: svn(SNP)?,
            microcode: svn(MICROCODE)?,
        };
        let hwid = hwid(extension(extensions, HWID)?, product)?;
        Some(Self {
            product,
            tcb,
            hwid,
            public_key: p384_point(certificate)?,
        })
    }

    /// Whether `chip_id` of a report names this chip.
    pub(crate) fn is_chip(&self, chip_id: &[u8; 64]) -> bool {
        let (id, rest) = chip_id.split_at(self.hwid.len());
        // All zero is what a host writes that hides the chip.
        id == self.hwid && id.iter().any(|byte| *byte != 0) && rest.iter().all(|byte| *byte == 0)
    }
}

/// The value of the one extension with this id.
fn extension(extensions: &[Extension], oid: ObjectIdentifier) -> Option<&[u8]> {
    let mut matching = extensions.iter().filter(|one| one.extn_id == oid);
    let found = matching.next()?;
    matching
        .next()
        .is_none()
        .then(|| found.extn_value.as_bytes())
}

/// The family of a product name such as "Milan-B0" or "Turin".
fn product(der: &[u8]) -> Option<Product> {
    let name = Ia5StringRef::from_der(der).ok()?;
    let family = name.as_str().split('-').next()?;
    [Product::Milan, Product::Genoa, Product::Turin]
        .into_iter()
        .find(|one| one.name() == family)
}

/// The hardware id: older certificates hold it bare, newer ones as an OCTET STRING.
fn hwid(value: &[u8], product: Product) -> Option<Vec<u8>> {
    let length = product.hwid_bytes();
    let bare = match value {
        [0x04, announced, inner @ ..]
            if usize::from(*announced) == length && inner.len() == length =>
        {
            inner
        }
        bare => bare,
    };
    (bare.len() == length).then(|| bare.to_vec())
}

fn p384_point(certificate: &ParsedCertificate<'_>) -> Option<Vec<u8>> {
    let key = &certificate.x509().tbs_certificate.subject_public_key_info;
    let curve: ObjectIdentifier = key.algorithm.parameters.as_ref()?.decode_as().ok()?;
    let point = key.subject_public_key.as_bytes()?;
    (key.algorithm.oid == EC_PUBLIC_KEY && curve == SECP384R1).then(|| point.to_vec())
}
