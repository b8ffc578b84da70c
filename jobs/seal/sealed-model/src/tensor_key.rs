//! The keys of sealed tensors: one per tensor and attempt, wrapped under the version's KEK.

use std::sync::Arc;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
    rand,
};
use sealift_signed_document::{Digest, SecretBytes, named_hash};
pub(crate) use sealift_wrapped_key::{IV_BYTES, Kek, TAG_BYTES, WrappedKey};

/// Most chunks of one tensor. [`TensorSealer`] draws counters below 2^31, so that this many
/// steps cannot wrap 32 bits.
pub(crate) const CHUNKS_MAX: u64 = 1 << 31;

/// Gives out the nonces of one tensor, in order, under a key that no other tensor or attempt has.
///
/// The key is drawn inside and never leaves but wrapped; every nonce leaves once, in a
/// [`ChunkSealer`] that one chunk uses up; the value is neither `Clone` nor restartable. So no
/// pair of key and nonce can occur twice, on however many threads the chunks are encrypted.
pub(crate) struct TensorSealer {
    key: Arc<LessSafeKey>,
    base_iv: [u8; IV_BYTES],
    next: u64,
}

impl TensorSealer {
    /// Draws a data key and a base IV.
    pub(crate) fn fresh(kek: &Kek) -> (Self, WrappedKey) {
        let key = SecretBytes::random();
        let mut base_iv: [u8; IV_BYTES] = random();
        // The last four bytes count the chunks; see [`CHUNKS_MAX`].
        base_iv[8] &= 0x7f;
        let sealer = Self {
            key: Arc::new(aes_256_gcm(&key)),
            base_iv,
            next: 0,
        };
        (sealer, kek.wrap(&key))
    }

    pub(crate) fn base_iv(&self) -> [u8; IV_BYTES] {
        self.base_iv
    }

    /// What encrypts the next chunk.
    pub(crate) fn next_chunk(&mut self) -> ChunkSealer {
        let iv = chunk_iv(self.base_iv, self.next)
            .expect("bodies of more than CHUNKS_MAX chunks are refused before they are sealed");
        self.next += 1;
        ChunkSealer {
            key: Arc::clone(&self.key),
            iv,
        }
    }
}

/// Encrypts one chunk.
pub(crate) struct ChunkSealer {
    key: Arc<LessSafeKey>,
    iv: [u8; IV_BYTES],
}

impl ChunkSealer {
    /// Encrypts `chunk` in place and returns its tag.
    pub(crate) fn seal(self, chunk: &mut [u8]) -> [u8; TAG_BYTES] {
        seal(&self.key, self.iv, chunk)
    }
}

/// Decrypts the chunks of one tensor.
pub(crate) struct TensorOpener {
    key: LessSafeKey,
    base_iv: [u8; IV_BYTES],
    fingerprint: Digest,
}

impl TensorOpener {
    pub(crate) fn new(key: &SecretBytes<32>, base_iv: [u8; IV_BYTES]) -> Self {
        let fingerprint = named_hash("data-key", key.expose());
        Self {
            key: aes_256_gcm(key),
            base_iv,
            fingerprint,
        }
    }

    /// Tells keys apart without holding them; it stays in memory.
    pub(crate) fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }

    /// Decrypts chunk `index` in place if `tag` is right; otherwise the chunk's bytes are to be
    /// thrown away.
    pub(crate) fn open(&self, index: u64, tag: &[u8], chunk: &mut [u8]) -> Result<(), Unspecified> {
        let nonce = Nonce::assume_unique_for_key(chunk_iv(self.base_iv, index).ok_or(Unspecified)?);
        self.key
            .open_in_place_separate_tag(nonce, Aad::empty(), tag, chunk)
            .map(drop)
    }
}

/// The IV of chunk `index`: base_iv[0..8] ‖ be32(base_iv[8..12] + index), or `None` where the
/// counter would wrap (CryptoTensors version 2).
pub(crate) fn chunk_iv(mut base_iv: [u8; IV_BYTES], index: u64) -> Option<[u8; IV_BYTES]> {
    let (_, counter) = base_iv
        .split_last_chunk_mut::<4>()
        .expect("an IV has more than 4 bytes");
    let next = u32::from_be_bytes(*counter).checked_add(u32::try_from(index).ok()?)?;
    *counter = next.to_be_bytes();
    Some(base_iv)
}

