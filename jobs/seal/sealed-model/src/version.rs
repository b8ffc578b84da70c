//! Opening a version, one type for each stage of trust:
//! [`FetchedVersion`] → [`VerifiedManifest`] → [`OpenedModel`].
//!
//! | stage | what was checked |
//! |---|---|
//! | [`FetchedVersion`] | nothing |
//! | [`VerifiedManifest`] | the owner's signature with the pinned key, the pinned digest of the manifest, the list of files; each small file's digest when it is read |
//! | [`OpenedModel`] | each header's signature by the manifest's header key and every word in it; each chunk of a `sealed` body by its tag, each `plain` or `fhe` body by its root, in the buffer that is used |
//!
//! A tensor file's own SHA-256 is what stock tools and [`VerifiedManifest::check_files`] look at.
//! Opening needs no pass over the whole file for it: no byte of it is believed on other grounds
//! than the header's signature, a tag or a root.

mod claim;
mod error;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
};

use sealift_signed_document::{Digest, DigestWriter, SecretBytes};

use crate::{
    draft_folder::{DraftFolder, folder_error},
    limits::{FILES_MAX, MANIFEST_BYTES_MAX, PUBLIC_FILE_BYTES_MAX, SIGNATURE_BYTES_MAX},
    manifest::{FileRole, MANIFEST_FILE, Manifest, ManifestFile},
    name::{FileName, Name},
    opened::OpenedModel,
    publish_key::PublishVerifyingKey,
    range_read::read_whole,
    signature::{SIGNATURE_FILE, SignedFiles},
    version_files::VersionFiles,
};

pub use claim::ClaimedVersion;
pub use error::VersionError;

/// By convention, the public file with the envelope of the owner root's delegation of the publish
/// key: a reader that pins only the root gets it by [`FetchedVersion::unverified_file`] and
/// checks it by [`sealift_signed_document::DelegatedKey::accept`].
pub const DELEGATION_FILE: &str = "publish.delegation.json";

/// What is read at once when a file is hashed.
const HASH_BYTES: u64 = 1 << 20;

/// What the reader knows of the version beforehand, from its own trusted configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedVersion {
    /// The owner's publish key.
    pub publish_key: PublishVerifyingKey,
    /// SHA-256 of `manifest.json`.
    pub manifest_sha256: Digest,
    /// The model's name.
    pub model: Name,
    /// The version's name.
    pub version: Name,
    /// The version's number.
    pub serial: u64,
}

/// A version as it came: nothing is checked, nothing is parsed.
pub struct FetchedVersion {
    files: Arc<dyn VersionFiles>,
    names: Vec<FileName>,
    manifest: Vec<u8>,
    signature: Vec<u8>,
}

impl FetchedVersion {
    /// Takes the files of a version; reads the manifest and the signature, within their limits.
    pub fn new(files: Arc<dyn VersionFiles>) -> Result<Self, VersionError> {
        let names = files.names().map_err(VersionError::List)?;
        let read = |name: &str, max| {
            let name: FileName = name
                .parse()
                .expect("the program's own file names are file names");
            let bytes = files
                .open(&name)
                .and_then(|file| read_whole(file.as_ref(), max));
            bytes.map_err(|source| VersionError::Read { file: name, source })
        };
        let manifest = read(MANIFEST_FILE, MANIFEST_BYTES_MAX)?;
        let signature = read(SIGNATURE_FILE, SIGNATURE_BYTES_MAX)?;
        Ok(Self {
            files,
            names,
            manifest,
            signature,
        })
    }

    /// The bytes of a file that nothing vouches for, such as a delegation that the caller is
    /// about to check by its own signature.
    pub fn unverified_file(&self, name: &FileName) -> Result<Vec<u8>, VersionError> {
        let file = self
            .files
            .open(name)
            .and_then(|f| read_whole(f.as_ref(), PUBLIC_FILE_BYTES_MAX));
        file.map_err(|source| VersionError::Read {
            file: name.clone(),
            source,
        })
    }

