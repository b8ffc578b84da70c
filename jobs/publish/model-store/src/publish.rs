//! Publishing: pieces first, each read back, the document last.

use std::{ops::ControlFlow, sync::Arc};

use object_store::{PutMode, PutOptions, PutPayload};
use sealift_sealed_model::{MANIFEST_FILE, SIGNATURE_FILE, VerifiedManifest};
use sealift_signed_document::Digest;

use crate::{
    ModelStore, StoreError, VersionDocument,
    document::{DOCUMENT_BYTES_MAX, DocumentFormat},
    marks::{Mark, PUBLISHING},
    pieces::version_path,
    store::Found,
    upload::{LocalFile, Progress, Upload},
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
    ///
    /// The first time, the store has to pass its [self-test](Self::self_test). While it lasts, no
    /// garbage is collected (see [`Self::collect_garbage`]).
    pub async fn publish(
        &self,
        version: &VerifiedManifest,
        progress: &mut (dyn FnMut(PublishProgress) -> ControlFlow<()> + Send + Sync),
    ) -> Result<PublishedVersion, StoreError> {
        self.tested().await?;
        let mark = Mark::make(self, PUBLISHING).await?;
        let published = self.publish_marked(&mark, version, progress).await;
        mark.remove().await;
        published
    }

    async fn publish_marked(
        &self,
        mark: &Mark<'_>,
        version: &VerifiedManifest,
        progress: &mut Progress<'_>,
    ) -> Result<PublishedVersion, StoreError> {
        mark.refuse_beside_collection().await?;
        let manifest = version.manifest();
        let mut files = local_files(version)?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let total_bytes = files.iter().map(|file| file.content.len()).sum();
        let mut upload = Upload::new(self, progress, total_bytes);
        let mut stored = Vec::with_capacity(files.len());
        for file in files {
            stored.push(upload.file(file).await?);
        }
        let sent_bytes = upload.finish().await?;
        let document = VersionDocument {
            format: DocumentFormat::V1,
            model: manifest.model.clone(),
            version: manifest.version.clone(),
            serial: manifest.serial,
            revision: manifest.revision,
            manifest_sha256: version.digest(),
            files: stored,
        };
        mark.refuse_if_old().await?;
        let document_sha256 = self.commit(&document).await?;
        Ok(PublishedVersion {
            document,
            document_sha256,
            sent_bytes,
        })
    }

    /// Creates the document, or finds that the very same one is there.
    async fn commit(&self, document: &VersionDocument) -> Result<Digest, StoreError> {
        let VersionDocument {
            model,
            version,
            revision,
            ..
        } = document;
        let location = version_path(model, version, *revision);
        // A version that was rotated has left its first name free; it is taken all the same.
        let newer = self.revisions(model, version).await?;
        if newer
            .last()
            .is_some_and(|newest| newest.revision > *revision)
        {
            let (model, version) = (model.clone(), version.clone());
            return Err(StoreError::VersionExists { model, version });
        }
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
            let (model, version) = (model.clone(), version.clone());
            return Err(StoreError::VersionExists { model, version });
        }
        Err(StoreError::ChangedDocument(location))
    }
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
