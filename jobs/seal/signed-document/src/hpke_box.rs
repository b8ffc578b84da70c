//! Secrets encrypted to a key: HPKE (RFC 9180), base mode, single shot, with
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM.
//!
//! A box says nothing about its sender: it always travels with a signed document, whose digest
//! is its associated data and whose type is its info string.

use base64::{Engine, engine::general_purpose::STANDARD};
use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256,
    kem::X25519HkdfSha256,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::{Digest, DocumentError};

type Kem = X25519HkdfSha256;

/// A private X25519 key that boxes are opened with; wiped when dropped, without `Debug` and
/// without a serialized form.
pub struct BoxSecret(<Kem as hpke::Kem>::PrivateKey);

impl BoxSecret {
    /// Draws a new key.
    pub fn generate() -> Self {
        Self(Kem::gen_keypair().0)
    }

    /// The half that senders need.
    pub fn public(&self) -> BoxPublic {
        BoxPublic(Kem::sk_to_pk(&self.0).to_bytes().into())
    }

    /// Opens a box that came with a document of `doc_type` whose envelope has the digest `aad`.
    pub fn open(
        &self,
        doc_type: &str,
        aad: &Digest,
        sealed: &SealedBox,
    ) -> Result<Zeroizing<Vec<u8>>, DocumentError> {
        let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(&sealed.encapsulated)
            .map_err(|_| DocumentError::BoxDoesNotOpen)?;
        hpke::single_shot_open::<AesGcm256, HkdfSha256, Kem>(
            &OpModeR::Base,
            &self.0,
            &encapsulated,
            info(doc_type).as_bytes(),
            &sealed.ciphertext,
            aad.as_bytes(),
        )
        .map(Zeroizing::new)
        .map_err(|_| DocumentError::BoxDoesNotOpen)
    }
}

/// A public X25519 key; written as standard base64 of its 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxPublic([u8; 32]);

impl BoxPublic {
    /// The 32 bytes of RFC 7748's encoding.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The RFC 7638 thumbprint of the key as an OKP JWK (RFC 8037).
    pub fn thumbprint(&self) -> crate::KeyId {
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let x = URL_SAFE_NO_PAD.encode(self.0);
        let jwk = format!(r#"{{"crv":"X25519","kty":"OKP","x":"{x}"}}"#);
        crate::KeyId(URL_SAFE_NO_PAD.encode(Digest::of(jwk.as_bytes()).as_bytes()))
    }
}

impl Serialize for BoxPublic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for BoxPublic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = STANDARD
            .decode(String::deserialize(deserializer)?)
            .map_err(de::Error::custom)?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| de::Error::custom("an X25519 key has 32 bytes"))
    }
}

/// An encapsulated key and what is encrypted under it (tag included).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBox {
    encapsulated: Vec<u8>,
    ciphertext: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedBoxText {
    enc: String,
    ciphertext: String,
}

impl Serialize for SealedBox {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SealedBoxText {
            enc: STANDARD.encode(&self.encapsulated),
            ciphertext: STANDARD.encode(&self.ciphertext),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SealedBox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SealedBoxText::deserialize(deserializer)?;
        Ok(Self {
            encapsulated: STANDARD.decode(text.enc).map_err(de::Error::custom)?,
            ciphertext: STANDARD
                .decode(text.ciphertext)
                .map_err(de::Error::custom)?,
        })
    }
}

/// Encrypts `plain` to `to`, for the document of `doc_type` whose envelope has the digest `aad`.
pub fn seal(
    to: &BoxPublic,
    doc_type: &str,
    aad: &Digest,
    plain: &[u8],
) -> Result<SealedBox, DocumentError> {
    let recipient =
        <Kem as hpke::Kem>::PublicKey::from_bytes(&to.0).map_err(|_| DocumentError::BadKey)?;
    let (encapsulated, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, Kem>(
        &OpModeS::Base,
        &recipient,
        info(doc_type).as_bytes(),
        plain,
        aad.as_bytes(),
    )
    .map_err(|_| DocumentError::BadKey)?;
    Ok(SealedBox {
        encapsulated: encapsulated.to_bytes().to_vec(),
        ciphertext,
    })
}

fn info(doc_type: &str) -> String {
    format!("sealift:v1:{doc_type}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_opens_only_with_its_key_type_and_document() {
        let key = BoxSecret::generate();
        let aad = Digest::of(b"document");
        let sealed = seal(&key.public(), "register.v1", &aad, b"secret").unwrap();
        assert_eq!(
            key.open("register.v1", &aad, &sealed).unwrap().as_slice(),
            b"secret"
        );
        assert!(key.open("unlock.v1", &aad, &sealed).is_err());
        assert!(
            key.open("register.v1", &Digest::of(b"other"), &sealed)
                .is_err()
        );
        assert!(
            BoxSecret::generate()
                .open("register.v1", &aad, &sealed)
                .is_err()
        );
        let mut changed = sealed.clone();
        changed.ciphertext[0] ^= 1;
        assert!(key.open("register.v1", &aad, &changed).is_err());
    }

    #[test]
    fn a_low_order_recipient_is_refused() {
        let sealed = seal(
            &BoxPublic([0; 32]),
            "register.v1",
            &Digest::of(b""),
            b"secret",
        );
        assert!(sealed.is_err());
    }

    #[test]
    fn a_box_survives_its_text() {
        let key = BoxSecret::generate();
        let aad = Digest::of(b"document");
        let sealed = seal(&key.public(), "register.v1", &aad, b"secret").unwrap();
        let text = serde_json::to_string(&sealed).unwrap();
        assert_eq!(serde_json::from_str::<SealedBox>(&text).unwrap(), sealed);
    }
}
