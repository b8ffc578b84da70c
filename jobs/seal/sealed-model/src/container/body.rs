//! Reading one body into memory and checking it in that very buffer.

use std::{
    num::NonZeroUsize,
    ops::{ControlFlow, Deref},
    thread,
};

use sealift_fhe_layer::{BodyError, EncryptedLayer, LayerMeta, LayerReader};
use sealift_signed_document::Digest;
use zeroize::Zeroizing;

use super::{ChunkSize, ContainerError, metadata::SealedTensor, secret_body::SecretBody};
use crate::{
    chunk_root::{ChunkDigests, ChunkRoot},
    limits::ROOT_CHUNK_BYTES,
    manifest::ManifestTensor,
    range_read::RangeRead,
    tensor_key::{TAG_BYTES, TensorOpener},
};

/// What a body is checked against.
pub(crate) enum Guard {
    /// A tag for each chunk, under a key of the tensor's own.
    Sealed {
        opener: TensorOpener,
        sealed: SealedTensor,
        chunk: ChunkSize,
    },
    /// The manifest's root over its chunks.
    Root(Digest),
}

/// A body that can be read: where it lies and what it is checked against.
pub(crate) struct BodyPlan<'a> {
    pub(crate) tensor: &'a ManifestTensor,
    pub(crate) begin: u64,
    pub(crate) bytes: u64,
    pub(crate) guard: Guard,
}

/// The bytes of a body that was checked; sealed ones are wiped when dropped.
pub(crate) enum CheckedBody {
    Secret(SecretBody),
    Public(Vec<u8>),
}

impl Deref for CheckedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Secret(body) => body,
            Self::Public(bytes) => bytes,
        }
    }
}

