//! The P-256 key that signs published folders (OpenSSF Model Signing takes no Ed25519).

use std::fmt;

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
        UnparsedPublicKey,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sealift_signed_document::{Digest, PublicKey};
use zeroize::Zeroizing;

/// DER of a SubjectPublicKeyInfo up to the point: id-ecPublicKey over prime256v1, 66 bits string
/// bytes (RFC 5480 section 2).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Bytes of an uncompressed point (SEC 1 section 2.3.3).
const POINT_BYTES: usize = 65;

const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----\n";
const PEM_END: &str = "-----END PUBLIC KEY-----\n";

/// Columns of base64 in PEM (RFC 7468 section 2).
const PEM_COLUMNS: usize = 64;

/// A key that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishKeyError {
    /// Not a P-256 private key.
    #[error("this is not a P-256 private key in PKCS#8; make one with `sealift init`")]
    Private,
    /// Not a P-256 public key.
    #[error("this is not a P-256 public key as SubjectPublicKeyInfo")]
    Public,
}

/// The private half. It has neither `Debug` nor a serialized form but PKCS#8.
pub struct PublishKey(EcdsaKeyPair);

impl PublishKey {
    /// Draws a new key.
    pub fn generate() -> Self {
        Self(
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
                .expect("the system's random generator does not fail once it is seeded"),
        )
    }

    /// Reads PKCS#8 (RFC 5958) DER as [`PublishKey::to_pkcs8`] writes it.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, PublishKeyError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map(Self)
            .map_err(|_| PublishKeyError::Private)
    }

    /// The key as PKCS#8 DER, for a secret file.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let document = self
            .0
            .to_pkcs8v1()
            .expect("a key pair made by this type always encodes");
        Zeroizing::new(document.as_ref().to_vec())
    }

    /// The public half.
    pub fn public(&self) -> PublishVerifyingKey {
        let der = self
            .0
            .public_key()
            .as_der()
            .expect("the key's own point always encodes");
        PublishVerifyingKey::from_spki_der(der.as_ref())
            .expect("a P-256 key encodes as RFC 5480 says")
    }

    /// Signs with ECDSA over SHA-256, as ASN.1 DER.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self
            .0
            .sign(&SystemRandom::new(), message)
            .expect("the system's random generator does not fail once it is seeded");
        signature.as_ref().to_vec()
    }
}

/// The public half; pinned by whoever opens what the owner published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublishVerifyingKey([u8; POINT_BYTES]);

impl PublishVerifyingKey {
    /// Reads a DER SubjectPublicKeyInfo with an uncompressed P-256 point.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, PublishKeyError> {
        let point: [u8; POINT_BYTES] = der
            .strip_prefix(&SPKI_PREFIX)
            .and_then(|point| point.try_into().ok())
            .ok_or(PublishKeyError::Public)?;
        // Whether the point lies on the curve is for aws-lc to say, at parsing.
        aws_lc_rs::signature::ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .map_err(|_| PublishKeyError::Public)?;
        Ok(Self(point))
    }

    /// The publish key of a delegation, which [`sealift_signed_document::DelegatedKey`] checked.
    pub fn from_delegated(key: &PublicKey) -> Result<Self, PublishKeyError> {
        match key {
            PublicKey::P256(der) => Self::from_spki_der(der),
            PublicKey::Ed25519(_) => Err(PublishKeyError::Public),
        }
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn to_spki_der(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.0].concat()
    }

    /// The SubjectPublicKeyInfo as PEM, for `model_signing verify key --public_key`.
    pub fn to_pem(&self) -> String {
        let base64 = STANDARD.encode(self.to_spki_der());
        let mut pem = PEM_BEGIN.to_owned();
        for line in base64.as_bytes().chunks(PEM_COLUMNS) {
            pem.extend(line.iter().map(|&b| char::from(b)));
            pem.push('\n');
        }
        pem + PEM_END
    }

    /// The name of the key in a bundle: SHA-256 of its PEM text.
    pub fn hint(&self) -> String {
        Digest::of(self.to_pem().as_bytes()).to_string()
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for PublishVerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublishVerifyingKey({})", self.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_forms() {
        let key = PublishKey::generate();
        let again = PublishKey::from_pkcs8(&key.to_pkcs8()).unwrap();
        let public = PublishVerifyingKey::from_spki_der(&key.public().to_spki_der()).unwrap();
        assert!(public.verifies(b"m", &again.sign(b"m")));
        assert!(!public.verifies(b"n", &again.sign(b"m")));
        assert!(
            !PublishKey::generate()
                .public()
                .verifies(b"m", &again.sign(b"m"))
        );
    }

    #[test]
    fn a_point_off_the_curve_and_other_encodings_are_refused() {
        let mut der = PublishKey::generate().public().to_spki_der();
        assert!(PublishVerifyingKey::from_spki_der(&der[1..]).is_err());
        *der.last_mut().unwrap() ^= 1;
        assert_eq!(
            PublishVerifyingKey::from_spki_der(&der),
            Err(PublishKeyError::Public)
        );
        assert!(PublishKey::from_pkcs8(&der).is_err());
    }

    #[test]
    fn a_header_key_is_no_publish_key() {
        let header = sealift_signed_document::SigningKey::generate().public();
        assert!(PublishVerifyingKey::from_delegated(&PublicKey::Ed25519(header)).is_err());
    }
}
