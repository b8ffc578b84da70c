//! JWE in flattened JSON form (RFC 7516 section 7.2.2) with ECDH-ES+A256KW (RFC 7518 section 4.6)
//! and A256GCM: how the KBS protocol delivers a resource to a guest's key.
//!
//! A JWE says nothing about its sender.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    key_wrap::{AES_256, AesKek, KeyWrap as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sealift_signed_document::{DigestWriter, SecretBytes};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{TeeKey, TeePublicKey};

const ALGORITHM: &str = "ECDH-ES+A256KW";
const ENCRYPTION: &str = "A256GCM";
/// A wrapped 256-bit key: RFC 3394 adds one 64-bit block.
const WRAPPED_KEY_BYTES: usize = 40;
const TAG_BYTES: usize = 16;

/// Why a JWE was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JweError {
    /// Not base64url, or not of the length that the algorithm has.
    #[error("the JWE's `{0}` is malformed")]
    Malformed(&'static str),
    /// Another algorithm, or header members beyond `alg`, `enc` and `epk`.
    #[error("the JWE does not use ECDH-ES+A256KW with A256GCM and P-256, and nothing else")]
    OtherAlgorithm,
    /// The key does not fit, or something was changed.
    #[error("the JWE was not made for this key, or was changed on its way")]
    DoesNotOpen,
}

/// An encrypted resource; every member is base64url without padding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwe {
    /// The protected header: JSON of `alg`, `enc` and `epk`, in this order and without spaces.
    pub protected: String,
    /// The content key, wrapped.
    pub encrypted_key: String,
    /// 96 bits.
    pub iv: String,
    /// The encrypted content.
    pub ciphertext: String,
    /// 128 bits.
    pub tag: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Protected {
    alg: String,
    enc: String,
    epk: EphemeralKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EphemeralKey {
    crv: String,
    kty: String,
    x: String,
    y: String,
}

/// Encrypts `plain` so that only the holder of `to` reads it.
pub fn seal(to: &TeePublicKey, plain: &[u8]) -> Result<Jwe, JweError> {
    let ephemeral = TeeKey::generate();
    let shared = ephemeral.agree(to).map_err(|_| JweError::DoesNotOpen)?;
    let content_key = SecretBytes::<32>::random();
    let mut wrapped = [0; WRAPPED_KEY_BYTES];
    key_encryption_key(&shared)?
        .wrap(content_key.expose(), &mut wrapped)
        .map_err(|_| JweError::DoesNotOpen)?;
    let protected = URL_SAFE_NO_PAD.encode(protected_header(ephemeral.public()));
    let iv = *SecretBytes::<12>::random().expose();
    let mut ciphertext = plain.to_vec();
    let tag = content_cipher(&content_key)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(iv),
            Aad::from(protected.as_bytes()),
            &mut ciphertext,
        )
        .map_err(|_| JweError::DoesNotOpen)?;
    Ok(Jwe {
        encrypted_key: URL_SAFE_NO_PAD.encode(wrapped),
        iv: URL_SAFE_NO_PAD.encode(iv),
        ciphertext: URL_SAFE_NO_PAD.encode(ciphertext),
        tag: URL_SAFE_NO_PAD.encode(tag),
        protected,
    })
}

/// Opens what was encrypted to `key`.
pub fn open(key: &TeeKey, jwe: &Jwe) -> Result<Zeroizing<Vec<u8>>, JweError> {
    let shared = key
        .agree(&sender(&jwe.protected)?)
        .map_err(|_| JweError::DoesNotOpen)?;
    let wrapped: [u8; WRAPPED_KEY_BYTES] = fixed("encrypted_key", &jwe.encrypted_key)?;
    let iv = fixed("iv", &jwe.iv)?;
    let tag: [u8; TAG_BYTES] = fixed("tag", &jwe.tag)?;
    let mut content_key = Zeroizing::new([0; 32]);
    key_encryption_key(&shared)?
        .unwrap(&wrapped, content_key.as_mut_slice())
        .map_err(|_| JweError::DoesNotOpen)?;
    let content_key = SecretBytes::from_bytes(*content_key);
    let mut content = Zeroizing::new(decode("ciphertext", &jwe.ciphertext)?);
    content.extend_from_slice(&tag);
    // The associated data is the received text, never a header that was written again.
    let opened = content_cipher(&content_key)?
        .open_in_place(
            Nonce::assume_unique_for_key(iv),
            Aad::from(jwe.protected.as_bytes()),
            &mut content,
        )
        .map_err(|_| JweError::DoesNotOpen)?
        .len();
    content.truncate(opened);
    Ok(content)
}

/// The reference client authenticates its own re-serialisation of this header, so its bytes are
/// fixed: this order of members, no spaces.
fn protected_header(ephemeral: &TeePublicKey) -> String {
    let (x, y) = ephemeral.coordinates();
    format!(
        r#"{{"alg":"{ALGORITHM}","enc":"{ENCRYPTION}","epk":{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}}}"#
    )
}

fn sender(protected: &str) -> Result<TeePublicKey, JweError> {
    let header: Protected = serde_json::from_slice(&decode("protected", protected)?)
        .map_err(|_| JweError::OtherAlgorithm)?;
    let EphemeralKey { crv, kty, x, y } = &header.epk;
    let kinds = [
        header.alg.as_str(),
        header.enc.as_str(),
        crv.as_str(),
        kty.as_str(),
    ];
    if kinds != [ALGORITHM, ENCRYPTION, "P-256", "EC"] {
        return Err(JweError::OtherAlgorithm);
    }
    TeePublicKey::parse_coordinates(x, y).map_err(|_| JweError::Malformed("epk"))
}