    /// Checks the signature, then the manifest's digest, then that both name the pinned version
    /// and the very files that are there.
    pub fn verify(self, pinned: &PinnedVersion) -> Result<VerifiedManifest, VersionError> {
        let signed = SignedFiles::verify(&self.signature, &pinned.publish_key)
            .map_err(VersionError::Signature)?;
        let digest = Digest::of(&self.manifest);
        if digest != pinned.manifest_sha256 {
            let expected = pinned.manifest_sha256;
            return Err(VersionError::ManifestDigest {
                found: digest,
                expected,
            });
        }
        let manifest = Manifest::parse(&self.manifest).map_err(VersionError::Manifest)?;
        check_pinned(&manifest, &signed, pinned)?;
        check_signed_files(&manifest, digest, signed.files)?;
        check_names(&manifest, &self.names)?;
        Ok(VerifiedManifest {
            files: self.files,
            manifest,
            digest,
            manifest_bytes: self.manifest,
            signature: self.signature,
        })
    }
}

fn check_pinned(
    manifest: &Manifest,
    signed: &SignedFiles,
    pinned: &PinnedVersion,
) -> Result<(), VersionError> {
    for (member, found, expected) in [
        ("subject", signed.subject.clone(), pinned.model.to_string()),
        (
            "model",
            manifest.model.to_string(),
            pinned.model.to_string(),
        ),
        (
            "version",
            manifest.version.to_string(),
            pinned.version.to_string(),
        ),
        (
            "serial",
            manifest.serial.to_string(),
            pinned.serial.to_string(),
        ),
    ] {
        if found != expected {
            return Err(VersionError::Pinned {
                member,
                found,
                expected,
            });
        }
    }
    Ok(())
}

fn check_signed_files(
    manifest: &Manifest,
    digest: Digest,
    mut signed: BTreeMap<FileName, Digest>,
) -> Result<(), VersionError> {
    let own = own_name(MANIFEST_FILE);
    let listed = manifest
        .files
        .iter()
        .map(|file| (file.name.clone(), file.sha256));
    for (name, sha256) in listed.chain([(own, digest)]) {
        if signed.remove(&name) != Some(sha256) {
            return Err(VersionError::Unsigned(name));
        }
    }
    signed
        .into_keys()
        .next()
        .map_or(Ok(()), |name| Err(VersionError::Unsigned(name)))
}

fn check_names(manifest: &Manifest, names: &[FileName]) -> Result<(), VersionError> {
    if names.len() > FILES_MAX + 2 {
        return Err(VersionError::List(io::Error::other(
            "more files than a version can have",
        )));
    }
    let own = [MANIFEST_FILE, SIGNATURE_FILE].map(own_name);
    let listed: Vec<_> = manifest
        .files
        .iter()
        .map(|file| &file.name)
        .chain(&own)
        .collect();
    if let Some(surplus) = names.iter().find(|name| !listed.contains(name)) {
        return Err(VersionError::SurplusFile(surplus.clone()));
    }
    match listed.into_iter().find(|name| !names.contains(name)) {
        Some(missing) => Err(VersionError::MissingFile(missing.clone())),
        None => Ok(()),
    }
}

fn own_name(name: &str) -> FileName {
    name.parse()
        .expect("the program's own file names are file names")
}

/// A manifest that the owner signed and the reader expected.
///
/// [`FetchedVersion::verify`] is its only constructor, and it cannot be deserialized.
#[derive(Clone)]
pub struct VerifiedManifest {
    pub(crate) files: Arc<dyn VersionFiles>,
    manifest: Manifest,
    digest: Digest,
    manifest_bytes: Vec<u8>,
    signature: Vec<u8>,
}

impl VerifiedManifest {
    /// What the owner signed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of `manifest.json`.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The bytes of `manifest.json` that were verified.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// The bytes of `model.sig` that were verified.
    pub fn signature_bytes(&self) -> &[u8] {
        &self.signature
    }