fn aes_256_gcm(key: &SecretBytes<32>) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key.expose()).expect("AES-256 takes 32 bytes");
    LessSafeKey::new(key)
}

fn seal(key: &LessSafeKey, iv: [u8; IV_BYTES], bytes: &mut [u8]) -> [u8; TAG_BYTES] {
    let nonce = Nonce::assume_unique_for_key(iv);
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::empty(), bytes)
        .expect("a chunk is below AES-GCM's limit of 64 GiB");
    tag.as_ref()
        .try_into()
        .expect("an AES-GCM tag has 16 bytes")
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random generator does not fail once it is seeded");
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn chunk_ivs_count_in_the_last_four_bytes_and_never_wrap() {
        let base = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 255];
        assert_eq!(chunk_iv(base, 0), Some(base));
        assert_eq!(
            chunk_iv(base, 1),
            Some([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 1, 0])
        );
        let last = [1, 2, 3, 4, 5, 6, 7, 8, 255, 255, 255, 255];
        assert_eq!(chunk_iv(last, 0), Some(last));
        assert_eq!(chunk_iv(last, 1), None);
        assert_eq!(chunk_iv(base, 1 << 32), None);
    }

    #[test]
    fn what_is_sealed_opens_chunk_by_chunk_and_nowhere_else() {
        let kek = Kek::new(&SecretBytes::random());
        let (mut sealer, wrapped) = TensorSealer::fresh(&kek);
        let base_iv = sealer.base_iv();
        let mut chunks = [b"first".to_vec(), b"secnd".to_vec()];
        let tags = chunks
            .iter_mut()
            .flat_map(|chunk| sealer.next_chunk().seal(chunk))
            .collect::<Vec<u8>>();
        let opener = TensorOpener::new(&kek.unwrap(&wrapped).unwrap(), base_iv);
        assert!(opener.open(1, &tags[..16], &mut chunks[0].clone()).is_err());
        assert!(opener.open(0, &tags[16..], &mut chunks[0].clone()).is_err());
        opener.open(0, &tags[..16], &mut chunks[0]).unwrap();
        opener.open(1, &tags[16..], &mut chunks[1]).unwrap();
        assert_eq!(chunks, [b"first".to_vec(), b"secnd".to_vec()]);
    }

    #[test]
    fn the_order_in_which_chunks_are_encrypted_does_not_show() {
        let key = SecretBytes::random();
        let mut sealer = TensorSealer {
            key: Arc::new(aes_256_gcm(&key)),
            base_iv: [3; IV_BYTES],
            next: 0,
        };
        let (first, second) = (sealer.next_chunk(), sealer.next_chunk());
        let mut chunks = [b"first".to_vec(), b"secnd".to_vec()];
        let late = second.seal(&mut chunks[1]);
        let early = first.seal(&mut chunks[0]);
        let opener = TensorOpener::new(&key, [3; IV_BYTES]);
        opener.open(0, &early, &mut chunks[0]).unwrap();
        opener.open(1, &late, &mut chunks[1]).unwrap();
        assert_eq!(chunks, [b"first".to_vec(), b"secnd".to_vec()]);
    }

    #[test]
    fn no_data_key_and_no_iv_is_drawn_twice_and_counters_begin_low() {
        let kek = Kek::new(&SecretBytes::random());
        let mut keys = BTreeSet::new();
        for _ in 0..200 {
            let (sealer, wrapped) = TensorSealer::fresh(&kek);
            assert!(sealer.base_iv()[8] < 0x80);
            assert!(keys.insert(kek.unwrap(&wrapped).unwrap().expose().to_vec()));
            assert!(keys.insert(sealer.base_iv().to_vec()));
            assert!(keys.insert(wrapped.iv.to_vec()));
        }
    }
}