fn key_encryption_key(shared: &[u8; 32]) -> Result<AesKek, JweError> {
    let key = concat_kdf(shared, ALGORITHM, &[], &[]);
    AesKek::new(&AES_256, key.expose()).map_err(|_| JweError::DoesNotOpen)
}

/// Concat KDF of NIST SP 800-56A section 5.8.1 as RFC 7518 section 4.6.2 uses it, for one
/// SHA-256 block of output.
fn concat_kdf(shared: &[u8], algorithm: &str, party_u: &[u8], party_v: &[u8]) -> SecretBytes<32> {
    let mut hash = DigestWriter::new();
    hash.update(&1_u32.to_be_bytes());
    hash.update(shared);
    for field in [algorithm.as_bytes(), party_u, party_v] {
        hash.update(&(field.len() as u32).to_be_bytes());
        hash.update(field);
    }
    hash.update(&256_u32.to_be_bytes());
    SecretBytes::from_bytes(*hash.finish().as_bytes())
}

fn content_cipher(key: &SecretBytes<32>) -> Result<LessSafeKey, JweError> {
    let key = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| JweError::DoesNotOpen)?;
    Ok(LessSafeKey::new(key))
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, JweError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| JweError::Malformed(member))
}

fn fixed<const N: usize>(member: &'static str, text: &str) -> Result<[u8; N], JweError> {
    decode(member, text)?
        .try_into()
        .map_err(|_| JweError::Malformed(member))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_key_it_was_made_for_opens_a_jwe() {
        let key = TeeKey::generate();
        let jwe = seal(key.public(), b"resource").unwrap();
        assert_eq!(open(&key, &jwe).unwrap().as_slice(), b"resource");
        assert_eq!(
            open(&TeeKey::generate(), &jwe).err(),
            Some(JweError::DoesNotOpen)
        );
    }

    #[test]
    fn the_protected_header_has_the_one_byte_form_that_stock_clients_authenticate() {
        let key = TeeKey::generate();
        let jwe = seal(key.public(), b"").unwrap();
        let header = URL_SAFE_NO_PAD.decode(&jwe.protected).unwrap();
        let text = String::from_utf8(header).unwrap();
        let start =
            r#"{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-256","kty":"EC","x":""#;
        assert!(text.starts_with(start), "{text}");
        assert_eq!(
            text.len(),
            start.len() + 43 + r#"","y":""#.len() + 43 + r#""}}"#.len()
        );
    }

    #[test]
    fn a_header_in_another_spelling_or_with_another_algorithm_is_refused() {
        let key = TeeKey::generate();
        let jwe = seal(key.public(), b"resource").unwrap();
        let header = String::from_utf8(URL_SAFE_NO_PAD.decode(&jwe.protected).unwrap()).unwrap();
        for (from, to, expected) in [
            (r#"{"alg""#, r#"{ "alg""#, JweError::DoesNotOpen),
            ("ECDH-ES+A256KW", "ECDH-ES+A128KW", JweError::OtherAlgorithm),
            ("A256GCM", "A128GCM", JweError::OtherAlgorithm),
            (r#""epk""#, r#""kid":"1","epk""#, JweError::OtherAlgorithm),
        ] {
            let protected = URL_SAFE_NO_PAD.encode(header.replacen(from, to, 1));
            let changed = Jwe {
                protected,
                ..jwe.clone()
            };
            assert_eq!(open(&key, &changed).err(), Some(expected), "{to}");
        }
    }

    #[test]
    fn an_unknown_member_is_refused() {
        let mut json =
            serde_json::to_value(seal(TeeKey::generate().public(), b"").unwrap()).unwrap();
        json["aad"] = "".into();
        assert!(serde_json::from_value::<Jwe>(json).is_err());
    }

    /// RFC 7518 appendix C, except that its algorithm is A128GCM, whose 128-bit key is cut from
    /// the same hash with another length field; so the expected value was computed from the
    /// appendix's inputs with Python's `hashlib` for 256 bits.
    #[test]
    fn the_concat_kdf_hashes_the_fields_of_rfc_7518() {
        let shared = [
            158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49,
            110, 163, 218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196,
        ];
        let key = concat_kdf(&shared, "A128GCM", b"Alice", b"Bob");
        let mut preimage = vec![0, 0, 0, 1];
        preimage.extend_from_slice(&shared);
        preimage.extend_from_slice(b"\0\0\0\x07A128GCM\0\0\0\x05Alice\0\0\0\x03Bob\0\0\x01\0");
        assert_eq!(
            key.expose(),
            sealift_signed_document::Digest::of(&preimage).as_bytes()
        );
    }

    proptest! {
        #[test]
        fn no_member_can_be_changed(position in 0_usize..1000, member in 0_usize..5) {
            let key = TeeKey::generate();
            let mut jwe = seal(key.public(), b"resource").unwrap();
            let text = match member {
                0 => &mut jwe.protected,
                1 => &mut jwe.encrypted_key,
                2 => &mut jwe.iv,
                3 => &mut jwe.ciphertext,
                _ => &mut jwe.tag,
            };
            let position = position % text.len();
            let other = if text.as_bytes()[position] == b'A' { "B" } else { "A" };
            text.replace_range(position..=position, other);
            prop_assert!(open(&key, &jwe).is_err());
        }
    }
}
