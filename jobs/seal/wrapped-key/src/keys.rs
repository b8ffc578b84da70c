//! All wrapped keys of a version, as they travel to the key manager and back when it is rotated.

use sealift_signed_document::Digest;

use crate::kek::{IV_BYTES, KEY_BYTES, Kek, TAG_BYTES, WrappedKey};

/// Most keys of one version: as many as it may have tensors.
pub const MAX_KEYS: usize = 65_536;

/// Bytes of one wrapped key.
const WRAPPED_BYTES: usize = KEY_BYTES + IV_BYTES + TAG_BYTES;

/// Bytes that are no list of wrapped keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes are no list of wrapped keys: each has 60, and a version has 1 to 65,536")]
pub struct WrappedKeysError(usize);

/// A key that is not under the KEK that it should be under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrapped key {0} is not under the version's KEK")]
pub struct RewrapError(usize);

/// The wrapped keys of a version, in an order that whoever made the list knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKeys(Vec<WrappedKey>);

impl WrappedKeys {
    /// Takes 1 to [`MAX_KEYS`] keys.
    ///
    /// # Errors
    /// [`WrappedKeysError`] for none or too many.
    pub fn new(keys: Vec<WrappedKey>) -> Result<Self, WrappedKeysError> {
        if (1..=MAX_KEYS).contains(&keys.len()) {
            Ok(Self(keys))
        } else {
            Err(WrappedKeysError(keys.len().saturating_mul(WRAPPED_BYTES)))
        }
    }

    /// Reads what [`WrappedKeys::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`WrappedKeysError`] for anything that has not whole keys, or too many.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WrappedKeysError> {
        let refused = WrappedKeysError(bytes.len());
        let (keys, rest) = bytes.as_chunks::<WRAPPED_BYTES>();
        if !rest.is_empty() || keys.len() > MAX_KEYS {
            return Err(refused);
        }
        let keys = keys
            .iter()
            .map(read)
            .collect::<Option<_>>()
            .ok_or(refused)?;
        Self::new(keys)
    }

    /// Per key: ciphertext (32) ‖ nonce (12) ‖ tag (16).
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = |key: &WrappedKey| [&key.ciphertext[..], &key.iv, &key.tag].concat();
        self.0.iter().flat_map(parts).collect()
    }

    /// SHA-256 of the byte form.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The keys, in order.
    pub fn keys(&self) -> &[WrappedKey] {
        &self.0
    }

    /// Every key under `next` instead of `kek`, in the same order.
    ///
    /// # Errors
    /// [`RewrapError`] names the first key that is not under `kek`.
    pub fn rewrap(&self, kek: &Kek, next: &Kek) -> Result<Self, RewrapError> {
        let rewrapped = self.0.iter().enumerate().map(|(at, wrapped)| {
            let key = kek.unwrap(wrapped).map_err(|_| RewrapError(at))?;
            Ok(next.wrap(&key))
        });
        rewrapped.collect::<Result<_, _>>().map(Self)
    }
}

fn read(bytes: &[u8; WRAPPED_BYTES]) -> Option<WrappedKey> {
    let (ciphertext, rest) = bytes.split_first_chunk()?;
    let (iv, tag) = rest.split_first_chunk()?;
    Some(WrappedKey {
        ciphertext: *ciphertext,
        iv: *iv,
        tag: tag.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sealift_signed_document::SecretBytes;

    use super::*;

    fn some(count: usize) -> (Kek, Vec<SecretBytes<32>>, WrappedKeys) {
        let kek = Kek::new(&SecretBytes::random());
        let keys: Vec<_> = (0..count).map(|_| SecretBytes::random()).collect();
        let wrapped = keys.iter().map(|key| kek.wrap(key)).collect();
        (kek, keys, WrappedKeys::new(wrapped).unwrap())
    }

    #[test]
    fn rewrapped_keys_are_the_same_keys_under_the_next_kek_alone() {
        let (kek, keys, wrapped) = some(3);
        let next = Kek::new(&SecretBytes::random());
        let rewrapped = wrapped.rewrap(&kek, &next).unwrap();
        for (key, wrapped) in keys.iter().zip(rewrapped.keys()) {
            assert!(next.unwrap(wrapped).unwrap() == *key);
            assert!(kek.unwrap(wrapped).is_err());
        }
        assert_eq!(rewrapped.keys().len(), 3);
    }

    #[test]
    fn a_key_under_another_kek_is_named() {
        let (kek, _, WrappedKeys(mut keys)) = some(3);
        keys[1] = some(1).2.0.remove(0);
        let next = Kek::new(&SecretBytes::random());
        let refused = WrappedKeys(keys).rewrap(&kek, &next);
        assert_eq!(refused, Err(RewrapError(1)));
    }

    #[test]
    fn a_list_has_one_to_65_536_whole_keys() {
        for bytes in [0, 1, 59, 61, (MAX_KEYS + 1) * WRAPPED_BYTES] {
            let refused = WrappedKeys::from_bytes(&vec![0; bytes]);
            assert_eq!(refused, Err(WrappedKeysError(bytes)));
        }
        let most = WrappedKeys::from_bytes(&vec![0; MAX_KEYS * WRAPPED_BYTES]).unwrap();
        assert_eq!(most.keys().len(), MAX_KEYS);
        assert!(WrappedKeys::new(Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn a_list_has_one_byte_form(bytes: Vec<u8>) {
            if let Ok(keys) = WrappedKeys::from_bytes(&bytes) {
                prop_assert_eq!(keys.to_bytes(), bytes);
            }
        }

        #[test]
        fn a_list_is_read_back(count in 1_usize..20) {
            let (_, _, wrapped) = some(count);
            let read = WrappedKeys::from_bytes(&wrapped.to_bytes());
            prop_assert_eq!(read.unwrap(), wrapped);
        }
    }
}
