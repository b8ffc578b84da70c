//! Rotation: a version under a fresh KEK, without touching a body.
//!
//! The data keys are wrapped anew, so the headers of files with `sealed` tensors change, and with
//! them the manifest (its revision rises) and the signature. Bodies, names, shapes and serial stay,
//! so that a store keeps every piece of a body.
//!
//! It bounds what a KEK that leaks *later* opens. Whoever held the old KEK while the old headers
//! were published could unwrap the data keys, which have not changed: to shut that reader out, seal
//! the model anew.

use std::{
    io::Write,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use sealift_signed_document::{Digest, DigestWriter, SecretBytes};

use crate::{
    container::{
        facts::FileFacts,
        read::{CheckedHeader, Rewrapped},
        write::FileWriter,
    },
    draft_folder::{DraftFolder, FolderError, folder_error},
    manifest::{Manifest, ManifestFile},
    name::FileName,
    opened::tensor_files,
    seal::{SealError, SealingKeys, sign_folder},
    tensor_key::Kek,
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
    /// The version, or the KEK for it.
    #[error("the version cannot be rotated")]
    Version(#[source] VersionError),
    /// The new header, manifest or signature.
    #[error("the rotated version cannot be described")]
    Describe(#[source] SealError),
    /// The new folder.
    #[error("the rotated version's folder cannot be written")]
    Folder(#[source] FolderError),
}

/// A version under a fresh KEK.
pub struct RotatedVersion {
    /// The key-encryption key, drawn for this revision: it goes to the key manager.
    pub kek: SecretBytes<32>,
    /// What is to be published now.
    pub manifest: Manifest,
    /// SHA-256 of `manifest.json`.
    pub manifest_sha256: Digest,
    /// Where the folder is.
    pub folder: PathBuf,
}

/// Writes `verified`, which `kek` opens, to the new folder `out` under a KEK drawn here.
///
/// `out` appears at the end, whole; the version that was read is not touched. So whatever
/// happens in between, the old version is there, and the new one is there whole or not at all.
/// Bodies are copied as they are, under the digests that the owner signed, and no data key leaves
/// memory but wrapped.
pub fn rotate_version(
    verified: &VerifiedManifest,
    kek: &SecretBytes<32>,
    keys: SealingKeys<'_>,
    out: &Path,
) -> Result<RotatedVersion, RotateError> {
    let old = verified.manifest();
    if keys.header.public() != old.header_key {
        return Err(RotateError::HeaderKey);
    }
    let fresh = SecretBytes::random();
    let rotation = Rotation {
        verified,
        keys,
        old: Kek::new(kek),
        new: Kek::new(&fresh),
    };
    let folder = DraftFolder::create(out).map_err(RotateError::Folder)?;
    let mut manifest = old.clone();
    // Beyond 2^53 - 1 the manifest's own check refuses it.
    manifest.revision += 1;
    for file in &mut manifest.files {
        let header = rotation.header(file)?;
        file.sha256 = rotation.copy(file, header.as_deref(), &folder)?;
    }
    let manifest_sha256 =
        sign_folder(&folder, &manifest, keys.publish).map_err(RotateError::Describe)?;
    folder.finish().map_err(RotateError::Folder)?;
    Ok(RotatedVersion {
        kek: fresh,
        manifest,
        manifest_sha256,
        folder: out.to_owned(),
    })
}

struct Rotation<'a> {
    verified: &'a VerifiedManifest,
    keys: SealingKeys<'a>,
    old: Kek,
    new: Kek,
}

impl Rotation<'_> {
    /// The new first bytes of a file with sealed tensors; as long as the old ones.
    fn header(&self, file: &ManifestFile) -> Result<Option<Vec<u8>>, RotateError> {
        let manifest = self.verified.manifest();
        if !tensor_files(manifest).any(|other| other.name == file.name) {
            return Ok(None);
        }
        let refuse = |source| {
            RotateError::Version(VersionError::Container {
                file: file.name.clone(),
                source,
            })
        };
        let content = self
            .verified
            .open_file(file)
            .map_err(RotateError::Version)?;
        let checked = CheckedHeader::read(content.as_ref(), manifest, file).map_err(refuse)?;
        let Some(rewrapped) = checked.rewrap(&self.old, &self.new).map_err(refuse)? else {
            return Ok(None);
        };
        self.sign(&file.name, &rewrapped).map(Some)
    }

    fn sign(&self, name: &FileName, rewrapped: &Rewrapped) -> Result<Vec<u8>, RotateError> {
        let writer = FileWriter {
            facts: FileFacts::of(self.verified.manifest(), name),
            header_key: self.keys.header,
            kek: &self.new,
            chunk: rewrapped.chunk,
            threads: NonZeroUsize::MIN,
        };
        let header = writer
            .header(&rewrapped.entries, &rewrapped.keys)
            .map_err(RotateError::Describe)?;
        assert_eq!(
            header.len() as u64,
            rewrapped.body_begin,
            "wrapped keys and signatures have fixed lengths"
        );
        Ok(header)
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
