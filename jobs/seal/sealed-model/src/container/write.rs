//! Writing a tensor file: bodies stream by once, the header is written last into the room that
//! was left for it, because it holds the bodies' tags.

use std::{
    collections::BTreeMap,
    io::{Seek, SeekFrom, Write},
    iter,
    num::NonZeroUsize,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use sealift_signed_document::{Digest, SigningKey};
use zeroize::Zeroizing;

use super::{
    ChunkSize,
    facts::FileFacts,
    metadata::{
        CRYPTO_KEYS, ENCRYPTION, FIXED_POLICY, POLICY, SIGNATURE, SealedTensor, crypto_keys,
        encryption,
    },
};
use crate::{
    chunk_root::ChunkRoot,
    dtype::Dtype,
    header::{TensorEntry, framed, to_json},
    limits::{FILE_BYTES_MAX, HEADER_BYTES_MAX},
    manifest::Protection,
    seal::SealError,
    tensor_key::{CHUNKS_MAX, Kek, TAG_BYTES, TensorSealer},
};

/// A tensor that is going to be written.
#[derive(Clone, Debug)]
pub(crate) struct TensorDraft {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) protection: Protection,
    pub(crate) bytes: u64,
}

/// Fills a buffer with the next plain bytes of the tensor at this index of the drafts; called
/// once for each part of each body, in order.
pub(crate) type Fill<'a> = dyn FnMut(usize, &mut [u8]) -> Result<(), SealError> + 'a;

/// What a file is written with.
pub(crate) struct FileWriter<'a> {
    pub(crate) facts: FileFacts<'a>,
    pub(crate) header_key: &'a SigningKey,
    pub(crate) kek: &'a Kek,
    pub(crate) chunk: ChunkSize,
    /// Chunks that are encrypted at once.
    pub(crate) threads: NonZeroUsize,
}

impl FileWriter<'_> {
    /// Writes the tensors to `out` and returns the chunk root of each that is not sealed.
    ///
    /// Every sealed tensor gets a key and an IV that are drawn here, so that writing a file again
    /// never encrypts twice under one key. Memory is one chunk for each thread, and no more
    /// than the largest body.
    pub(crate) fn write<W: Write + Seek>(
        &self,
        drafts: &[TensorDraft],
        out: &mut W,
        fill: &mut Fill<'_>,
    ) -> Result<Vec<Option<Digest>>, SealError> {
        let entries = lay_out(drafts)?;
        let (mut sealers, mut keys) = self.draw_keys(drafts)?;
        let room = self.header(&entries, &keys)?.len();
        out.seek(SeekFrom::Start(room as u64))
            .map_err(SealError::Write)?;
        let mut roots = Vec::with_capacity(drafts.len());
        let mut buffer = Zeroizing::new(vec![0; self.buffer_bytes(drafts)]);
        for (index, draft) in drafts.iter().enumerate() {
            let mut guard = match sealers.remove(&draft.name) {
                Some(sealer) => Stream::Sealed(sealer),
                None => Stream::Rooted(ChunkRoot::new()),
            };
            self.write_body(
                (index, draft),
                &mut buffer,
                &mut guard,
                (&mut *out, &mut *fill),
            )?;
            roots.push(match guard {
                Stream::Rooted(root) => Some(root.finish()),
                Stream::Sealed(sealer) => {
                    keys.entry(draft.name.clone())
                        .and_modify(|key| key.tags = sealer.finish());
                    None
                }
            });
        }
        let header = self.header(&entries, &keys)?;
        assert_eq!(
            header.len(),
            room,
            "keys, tags and signature have fixed lengths"
        );
        out.seek(SeekFrom::Start(0)).map_err(SealError::Write)?;
        out.write_all(&header)
            .and_then(|()| out.flush())
            .map_err(SealError::Write)?;
        Ok(roots)
    }

    fn buffer_bytes(&self, drafts: &[TensorDraft]) -> usize {
        let largest = drafts.iter().map(|draft| draft.bytes).max().unwrap_or(0);
        let all = self.chunk.bytes().saturating_mul(self.threads.get() as u64);
        all.min(largest) as usize
    }

    fn draw_keys(&self, drafts: &[TensorDraft]) -> Result<DrawnKeys, SealError> {
        let mut drawn = DrawnKeys::default();
        for draft in drafts
            .iter()
            .filter(|draft| draft.protection == Protection::Sealed)
        {
            let chunks = self.chunk.count(draft.bytes);
            if chunks > CHUNKS_MAX {
                return Err(SealError::TooManyChunks(draft.name.clone()));
            }
            let (sealer, wrapped) = TensorSealer::fresh(self.kek);
            let tags = vec![0; chunks as usize * TAG_BYTES];
            let key = SealedTensor {
                wrapped,
                base_iv: sealer.base_iv(),
                tags,
            };
            drawn.0.insert(draft.name.clone(), sealer);
            drawn.1.insert(draft.name.clone(), key);
        }
        Ok(drawn)
    }

    fn write_body<W: Write>(
        &self,
        (index, draft): (usize, &TensorDraft),
        buffer: &mut [u8],
        stream: &mut Stream,
        (out, fill): (&mut W, &mut Fill<'_>),
    ) -> Result<(), SealError> {
        let mut at = 0;
        // Once even for an empty body, which has one tag.
        loop {
            let length = (draft.bytes - at).min(buffer.len() as u64) as usize;
            let part = &mut buffer[..length];
            let mut chunks = self.chunks(part);
            for chunk in &mut chunks {
                fill(index, chunk)?;
            }
            match stream {
                Stream::Sealed(sealer) => sealer.seal_next(chunks),
                Stream::Rooted(root) => root.update(part),
            }
            out.write_all(part).map_err(SealError::Write)?;
            at += length as u64;
            if at == draft.bytes {
                return Ok(());
            }
        }
    }

    /// The chunks of `part`; an empty part is one empty chunk.
    fn chunks<'b>(&self, part: &'b mut [u8]) -> Vec<&'b mut [u8]> {
        if part.is_empty() {
            return iter::once(part).collect();
        }
        part.chunks_mut(self.chunk.bytes() as usize).collect()
    }

    fn header(
        &self,
        entries: &[TensorEntry],
        keys: &BTreeMap<String, SealedTensor>,
    ) -> Result<Vec<u8>, SealError> {
        header(&self.facts, self.header_key, entries, (self.chunk, keys))
    }
}