impl BodyPlan<'_> {
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.guard, Guard::Sealed { .. })
    }

    /// Reads the body and checks it, on up to `threads` threads; a body that is not right is never
    /// returned.
    pub(crate) fn open(
        &self,
        content: &dyn RangeRead,
        threads: NonZeroUsize,
    ) -> Result<CheckedBody, ContainerError> {
        match &self.guard {
            Guard::Sealed {
                opener,
                sealed,
                chunk,
            } => {
                let memory = usize::try_from(self.bytes).ok();
                let body = memory.and_then(|length| SecretBody::zeroed(length).ok());
                let mut body = body.ok_or_else(|| self.no_memory())?;
                let chunks = ChunkOpener {
                    body: self,
                    content,
                    opener,
                    tags: &sealed.tags,
                    chunk: *chunk,
                };
                chunks.open(&mut body, threads)?;
                Ok(CheckedBody::Secret(body))
            }
            Guard::Root(root) => {
                let mut buffer = self.buffer()?;
                self.read(content, &mut buffer, 0)?;
                if ChunkRoot::of(&buffer) != *root {
                    return Err(ContainerError::ChunksRoot(self.tensor.name.clone()));
                }
                Ok(CheckedBody::Public(buffer))
            }
        }
    }

    /// Reads the bodies of an encrypted layer chunk by chunk into the form in which it is
    /// evaluated, so that memory holds them once.
    ///
    /// Each chunk is hashed in the very buffer that the layer takes it from, and the layer comes
    /// out only after the root over all of them was found right.
    pub(crate) fn open_layer(
        &self,
        content: &dyn RangeRead,
        (meta, root): (&LayerMeta, &Digest),
    ) -> Result<EncryptedLayer, ContainerError> {
        let mut reader = LayerReader::new(meta.clone());
        let mut chunks = ChunkRoot::new();
        let mut buffer = vec![0; ROOT_CHUNK_BYTES.min(self.bytes) as usize];
        let mut at = 0;
        while at < self.bytes {
            let part = &mut buffer[..(self.bytes - at).min(ROOT_CHUNK_BYTES) as usize];
            self.read(content, part, at)?;
            chunks.update(part);
            reader.push(part).map_err(|source| self.misfit(source))?;
            at += part.len() as u64;
        }
        if chunks.finish() != *root {
            return Err(ContainerError::ChunksRoot(self.tensor.name.clone()));
        }
        reader.finish().map_err(|source| self.misfit(source))
    }

    fn misfit(&self, source: BodyError) -> ContainerError {
        ContainerError::Layer {
            tensor: self.tensor.name.clone(),
            source,
        }
    }

    /// Hands the body to `take` part by part, each checked in the buffer that is handed out.
    pub(crate) fn stream<B>(
        &self,
        content: &dyn RangeRead,
        take: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, ContainerError> {
        let size = match &self.guard {
            Guard::Sealed { chunk, .. } => chunk.bytes(),
            Guard::Root(_) => ROOT_CHUNK_BYTES,
        };
        let mut buffer = Zeroizing::new(vec![0; size.min(self.bytes) as usize]);
        let digests = match &self.guard {
            Guard::Sealed { .. } => ChunkDigests::default(),
            Guard::Root(root) => self.digests(content, (root, &mut buffer))?,
        };
        // Once even for an empty body, which has one empty chunk.
        for index in 0..self.bytes.div_ceil(size).max(1) {
            let offset = index * size;
            let part = &mut buffer[..(self.bytes - offset).min(size) as usize];
            self.read(content, part, offset)?;
            match &self.guard {
                Guard::Sealed { opener, sealed, .. } => {
                    self.open_chunk((opener, &sealed.tags), index, part)?;
                }
                Guard::Root(_) if digests.has(index as usize, part) => {}
                Guard::Root(_) => {
                    return Err(ContainerError::ChunksRoot(self.tensor.name.clone()));
                }
            }
            if let stopped @ ControlFlow::Break(_) = take(offset, part) {
                return Ok(stopped);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The digests of the chunks, which have the manifest's root.
    fn digests(
        &self,
        content: &dyn RangeRead,
        (root, buffer): (&Digest, &mut [u8]),
    ) -> Result<ChunkDigests, ContainerError> {
        let mut digests = ChunkDigests::default();
        let mut offset = 0;
        loop {
            let length = (self.bytes - offset).min(buffer.len() as u64);
            let part = &mut buffer[..length as usize];
            self.read(content, part, offset)?;
            digests.push(part);
            offset += length;
            if offset == self.bytes {
                break;
            }
        }
        if digests.root() != *root {
            return Err(ContainerError::ChunksRoot(self.tensor.name.clone()));
        }
        Ok(digests)
    }

    /// Decrypts chunk `index` in place, or leaves bytes to be thrown away.
    fn open_chunk(
        &self,
        (opener, tags): (&TensorOpener, &[u8]),
        index: u64,
        part: &mut [u8],
    ) -> Result<(), ContainerError> {
        let refuse = || ContainerError::ChunkTag {
            tensor: self.tensor.name.clone(),
            chunk: index,
        };
        let tag = tags
            .chunks(TAG_BYTES)
            .nth(index as usize)
            .ok_or_else(refuse)?;
        opener.open(index, tag, part).map_err(|_| refuse())
    }

    fn no_memory(&self) -> ContainerError {
        ContainerError::Memory {
            tensor: self.tensor.name.clone(),
            bytes: self.bytes,
        }
    }

    fn buffer(&self) -> Result<Vec<u8>, ContainerError> {
        let length = usize::try_from(self.bytes).map_err(|_| self.no_memory())?;
        // Asked for first, because `vec!` aborts where there is no memory; it in turn takes pages
        // that are zero already, where growing a vector would write every byte once more.
        Vec::<u8>::new()
            .try_reserve_exact(length)
            .map_err(|_| self.no_memory())?;
        Ok(vec![0; length])
    }

    fn read(
        &self,
        content: &dyn RangeRead,
        part: &mut [u8],
        offset: u64,
    ) -> Result<(), ContainerError> {
        content
            .read_exact_at(part, self.begin + offset)
            .map_err(|source| ContainerError::Read {
                tensor: self.tensor.name.clone(),
                source,
            })
    }
}

/// Bytes of a share that is worth a thread.
const SHARE_BYTES: u64 = 16 << 20;

/// Reads and decrypts the chunks of one sealed body.
struct ChunkOpener<'a> {
    body: &'a BodyPlan<'a>,
    content: &'a dyn RangeRead,
    opener: &'a TensorOpener,
    tags: &'a [u8],
    chunk: ChunkSize,
}

impl ChunkOpener<'_> {
    /// Each thread gets a share of whole chunks.
    fn open(&self, body: &mut [u8], threads: NonZeroUsize) -> Result<(), ContainerError> {
        let chunks = self.chunk.count(self.body.bytes);
        let shares = (self.body.bytes / SHARE_BYTES).clamp(1, threads.get() as u64);
        let share = chunks.div_ceil(shares);
        if share >= chunks {
            return self.open_share(0, body);
        }
        let share_bytes = (share * self.chunk.bytes()) as usize;
        let results: Vec<Result<_, _>> = thread::scope(|scope| {
            let shares = (0..).zip(body.chunks_mut(share_bytes));
            let threads: Vec<_> = shares
                .map(|(number, bytes)| scope.spawn(move || self.open_share(number * share, bytes)))
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        results.into_iter().collect()
    }

    /// The chunks from number `first`.
    fn open_share(&self, first: u64, bytes: &mut [u8]) -> Result<(), ContainerError> {
        // An empty body has one tag, over nothing.
        let empty: &mut [u8] = &mut [];
        let chunks = if bytes.is_empty() {
            vec![empty]
        } else {
            bytes.chunks_mut(self.chunk.bytes() as usize).collect()
        };
        for (index, part) in (first..).zip(chunks) {
            self.body
                .read(self.content, part, index * self.chunk.bytes())?;
            self.body
                .open_chunk((self.opener, self.tags), index, part)?;
        }
        Ok(())
    }
}
