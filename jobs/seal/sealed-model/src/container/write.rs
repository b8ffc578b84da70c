//! Writing a tensor file: bodies stream by once, the header is written last into the room that
//! was left for it, because it holds the bodies' tags.

use std::{collections::BTreeMap, fs::File, num::NonZeroUsize, os::unix::fs::FileExt};

use base64::{Engine, engine::general_purpose::STANDARD};
use sealift_signed_document::{Digest, SigningKey};

use super::{
    ChunkSize,
    bodies::{BodyGuard, BodyWriter, PlainBodies, WrittenBody},
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
    pub(crate) fn write(
        &self,
        drafts: &[TensorDraft],
        out: &File,
        plain: PlainBodies<'_>,
    ) -> Result<Vec<Option<Digest>>, SealError> {
        let entries = lay_out(drafts)?;
        let (guards, mut keys) = self.draw_keys(drafts)?;
        let room = self.header(&entries, &keys)?.len();
        let bodies = BodyWriter {
            out,
            begin: room as u64,
            chunk: self.chunk,
            threads: self.threads,
        };
        let mut roots = Vec::with_capacity(drafts.len());
        for (draft, written) in drafts.iter().zip(bodies.write(&entries, guards, plain)?) {
            roots.push(match written {
                WrittenBody::Rooted(root) => Some(root),
                WrittenBody::Sealed(tags) => {
                    keys.entry(draft.name.clone())
                        .and_modify(|key| key.tags = tags);
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
        out.write_all_at(&header, 0).map_err(SealError::Write)?;
        Ok(roots)
    }

    fn draw_keys(
        &self,
        drafts: &[TensorDraft],
    ) -> Result<(Vec<BodyGuard>, BTreeMap<String, SealedTensor>), SealError> {
        let mut guards = Vec::with_capacity(drafts.len());
        let mut keys = BTreeMap::new();
        for draft in drafts {
            if draft.protection != Protection::Sealed {
                guards.push(BodyGuard::Rooted(ChunkRoot::new()));
                continue;
            }
            let chunks = self.chunk.count(draft.bytes);
            if chunks > CHUNKS_MAX {
                return Err(SealError::TooManyChunks(draft.name.clone()));
            }
            let (sealer, wrapped) = TensorSealer::fresh(self.kek);
            let key = SealedTensor {
                wrapped,
                base_iv: sealer.base_iv(),
                tags: vec![0; chunks as usize * TAG_BYTES],
            };
            keys.insert(draft.name.clone(), key);
            guards.push(BodyGuard::Sealed(sealer));
        }
        Ok((guards, keys))
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