/// The signed first bytes of a file.
pub(crate) fn header(
    facts: &FileFacts<'_>,
    header_key: &SigningKey,
    entries: &[TensorEntry],
    (chunk, keys): (ChunkSize, &BTreeMap<String, SealedTensor>),
) -> Result<Vec<u8>, SealError> {
    let mut metadata = facts.members();
    if facts.has_sealed() {
        metadata.insert(CRYPTO_KEYS.to_owned(), crypto_keys(facts, chunk));
        metadata.insert(ENCRYPTION.to_owned(), encryption(keys));
        metadata.insert(POLICY.to_owned(), FIXED_POLICY.to_owned());
    }
    let signature = header_key.sign_raw(&to_json(&metadata, entries));
    metadata.insert(SIGNATURE.to_owned(), STANDARD.encode(signature));
    let header = framed(to_json(&metadata, entries));
    if header.len() as u64 > HEADER_BYTES_MAX {
        return Err(SealError::HeaderTooLarge(header.len()));
    }
    Ok(header)
}

/// The sealers of the sealed tensors, and what the header will hold of them, by name.
type DrawnKeys = (
    BTreeMap<String, TensorSealer>,
    BTreeMap<String, SealedTensor>,
);

enum Stream {
    Sealed(TensorSealer),
    Rooted(ChunkRoot),
}

fn lay_out(drafts: &[TensorDraft]) -> Result<Vec<TensorEntry>, SealError> {
    let mut begin = 0_u64;
    let mut entries = Vec::with_capacity(drafts.len());
    for TensorDraft {
        name,
        dtype,
        shape,
        bytes,
        ..
    } in drafts
    {
        let end = begin
            .checked_add(*bytes)
            .filter(|&end| end <= FILE_BYTES_MAX)
            .ok_or_else(|| SealError::FileTooLarge(name.clone()))?;
        entries.push(TensorEntry {
            name: name.clone(),
            dtype: *dtype,
            shape: shape.clone(),
            begin,
            end,
        });
        begin = end;
    }
    Ok(entries)
}
