//! One key under a KEK.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
    rand,
};
use sealift_signed_document::SecretBytes;
use zeroize::Zeroizing;

/// Bytes of an AES-GCM nonce (NIST SP 800-38D section 8.2).
pub const IV_BYTES: usize = 12;

/// Bytes of an AES-GCM tag.
pub const TAG_BYTES: usize = 16;

/// Bytes of a data key.
pub const KEY_BYTES: usize = 32;

/// A key-encryption key, ready for use. It wraps the data keys of one version.
pub struct Kek(LessSafeKey);

/// A data key under the KEK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The encrypted key.
    pub ciphertext: [u8; KEY_BYTES],
    /// The nonce, fresh for every wrapping.
    pub iv: [u8; IV_BYTES],
    /// The authentication tag.
    pub tag: [u8; TAG_BYTES],
}

impl Kek {
    /// Takes a key that was drawn for this purpose alone.
    pub fn new(key: &SecretBytes<32>) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).expect("AES-256 takes 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Wraps a data key under a fresh nonce.
    pub fn wrap(&self, key: &SecretBytes<32>) -> WrappedKey {
        let mut iv = [0; IV_BYTES];
        rand::fill(&mut iv).expect("the system's random generator does not fail once it is seeded");
        // The copy becomes ciphertext in place.
        let mut ciphertext = *key.expose();
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(iv),
                Aad::empty(),
                &mut ciphertext,
            )
            .expect("a key is below AES-GCM's limit of 64 GiB");
        WrappedKey {
            ciphertext,
            iv,
            tag: tag
                .as_ref()
                .try_into()
                .expect("an AES-GCM tag has 16 bytes"),
        }
    }

    /// The data key, if it was wrapped under this KEK.
    ///
    /// # Errors
    /// [`Unspecified`] for a key under another KEK, or one that was changed.
    pub fn unwrap(&self, wrapped: &WrappedKey) -> Result<SecretBytes<32>, Unspecified> {
        let mut key = Zeroizing::new(wrapped.ciphertext);
        let nonce = Nonce::assume_unique_for_key(wrapped.iv);
        self.0
            .open_in_place_separate_tag(nonce, Aad::empty(), &wrapped.tag, &mut *key)?;
        SecretBytes::from_slice(key.as_slice()).ok_or(Unspecified)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_is_unwrapped_under_its_own_kek_alone() {
        let (kek, key) = (Kek::new(&SecretBytes::random()), SecretBytes::random());
        let wrapped = kek.wrap(&key);
        assert!(kek.unwrap(&wrapped).unwrap() == key);
        assert!(Kek::new(&SecretBytes::random()).unwrap(&wrapped).is_err());
    }

    #[test]
    fn no_nonce_is_drawn_twice() {
        let (kek, key) = (Kek::new(&SecretBytes::random()), SecretBytes::random());
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            assert!(seen.insert(kek.wrap(&key).iv));
        }
    }
}
