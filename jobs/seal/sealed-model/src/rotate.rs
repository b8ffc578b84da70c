//! Rotation: a version under another KEK, without touching a body.
//!
//! The data keys are wrapped anew by whoever holds the KEKs, so the headers of files with `sealed`
//! tensors change, and with them the manifest (its revision rises) and the signature. Bodies,
//! names, shapes and serial stay, so that a store keeps every piece of a body.
//!
//! It bounds what a KEK that leaks *later* opens. Whoever held the old KEK while the old headers
//! were published could unwrap the data keys, which have not changed: to shut that reader out, seal
//! the model anew.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    slice,
};

use sealift_signed_document::{Digest, DigestWriter, SigningKey};
use sealift_wrapped_key::{WrappedKey, WrappedKeys, WrappedKeysError};

use crate::{
    container::{
        facts::FileFacts,
        read::{CheckedHeader, SealedHeader},
        write::header,
    },
    draft_folder::{DraftFolder, FolderError, folder_error},
    manifest::{Manifest, ManifestFile},
    name::FileName,
    opened::tensor_files,
    seal::{SealError, SealingKeys, sign_folder},
    version::{VerifiedManifest, VersionError},
};

/// Why a version was not rotated. Nothing is left of an attempt that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// Another header key than the one that signed the version; its other headers would be
    /// refused.
    #[error(
        "the header key is not the one that the manifest names; rotate with the key that sealed this version, or seal it anew"
    )]
    HeaderKey,
    /// The version, or a header of it.
    #[error("the version cannot be rotated")]
    Version(#[source] VersionError),
    /// No KEK has anything to do with the version.
    #[error("the version has no sealed tensor, so there is no key to rotate")]
    NothingSealed(#[source] WrappedKeysError),
    /// The keys of another version.
    #[error("{found} wrapped keys do not fit the version's {expected} sealed tensors")]
    OtherKeys {
        /// Keys that were given.
        found: usize,
        /// Sealed tensors.
        expected: usize,
    },
    /// The new header, manifest or signature.
    #[error("the rotated version cannot be described")]
    Describe(#[source] SealError),
    /// The new folder.
    #[error("the rotated version's folder cannot be written")]
    Folder(#[source] FolderError),
}

/// A version under another KEK.
pub struct RotatedVersion {
    /// What is to be published now.
    pub manifest: Manifest,
    /// SHA-256 of `manifest.json`.
    pub manifest_sha256: Digest,
    /// Where the folder is.
    pub folder: PathBuf,
}

/// The headers of a verified version, ready to be written with other wrapped keys.
pub struct Rotation<'a> {
    verified: &'a VerifiedManifest,
    headers: BTreeMap<FileName, SealedHeader>,
}

impl<'a> Rotation<'a> {
    /// Reads and checks every header. No key is needed.
    ///
    /// # Errors
    /// [`RotateError::Version`] for a header that is not what the manifest calls for.
    pub fn read(verified: &'a VerifiedManifest) -> Result<Self, RotateError> {
        let manifest = verified.manifest();
        let mut headers = BTreeMap::new();
        for file in tensor_files(manifest) {
            let content = verified.open_file(file).map_err(RotateError::Version)?;
            let checked =
                CheckedHeader::read(content.as_ref(), manifest, file).map_err(|source| {
                    RotateError::Version(VersionError::Container {
                        file: file.name.clone(),
                        source,
                    })
                })?;
            if let Some(sealed) = checked.sealed() {
                headers.insert(file.name.clone(), sealed);
            }
        }
        Ok(Self { verified, headers })
    }

    /// The wrapped keys of all sealed tensors, by file and then by tensor name.
    ///
    /// # Errors
    /// [`RotateError::NothingSealed`] where there is none.
    pub fn wrapped_keys(&self) -> Result<WrappedKeys, RotateError> {
        let keys = self
            .headers
            .values()
            .flat_map(|header| header.keys.values());
        let keys = keys.map(|tensor| tensor.wrapped.clone()).collect();
        WrappedKeys::new(keys).map_err(RotateError::NothingSealed)
    }

    /// Writes the version to the new folder `out` with `rewrapped` in place of its wrapped keys,
    /// in the order of [`Rotation::wrapped_keys`], and one revision higher.
    ///
    /// `out` appears at the end, whole; the version that was read is not touched. So whatever
    /// happens in between, the old version is there, and the new one is there whole or not at
    /// all. Bodies are copied as they are, under the digests that the owner signed.
    ///
    /// # Errors
    /// [`RotateError`]; that the keys are the tensors' own is for whoever wrapped them to know.
    pub fn write(
        mut self,
        rewrapped: &WrappedKeys,
        keys: SealingKeys<'_>,
        out: &Path,
    ) -> Result<RotatedVersion, RotateError> {
        let mut manifest = self.verified.manifest().clone();
        if keys.header.public() != manifest.header_key {
            return Err(RotateError::HeaderKey);
        }
        self.replace(rewrapped)?;
        let folder = DraftFolder::create(out).map_err(RotateError::Folder)?;
        // Beyond 2^53 - 1 the manifest's own check refuses it.
        manifest.revision += 1;
        for file in &mut manifest.files {
            let header = self.header(&file.name, keys.header)?;
            file.sha256 = self.copy(file, header.as_deref(), &folder)?;
        }
        let manifest_sha256 =
            sign_folder(&folder, &manifest, keys.publish).map_err(RotateError::Describe)?;
        folder.finish().map_err(RotateError::Folder)?;
        Ok(RotatedVersion {
            manifest,
            manifest_sha256,
            folder: out.to_owned(),
        })
    }

    fn replace(&mut self, rewrapped: &WrappedKeys) -> Result<(), RotateError> {
        let (found, expected) = (rewrapped.keys().len(), self.wrapped_keys()?.keys().len());
        if found != expected {
            return Err(RotateError::OtherKeys { found, expected });
        }
        let mut next: slice::Iter<'_, WrappedKey> = rewrapped.keys().iter();
        let headers = self.headers.values_mut();
        for (tensor, wrapped) in headers
            .flat_map(|header| header.keys.values_mut())
            .zip(&mut next)
        {
            tensor.wrapped = wrapped.clone();
        }
        Ok(())
    }

    /// The new first bytes of a file with sealed tensors; as long as the old ones.
    fn header(&self, name: &FileName, key: &SigningKey) -> Result<Option<Vec<u8>>, RotateError> {
        let Some(sealed) = self.headers.get(name) else {
            return Ok(None);
        };
        let facts = FileFacts::of(self.verified.manifest(), name);
        let written = header(&facts, key, &sealed.entries, (sealed.chunk, &sealed.keys))
            .map_err(RotateError::Describe)?;
        assert_eq!(
            written.len() as u64,
            sealed.body_begin,
            "wrapped keys and signatures have fixed lengths"
        );
        Ok(Some(written))
    }

    /// Copies a file with `header` in place of its first bytes, and returns its new digest.
    fn copy(
        &self,
        file: &ManifestFile,
        header: Option<&[u8]>,
        folder: &DraftFolder,
    ) -> Result<Digest, RotateError> {
        let mut out = folder
            .create_file(&file.name)
            .map_err(RotateError::Folder)?;
        let path = Path::new(file.name.as_str());
        let failed = folder_error("write", path);
        let (mut digest, mut skip) = (DigestWriter::new(), 0);
        let mut write = |part: &[u8]| {
            digest.update(part);
            out.write_all(part).map_err(&failed)
        };
        if let Some(header) = header {
            write(header).map_err(RotateError::Folder)?;
            skip = header.len();
        }
        let copied = self.verified.stream_file(file, &mut |part| {
            let replaced = skip.min(part.len());
            skip -= replaced;
            write(&part[replaced..]).map_err(VersionError::Folder)
        });
        copied.map_err(RotateError::Version)?;
        out.sync_all()
            .map_err(|source| RotateError::Folder(failed(source)))?;
        Ok(digest.finish())
    }
}
