//! Why a version was refused.

use std::io;

use sealift_signed_document::Digest;

use crate::{
    container::ContainerError, draft_folder::FolderError, manifest::ManifestError, name::FileName,
    signature::SignatureError,
};

/// Why a version was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// The files cannot be listed.
    #[error("the version's files cannot be listed")]
    List(#[source] io::Error),
    /// A file cannot be read.
    #[error("`{file}` cannot be read")]
    Read {
        /// The file.
        file: FileName,
        /// What the file system or store answered.
        #[source]
        source: io::Error,
    },
    /// The signature.
    #[error("the folder's signature is refused")]
    Signature(#[source] SignatureError),
    /// Another manifest than the pinned one.
    #[error(
        "manifest.json has the digest {found} where {expected} is pinned; this is another version or another sealing of it"
    )]
    ManifestDigest {
        /// Digest of the manifest found.
        found: Digest,
        /// The pinned digest.
        expected: Digest,
    },
    /// The manifest.
    #[error("the manifest is refused")]
    Manifest(#[source] ManifestError),
    /// The manifest is of another model or version.
    #[error("the manifest says {member} `{found}` where `{expected}` is pinned")]
    Pinned {
        /// What differs.
        member: &'static str,
        /// What the manifest says.
        found: String,
        /// What is pinned.
        expected: String,
    },
    /// The signed list of files is not the manifest's.
    #[error("signature and manifest disagree about `{0}`")]
    Unsigned(FileName),
    /// A file that nobody signed.
    #[error("the version has the file `{0}`, which its manifest does not list")]
    SurplusFile(FileName),
    /// A listed file that is absent.
    #[error("the version lacks the file `{0}` of its manifest")]
    MissingFile(FileName),
    /// A file is not what the manifest says.
    #[error("`{0}` was changed: its length or digest is not the manifest's")]
    Changed(FileName),
    /// A name that the manifest does not list as a small file.
    #[error("the manifest lists no small file `{0}`")]
    NoSuchFile(String),
    /// A tensor file.
    #[error("`{file}` is refused")]
    Container {
        /// The file.
        file: FileName,
        /// What is wrong with it.
        #[source]
        source: ContainerError,
    },
    /// The folder that it was to be written to.
    #[error("the version's folder cannot be written")]
    Folder(#[source] FolderError),
    /// Keys or IVs that two files share.
    #[error("the version's keys are refused")]
    Keys(#[source] ContainerError),
}
