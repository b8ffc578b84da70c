//! The files of a version, read piece by piece.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use sealift_sealed_model::{FileName, RangeRead, VersionFiles};
use sealift_signed_document::Digest;
use tokio::runtime::Handle;

use crate::{ModelStore, Piece, StoredFile, VersionDocument};

/// Checked pieces of a version that are kept for the next read, 32 MiB of bodies: enough for four
/// threads that open tensors side by side, whichever files those are in. More threads hold one
/// each while they copy from it.
const PIECES_KEPT: usize = 4;

/// Pieces that were read lately, the latest first, of all files of a version.
#[derive(Default)]
struct Kept(Mutex<VecDeque<(Digest, Arc<Slot>)>>);

/// A piece, or nothing yet. Its lock is held while it is fetched, so that threads that want the
/// same piece fetch it once, and others go on.
type Slot = Mutex<Option<Bytes>>;

impl Kept {
    /// The place of a piece; the one that was not asked for longest makes room for it.
    fn slot(&self, digest: &Digest) -> Arc<Slot> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(known, _)| known == digest);
        let slot = found
            .and_then(|at| kept.remove(at))
            .map(|(_, slot)| slot)
            .unwrap_or_default();
        kept.truncate(PIECES_KEPT - 1);
        kept.push_front((*digest, slot.clone()));
        slot
    }
}

/// The files that a version document describes.
pub(crate) struct StoreFiles {
    store: ModelStore,
    files: BTreeMap<FileName, StoredFile>,
    runtime: Handle,
    kept: Arc<Kept>,
}

impl StoreFiles {
    pub(crate) fn new(store: ModelStore, document: VersionDocument, runtime: Handle) -> Self {
        let files = document
            .files
            .into_iter()
            .map(|file| (file.name.clone(), file))
            .collect();
        Self {
            store,
            files,
            runtime,
            kept: Arc::default(),
        }
    }
}

impl VersionFiles for StoreFiles {
    fn names(&self) -> io::Result<Vec<FileName>> {
        Ok(self.files.keys().cloned().collect())
    }

    fn open(&self, name: &FileName) -> io::Result<Box<dyn RangeRead>> {
        let file = self.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let mut pieces = Vec::with_capacity(file.pieces.len());
        let mut begin = 0;
        for &piece in &file.pieces {
            pieces.push((begin, piece));
            begin += piece.bytes;
        }
        Ok(Box::new(StoreFile {
            store: self.store.clone(),
            runtime: self.runtime.clone(),
            pieces,
            bytes: begin,
            kept: self.kept.clone(),
        }))
    }
}

/// One file in the store.
struct StoreFile {
    store: ModelStore,
    runtime: Handle,
    /// Where each piece begins, ascending.
    pieces: Vec<(u64, Piece)>,
    bytes: u64,
    kept: Arc<Kept>,
}

impl RangeRead for StoreFile {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            // Pieces are never empty, so the last that begins at or before `offset` holds it.
            let index = self.pieces.partition_point(|(begin, _)| *begin <= offset);
            let index = index.checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?;
            let piece = self.piece(index)?;
            let from = usize::try_from(offset - self.pieces[index].0)
                .map_err(|_| io::ErrorKind::UnexpectedEof)?;
            let rest = piece.get(from..).filter(|rest| !rest.is_empty());
            let rest = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
            let length = rest.len().min(buffer.len());
            let (now, later) = buffer.split_at_mut(length);
            now.copy_from_slice(&rest[..length]);
            buffer = later;
            offset += length as u64;
        }
        Ok(())
    }
}

impl StoreFile {
    /// A checked piece, kept or fetched.
    fn piece(&self, index: usize) -> io::Result<Bytes> {
        let (_, Piece { sha256, bytes }) = self.pieces[index];
        let slot = self.kept.slot(&sha256);
        let mut kept = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = kept.as_ref().filter(|piece| piece.len() as u64 == bytes) {
            return Ok(piece.clone());
        }
        let piece = self.runtime.block_on(self.store.piece(&sha256, bytes));
        Ok(kept.insert(piece.map_err(io::Error::other)?).clone())
    }
}

impl std::fmt::Debug for StoreFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreFiles")
            .field("files", &self.files.keys())
            .finish_non_exhaustive()
    }
}

/// Files are shared between the threads that open a model.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Arc<StoreFiles>>();
};