    /// Reads a small file (`config.json`, `tokenizer.json`, the report …) and checks its digest
    /// in the buffer that is returned.
    pub fn read_file(&self, name: &str) -> Result<Vec<u8>, VersionError> {
        let file = self
            .manifest
            .file(name)
            .filter(|file| matches!(file.role, FileRole::Public | FileRole::Report))
            .ok_or_else(|| VersionError::NoSuchFile(name.to_owned()))?;
        let content = self.open_file(file)?;
        let bytes = read_whole(content.as_ref(), PUBLIC_FILE_BYTES_MAX.min(file.bytes)).map_err(
            |source| VersionError::Read {
                file: file.name.clone(),
                source,
            },
        )?;
        if bytes.len() as u64 != file.bytes || Digest::of(&bytes) != file.sha256 {
            return Err(VersionError::Changed(file.name.clone()));
        }
        Ok(bytes)
    }

    /// Checks the digest of every listed file, as stock tools do.
    ///
    /// It vouches for one reading; whoever reads again has to check again.
    pub fn check_files(&self) -> Result<(), VersionError> {
        self.manifest
            .files
            .iter()
            .try_for_each(|file| self.stream_file(file, &mut |_| Ok(())))
    }

    /// Hands a file's bytes to `take`, part by part, and checks their digest at the end.
    pub(crate) fn stream_file(
        &self,
        file: &ManifestFile,
        take: &mut dyn FnMut(&[u8]) -> Result<(), VersionError>,
    ) -> Result<(), VersionError> {
        let content = self.open_file(file)?;
        let mut writer = DigestWriter::new();
        let mut buffer = vec![0; HASH_BYTES.min(file.bytes) as usize];
        let mut at = 0;
        while at < file.bytes {
            let part = &mut buffer[..(file.bytes - at).min(HASH_BYTES) as usize];
            content
                .read_exact_at(part, at)
                .map_err(|source| VersionError::Read {
                    file: file.name.clone(),
                    source,
                })?;
            writer.update(part);
            take(part)?;
            at += part.len() as u64;
        }
        if writer.finish() != file.sha256 {
            return Err(VersionError::Changed(file.name.clone()));
        }
        Ok(())
    }

    /// Writes the whole version to the new folder `target`, each file's digest checked over the
    /// bytes that were written. The folder appears at the end, whole.
    pub fn write_folder(&self, target: &Path) -> Result<(), VersionError> {
        let folder = DraftFolder::create(target).map_err(VersionError::Folder)?;
        for file in &self.manifest.files {
            let mut out = folder
                .create_file(&file.name)
                .map_err(VersionError::Folder)?;
            let path = target.join(file.name.as_str());
            let failed = folder_error("write", &path);
            self.stream_file(file, &mut |part| {
                out.write_all(part)
                    .map_err(|source| VersionError::Folder(failed(source)))
            })?;
            out.sync_all()
                .map_err(|source| VersionError::Folder(failed(source)))?;
        }
        for (name, bytes) in [
            (MANIFEST_FILE, &self.manifest_bytes),
            (SIGNATURE_FILE, &self.signature),
        ] {
            folder
                .write_file(&own_name(name), bytes)
                .map_err(VersionError::Folder)?;
        }
        folder.finish().map_err(VersionError::Folder)
    }

    /// Opens a listed file for reading in parts. Its length is the manifest's; its bytes are not
    /// checked.
    pub fn open_file(
        &self,
        file: &ManifestFile,
    ) -> Result<Box<dyn crate::RangeRead>, VersionError> {
        let content = self
            .files
            .open(&file.name)
            .map_err(|source| VersionError::Read {
                file: file.name.clone(),
                source,
            })?;
        if content.len() != file.bytes {
            return Err(VersionError::Changed(file.name.clone()));
        }
        Ok(content)
    }

    /// Opens every tensor into memory, on `threads` threads.
    ///
    /// Blocks and computes; call it where that is allowed. Memory is the model and nothing of
    /// its size beside it.
    pub fn open(
        &self,
        kek: &SecretBytes<32>,
        threads: NonZeroUsize,
    ) -> Result<OpenedModel, VersionError> {
        OpenedModel::open(self, kek, threads)
    }
}
