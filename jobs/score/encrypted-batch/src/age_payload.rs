//! The payload of an age v1 file, opened with the file key alone.
//!
//! The `age` crate opens a payload only together with an identity for its header. The guest has
//! no identity, so the construction (C2SP age, section "Payload") is written out here:
//! 16 bytes of nonce, then STREAM with ChaCha20-Poly1305 over chunks of 64 KiB under
//! HKDF-SHA256(salt = nonce, file key, info = "payload"); the chunk nonce is an 11-byte big-endian
//! counter and one byte that is 1 for the last chunk. The last chunk may be short, and is empty
//! only if the whole payload is.

use age_core::{
    primitives::hkdf,
    secrecy::{ExposeSecret, SecretBox},
};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sealift_signed_document::SecretBytes;
use zeroize::Zeroizing;

use crate::FileKey;

const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
const SALT: usize = 16;

/// Why a payload does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Cut off at the edge of a chunk: what is left authenticates, but is not the end.
    #[error("the age payload ends before its last chunk")]
    Truncated,
    /// A chunk does not authenticate.
    #[error("chunk {0} of the age payload was changed, or the file key is of another file")]
    Chunk(u64),
    /// An empty last chunk after a full one: a second spelling of the same payload.
    #[error("the age payload ends with an empty chunk")]
    EmptyLastChunk,
}

/// Opens a whole payload; nothing of it is returned unless its last chunk was reached.
pub fn open_payload(key: &FileKey, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, PayloadError> {
    let (salt, stream) = payload
        .split_at_checked(SALT)
        .ok_or(PayloadError::Truncated)?;
    if stream.len() < TAG {
        return Err(PayloadError::Truncated);
    }
    let aead = payload_key(key, salt);
    let mut plain = Zeroizing::new(Vec::with_capacity(stream.len()));
    let mut chunks = stream.chunks(CHUNK + TAG).enumerate().peekable();
    while let Some((index, chunk)) = chunks.next() {
        let counter = index as u64;
        let last = chunks.peek().is_none();
        if last && counter > 0 && chunk.len() <= TAG {
            return Err(empty_last_chunk(&aead, counter, chunk));
        }
        if !open_chunk(&aead, counter, last, chunk, &mut plain) {
            let cut_off = last && open_chunk(&aead, counter, false, chunk, &mut plain);
            return Err(if cut_off {
                PayloadError::Truncated
            } else {
                PayloadError::Chunk(counter)
            });
        }
    }
    Ok(plain)
}

fn empty_last_chunk(aead: &LessSafeKey, counter: u64, chunk: &[u8]) -> PayloadError {
    let authentic = open_chunk(aead, counter, true, chunk, &mut Zeroizing::default());
    if authentic {
        PayloadError::EmptyLastChunk
    } else {
        PayloadError::Chunk(counter)
    }
}

fn open_chunk(
    aead: &LessSafeKey,
    counter: u64,
    last: bool,
    chunk: &[u8],
    plain: &mut Zeroizing<Vec<u8>>,
) -> bool {
    let Some(length) = chunk.len().checked_sub(TAG) else {
        return false;
    };
    let start = plain.len();
    let (sealed, tag) = chunk.split_at(length);
    plain.resize(start + length, 0);
    let nonce = chunk_nonce(counter, last);
    let opened = aead
        .open_separate_gather(nonce, Aad::empty(), sealed, tag, &mut plain[start..])
        .is_ok();
    if !opened {
        plain.truncate(start);
    }
    opened
}

/// Seals `plain` under `key` with a fresh salt, so that one key may seal any number of payloads.
pub fn seal_payload(key: &FileKey, plain: &[u8]) -> Vec<u8> {
    let salt = SecretBytes::<SALT>::random();
    let aead = payload_key(key, salt.expose());
    let chunks = plain.len().div_ceil(CHUNK).max(1);
    let mut payload = Vec::with_capacity(SALT + plain.len() + chunks * TAG);
    payload.extend_from_slice(salt.expose());
    for index in 0..chunks {
        let chunk = &plain[index * CHUNK..plain.len().min((index + 1) * CHUNK)];
        let start = payload.len();
        payload.extend_from_slice(chunk);
        let nonce = chunk_nonce(index as u64, index + 1 == chunks);
        let tag = aead
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut payload[start..])
            .expect("a chunk of 64 KiB is far below ChaCha20's limit of 256 GiB");
        payload.extend_from_slice(tag.as_ref());
    }
    payload
}

fn payload_key(key: &FileKey, salt: &[u8]) -> LessSafeKey {
    let derived = SecretBox::new(Box::new(hkdf(salt, b"payload", key.expose())));
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, derived.expose_secret())
        .expect("32 bytes are the length of a ChaCha20-Poly1305 key");
    LessSafeKey::new(unbound)
}

fn chunk_nonce(counter: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&counter.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}
