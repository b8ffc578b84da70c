//! A P-256 key and the self-signed certificate around it.

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use aws_lc_rs::{encoding::AsDer as _, rand::SystemRandom};
use rcgen::{CertificateParams, DnType, PublicKeyData, SignatureAlgorithm};
use rustls::{crypto::aws_lc_rs::sign::any_ecdsa_type, sign::CertifiedKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sealift_signed_document::Digest;
use zeroize::Zeroizing;

use crate::peer::spki_sha256;

/// Why a TLS identity could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The bytes are no P-256 key.
    #[error("this is not a P-256 private key in PKCS#8 form")]
    BadKey,
    /// No certificate could be made for the key.
    #[error("no certificate can be made for the TLS key")]
    Certificate(#[source] rcgen::Error),
    /// The certificate does not parse.
    #[error("the TLS library refuses the certificate")]
    Tls(#[source] rustls::Error),
}

/// A server's TLS key and certificate: no `Debug`, and no form at rest but
/// [`TlsIdentity::to_pkcs8`].
pub struct TlsIdentity {
    pkcs8: Zeroizing<Vec<u8>>,
    certified: Arc<CertifiedKey>,
    spki_sha256: Digest,
}

impl TlsIdentity {
    /// Draws a new key; the certificate names nobody.
    pub fn generate() -> Result<Self, IdentityError> {
        Self::generate_for(&[])
    }

    /// Draws a new key; the certificate names `names` (DNS names and IP addresses) for clients
    /// that do not pin the key.
    pub fn generate_for(names: &[String]) -> Result<Self, IdentityError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| IdentityError::BadKey)?;
        Self::from_pkcs8_for(document.as_ref(), names)
    }

    /// Takes up a key again; the certificate around it is made anew and names nobody.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, IdentityError> {
        Self::from_pkcs8_for(der, &[])
    }

    /// Takes up a key again, in a certificate for `names`.
    pub fn from_pkcs8_for(der: &[u8], names: &[String]) -> Result<Self, IdentityError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map_err(|_| IdentityError::BadKey)?;
        // Proves that the key encodes, before a certificate names it.
        pair.public_key()
            .as_der()
            .map_err(|_| IdentityError::BadKey)?;
        let mut params =
            CertificateParams::new(names.to_vec()).map_err(IdentityError::Certificate)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "sealift");
        let certificate = params
            .self_signed(&CertificateKey(pair))
            .map_err(IdentityError::Certificate)?;
        let key = any_ecdsa_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)))
            .map_err(IdentityError::Tls)?;
        let spki_sha256 = spki_sha256(certificate.der()).map_err(IdentityError::Tls)?;
        Ok(Self {
            pkcs8: Zeroizing::new(der.to_vec()),
            certified: Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)),
            spki_sha256,
        })
    }

    /// The key as PKCS#8 DER, for an encrypted record.
    pub fn to_pkcs8(&self) -> &Zeroizing<Vec<u8>> {
        &self.pkcs8
    }

    /// SHA-256 of the DER SubjectPublicKeyInfo: what clients pin and evidence names.
    pub fn spki_sha256(&self) -> Digest {
        self.spki_sha256
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// Lets rcgen sign without a copy of the private key's bytes of its own.
struct CertificateKey(EcdsaKeyPair);

impl PublicKeyData for CertificateKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for CertificateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| rcgen::Error::RingUnspecified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_taken_up_again_has_the_same_digest() {
        let first = TlsIdentity::generate().unwrap();
        let again = TlsIdentity::from_pkcs8(first.to_pkcs8()).unwrap();
        assert_eq!(first.spki_sha256(), again.spki_sha256());
        assert_ne!(
            first.spki_sha256(),
            TlsIdentity::generate().unwrap().spki_sha256()
        );
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        assert!(matches!(
            TlsIdentity::from_pkcs8(b"key"),
            Err(IdentityError::BadKey)
        ));
    }
}
