//! The files of a version, read piece by piece.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use sealift_sealed_model::{FileName, RangeRead, VersionFiles};
use tokio::runtime::Handle;

use crate::{ModelStore, Piece, StoredFile, VersionDocument};

/// Checked pieces of one file that are kept for the next read: enough for four threads that
/// open tensors side by side.
const PIECES_KEPT: usize = 4;

/// The files that a version document describes.
pub(crate) struct StoreFiles {
    store: ModelStore,
    files: BTreeMap<FileName, StoredFile>,
    runtime: Handle,
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
            kept: Mutex::default(),
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
    kept: Mutex<VecDeque<(usize, Bytes)>>,
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
    /// A checked piece, kept or fetched. The lock is held while fetching, so that threads that
    /// want the same piece fetch it once.
    fn piece(&self, index: usize) -> io::Result<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = kept.iter().find(|(kept, _)| *kept == index) {
            return Ok(bytes.clone());
        }
        let (_, Piece { sha256, bytes }) = self.pieces[index];
        // Room is made first, so that no more than the limit is ever held.
        kept.truncate(PIECES_KEPT - 1);
        let piece = self
            .runtime
            .block_on(self.store.piece(&sha256, bytes))
            .map_err(io::Error::other)?;
        kept.push_front((index, piece.clone()));
        Ok(piece)
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
