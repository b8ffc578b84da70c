//! Ed25519 keys (RFC 8032) and their names (RFC 7638).

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::{Digest, DocumentError};

/// An Ed25519 key that signs. It has neither `Debug` nor a serialized form but PKCS#8.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Draws a new key.
    pub fn generate() -> Self {
        Self(
            Ed25519KeyPair::generate()
                .expect("the system's random generator does not fail once it is seeded"),
        )
    }

    /// Reads PKCS#8 (RFC 5958) DER as [`SigningKey::to_pkcs8`] writes it.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, DocumentError> {
        Ed25519KeyPair::from_pkcs8(der)
            .map(Self)
            .map_err(|_| DocumentError::BadKey)
    }

    /// The key as PKCS#8 version 2 DER, for a secret file.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let document = self
            .0
            .to_pkcs8()
            .expect("a key pair made by this type always encodes");
        Zeroizing::new(document.as_ref().to_vec())
    }

    /// The public half.
    pub fn public(&self) -> VerifyingKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        VerifyingKey(bytes)
    }

    /// Signs bytes that are not a document, such as a safetensors header.
    pub fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.0.sign(message).as_ref());
        bytes
    }
}

/// An Ed25519 public key; written as standard base64 of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Takes the 32 bytes of RFC 8032's encoding.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The RFC 7638 thumbprint of the key as an OKP JWK (RFC 8037): SHA-256 of its canonical form.
    pub fn thumbprint(&self) -> KeyId {
        let x = URL_SAFE_NO_PAD.encode(self.0);
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        KeyId(URL_SAFE_NO_PAD.encode(Digest::of(jwk.as_bytes()).as_bytes()))
    }

    /// Checks a signature over bytes that are not a document.
    pub fn verify_raw(&self, message: &[u8], signature: &[u8]) -> Result<(), DocumentError> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .map_err(|_| DocumentError::BadSignature)
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

impl std::str::FromStr for VerifyingKey {
    type Err = DocumentError;

    fn from_str(text: &str) -> Result<Self, DocumentError> {
        let bytes = STANDARD.decode(text).map_err(|_| DocumentError::BadKey)?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| DocumentError::BadKey)
    }
}

impl Serialize for VerifyingKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerifyingKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The name of a key: its RFC 7638 thumbprint, base64url without padding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub(crate) String);

impl KeyId {
    /// The thumbprint's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037 appendix A.3 gives this key and its thumbprint.
    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        let x = URL_SAFE_NO_PAD
            .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            .unwrap();
        let key = VerifyingKey::from_bytes(x.try_into().unwrap());
        assert_eq!(
            key.thumbprint().as_str(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn a_key_survives_its_file_form() {
        let key = SigningKey::generate();
        let again = SigningKey::from_pkcs8(&key.to_pkcs8()).unwrap();
        assert_eq!(again.public(), key.public());
        again
            .public()
            .verify_raw(b"m", &key.sign_raw(b"m"))
            .unwrap();
    }

    #[test]
    fn a_signature_over_other_bytes_is_refused() {
        let key = SigningKey::generate();
        let signature = key.sign_raw(b"m");
        assert!(key.public().verify_raw(b"n", &signature).is_err());
        assert!(
            SigningKey::generate()
                .public()
                .verify_raw(b"m", &signature)
                .is_err()
        );
        assert!(key.public().verify_raw(b"m", &signature[..63]).is_err());
    }
}
