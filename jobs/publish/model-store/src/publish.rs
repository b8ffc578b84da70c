//! Publishing: pieces first, each read back, the document last.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use sealift_sealed_model::{
    FileName, FileRole, MANIFEST_FILE, RangeRead, SIGNATURE_FILE, VerifiedManifest,
};
use sealift_signed_document::{Digest, DigestWriter};
use tokio::task;

use crate::{
    ModelStore, Piece, StoreError, StoredFile, VersionDocument,
    document::{DOCUMENT_BYTES_MAX, DocumentFormat},
    pieces::{blob_path, cut, version_path},
    store::Found,
};

/// How far publishing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishProgress {
    /// Bytes that the store was seen to hold.
    pub done_bytes: u64,
    /// Bytes of the version.
    pub total_bytes: u64,
}

/// A version that the store was seen to hold, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedVersion {
    /// The document that makes it exist.
    pub document: VersionDocument,
    /// SHA-256 of that document.
    pub document_sha256: Digest,
    /// Bytes that had to be sent; the rest was there.
    pub sent_bytes: u64,
}

impl ModelStore {
    /// Publishes a verified version, from wherever it reads its files.
    ///
    /// Pieces that the store has are not sent again; every piece is read back and checked; the
    /// document is created at the end, if absent. Doing it twice leaves the same as doing it
    /// once. `progress` is asked after every piece and stops the work by `Break`.
    pub async fn publish(
        &self,
        version: &VerifiedManifest,
        progress: &mut (dyn FnMut(PublishProgress) -> ControlFlow<()> + Send + Sync),
    ) -> Result<PublishedVersion, StoreError> {
        let manifest = version.manifest();
        let mut files = local_files(version)?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let total_bytes = files.iter().map(|file| file.content.len()).sum();
        let mut upload = Upload {
            store: self,
            progress,
            done: PublishProgress {
                done_bytes: 0,
                total_bytes,
            },
            sent_bytes: 0,
        };
        let mut stored = Vec::with_capacity(files.len());
        for file in files {
            stored.push(upload.file(file).await?);
        }
        let sent_bytes = upload.sent_bytes;
        let document = VersionDocument {
            format: DocumentFormat::V1,
            model: manifest.model.clone(),
            version: manifest.version.clone(),
            serial: manifest.serial,
            manifest_sha256: version.digest(),
            files: stored,
        };
        let document_sha256 = self.commit(&document).await?;
        Ok(PublishedVersion {
            document,
            document_sha256,
            sent_bytes,
        })
    }

    /// Creates the document, or finds that the very same one is there.
    async fn commit(&self, document: &VersionDocument) -> Result<Digest, StoreError> {
        let location = version_path(&document.model, &document.version);
        let bytes = document.to_bytes().map_err(|source| StoreError::Document {
            location: location.clone(),
            source,
        })?;
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let payload = PutPayload::from(bytes.clone());
        let existed = match self.store.put_opts(&location, payload, options).await {
            Ok(_) => false,
            Err(object_store::Error::AlreadyExists { .. }) => true,
            Err(source) => return Err(StoreError::of("create", &location, source)),
        };
        let held = self.get(&location, DOCUMENT_BYTES_MAX).await?;
        if matches!(held, Found::Object(held) if held == bytes) {
            return Ok(Digest::of(&bytes));
        }
        if existed {
            let (model, version) = (document.model.clone(), document.version.clone());
            return Err(StoreError::VersionExists { model, version });
        }
        Err(StoreError::ChangedDocument(location))
    }
}

/// A file that is going to be published.
struct LocalFile {
    name: FileName,
    role: Option<FileRole>,
    sha256: Digest,
    content: Arc<dyn RangeRead>,
}

fn local_files(version: &VerifiedManifest) -> Result<Vec<LocalFile>, StoreError> {
    let mut files = Vec::new();
    for file in &version.manifest().files {
        files.push(LocalFile {
            name: file.name.clone(),
            role: Some(file.role),
            sha256: file.sha256,
            content: version.open_file(file).map_err(StoreError::Version)?.into(),
        });
    }
    // The two are published as they were verified.
    for (name, bytes) in [
        (MANIFEST_FILE, version.manifest_bytes()),
        (SIGNATURE_FILE, version.signature_bytes()),
    ] {
        files.push(LocalFile {
            name: name
                .parse()
                .expect("the program's own file names are file names"),
            role: None,
            sha256: Digest::of(bytes),
            content: Arc::new(bytes.to_vec()),
        });
    }
    Ok(files)
}

/// A version on its way.
struct Upload<'a> {
    store: &'a ModelStore,
    progress: &'a mut (dyn FnMut(PublishProgress) -> ControlFlow<()> + Send + Sync),
    done: PublishProgress,
    sent_bytes: u64,
}

impl Upload<'_> {
    async fn file(&mut self, file: LocalFile) -> Result<StoredFile, StoreError> {
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
        let mut whole = DigestWriter::new();
        let mut pieces = Vec::new();
        let mut at = 0;
        for bytes in cut(content.as_ref(), role).map_err(local)? {
            let part = read_part(content.clone(), at, bytes)
                .await?
                .map_err(local)?;
            whole.update(&part);
            let piece = Piece {
                sha256: Digest::of(&part),
                bytes,
            };
            self.piece(piece, part).await?;
            pieces.push(piece);
            at += bytes;
            self.done.done_bytes += bytes;
            if (self.progress)(self.done).is_break() {
                return Err(StoreError::Cancelled);
            }
        }
        // What was read for sending is what the manifest vouches for, not what was checked before.
        if whole.finish() != sha256 {
            return Err(StoreError::LocalChanged(name));
        }
        Ok(StoredFile { name, pieces })
    }

    /// Sends a piece unless the store has it, and reads it back.
    async fn piece(&mut self, piece: Piece, bytes: Bytes) -> Result<(), StoreError> {
        if self.holds_size(piece).await? {
            match self.store.piece(&piece.sha256, piece.bytes).await {
                // An upload that was cut off, or a blob that was changed: send it again.
                Err(StoreError::ChangedPiece(_) | StoreError::MissingPiece(_)) => {}
                held => return held.map(drop),
            }
        }
        let location = blob_path(&piece.sha256);
        self.store
            .store
            .put(&location, PutPayload::from_bytes(bytes))
            .await
            .map_err(|source| StoreError::of("write", &location, source))?;
        self.sent_bytes += piece.bytes;
        self.store.piece(&piece.sha256, piece.bytes).await.map(drop)
    }

    async fn holds_size(&self, piece: Piece) -> Result<bool, StoreError> {
        let location = blob_path(&piece.sha256);
        match self.store.store.head(&location).await {
            Ok(found) => Ok(found.size == piece.bytes),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(StoreError::of("look for", &location, source)),
        }
    }
}

/// Reads a part of a local file on a thread that may block.
async fn read_part(
    content: Arc<dyn RangeRead>,
    offset: u64,
    bytes: u64,
) -> Result<std::io::Result<Bytes>, StoreError> {
    let read = move || {
        let mut part = vec![0; bytes as usize];
        content.read_exact_at(&mut part, offset)?;
        Ok(Bytes::from(part))
    };
    task::spawn_blocking(read)
        .await
        .map_err(|_| StoreError::ShuttingDown)
}
