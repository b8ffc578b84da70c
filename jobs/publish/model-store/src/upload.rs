//! Sending the pieces of a version, several at once.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use object_store::{ObjectStoreExt, PutPayload};
use sealift_sealed_model::{FileName, FileRole, RangeRead};
use sealift_signed_document::{Digest, DigestWriter};
use tokio::task;

use crate::{
    ModelStore, Piece, PublishProgress, StoreError, StoredFile,
    pieces::{blob_path, cut},
};

/// Pieces that are sent or checked at once: one connection rarely fills a link to a cloud, and
/// with the piece being read they are all that is held, 40 MiB.
const PIECES_IN_FLIGHT: usize = 4;

/// Told after every piece how far publishing has come; stops it by `Break`.
pub(crate) type Progress<'a> = dyn FnMut(PublishProgress) -> ControlFlow<()> + Send + Sync + 'a;

/// A file that is going to be published.
pub(crate) struct LocalFile {
    pub(crate) name: FileName,
    pub(crate) role: Option<FileRole>,
    pub(crate) sha256: Digest,
    pub(crate) content: Arc<dyn RangeRead>,
}

/// A version on its way.
pub(crate) struct Upload<'a> {
    store: &'a ModelStore,
    progress: &'a mut Progress<'a>,
    done: PublishProgress,
    sent_bytes: u64,
    in_flight: FuturesUnordered<BoxFuture<'a, Result<Placed, StoreError>>>,
}

/// A piece that the store was seen to hold.
struct Placed {
    bytes: u64,
    sent: bool,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(
        store: &'a ModelStore,
        progress: &'a mut Progress<'a>,
        total_bytes: u64,
    ) -> Self {
        Self {
            store,
            progress,
            done: PublishProgress {
                done_bytes: 0,
                total_bytes,
            },
            sent_bytes: 0,
            in_flight: FuturesUnordered::new(),
        }
    }

    /// Sends the pieces of `file` that the store lacks; the last of them may still be in flight.
    pub(crate) async fn file(&mut self, file: LocalFile) -> Result<StoredFile, StoreError> {
        let LocalFile {
            name,
            role,
            sha256,
            content,
        } = file;
        let local = |source| StoreError::Local {
            file: name.clone(),
            source,
        };
        let lengths = blocking({
            let content = content.clone();
            move || cut(content.as_ref(), role)
        });
        let mut whole = DigestWriter::new();
        let mut pieces = Vec::new();
        let mut at = 0;
        for bytes in lengths.await?.map_err(local)? {
            while self.in_flight.len() >= PIECES_IN_FLIGHT {
                self.settle_one().await?;
            }
            let content = content.clone();
            let read = blocking(move || {
                let mut part = vec![0; bytes as usize];
                content.read_exact_at(&mut part, at)?;
                whole.update(&part);
                Ok((Digest::of(&part), Bytes::from(part), whole))
            });
            let (digest, part, hashed) = read.await?.map_err(local)?;
            whole = hashed;
            let piece = Piece {
                sha256: digest,
                bytes,
            };
            self.in_flight
                .push(Box::pin(place(self.store, piece, part)));
            pieces.push(piece);
            at += bytes;
        }
        // What was read for sending is what the manifest vouches for, not what was checked before.
        if whole.finish() != sha256 {
            return Err(StoreError::LocalChanged(name));
        }
        Ok(StoredFile { name, pieces })
    }

    /// Waits for what is in flight; tells how many bytes were sent in all.
    pub(crate) async fn finish(mut self) -> Result<u64, StoreError> {
        while !self.in_flight.is_empty() {
            self.settle_one().await?;
        }
        Ok(self.sent_bytes)
    }

    async fn settle_one(&mut self) -> Result<(), StoreError> {
        let Some(placed) = self.in_flight.next().await else {
            return Ok(());
        };
        let Placed { bytes, sent } = placed?;
        self.done.done_bytes += bytes;
        if sent {
            self.sent_bytes += bytes;
        }
        if (self.progress)(self.done).is_break() {
            return Err(StoreError::Cancelled);
        }
        Ok(())
    }
}

/// Sends a piece unless the store has it, and reads it back.
async fn place(store: &ModelStore, piece: Piece, part: Bytes) -> Result<Placed, StoreError> {
    let Piece { sha256, bytes } = piece;
    if holds_size(store, piece).await? {
        match store.check_piece(&sha256, bytes).await {
            // An upload that was cut off, or a blob that was changed: send it again.
            Err(StoreError::ChangedPiece(_) | StoreError::MissingPiece(_)) => {}
            held => return held.map(|()| Placed { bytes, sent: false }),
        }
    }
    let location = blob_path(&sha256);
    let sent = store
        .store
        .put(&location, PutPayload::from_bytes(part))
        .await;
    sent.map_err(|source| StoreError::of("write", &location, source))?;
    store
        .check_piece(&sha256, bytes)
        .await
        .map(|()| Placed { bytes, sent: true })
}

async fn holds_size(store: &ModelStore, piece: Piece) -> Result<bool, StoreError> {
    let location = blob_path(&piece.sha256);
    match store.store.head(&location).await {
        Ok(found) => Ok(found.size == piece.bytes),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(source) => Err(StoreError::of("look for", &location, source)),
    }
}

/// Reads on a thread that may block: the source may be a disk, or another store.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    task::spawn_blocking(read)
        .await
        .map_err(|_| StoreError::ShuttingDown)
}
