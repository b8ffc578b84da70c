//! A batch on disk: `batch.dsse.json` and `partitions/00000.age`, ….

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sealift_signed_document::{Envelope, MAX_ENVELOPE_BYTES};

use crate::partition::MAX_PARTITION_BYTES;

/// Name of the signed document in a batch folder.
pub const BATCH_FILE: &str = "batch.dsse.json";

/// File beside the signed document: the user's public signing key, standard base64.
///
/// Nobody vouches for it here. It lets whoever dispatches the batch notice a damaged one before
/// any work is done; the key manager scores only under the user key of the owner's grant.
pub const USER_KEY_FILE: &str = "user.pub";

/// Name of a partition's file relative to its batch folder or object prefix.
pub fn partition_file(index: u32) -> String {
    format!("partitions/{index:05}.age")
}

/// Why a batch folder could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The folder is already there.
    #[error("`{0}` already exists; name a new folder")]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("`{path}` could not be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be read.
    #[error("`{path}` could not be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Larger than any such file.
    #[error("`{path}` is larger than the {limit} bytes that are read")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

/// A batch folder being written.
pub(crate) struct BatchFolder(PathBuf);

impl BatchFolder {
    pub(crate) fn create(path: &Path) -> Result<Self, FolderError> {
        let write = |path: &Path, source| FolderError::Write {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| write(parent, source))?;
        }
        fs::create_dir(path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => FolderError::Exists(path.to_owned()),
            _ => write(path, source),
        })?;
        let partitions = path.join("partitions");
        fs::create_dir(&partitions).map_err(|source| write(&partitions, source))?;
        Ok(Self(path.to_owned()))
    }

    pub(crate) fn write_partition(&self, index: u32, file: &[u8]) -> Result<(), FolderError> {
        write_new(&self.0.join(partition_file(index)), file)
    }

    pub(crate) fn write_document(&self, envelope: &Envelope) -> Result<(), FolderError> {
        write_new(&self.0.join(BATCH_FILE), envelope.as_bytes())
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| FolderError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Reads the signed document of a batch folder; nothing is checked yet.
pub fn read_batch(folder: &Path) -> Result<Envelope, FolderError> {
    read_limited(&folder.join(BATCH_FILE), MAX_ENVELOPE_BYTES as u64).map(Envelope::from_bytes)
}

/// Reads a partition's age file; nothing is checked yet.
pub fn read_partition(folder: &Path, index: u32) -> Result<Vec<u8>, FolderError> {
    read_limited(&folder.join(partition_file(index)), MAX_PARTITION_BYTES)
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, FolderError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| FolderError::Read {
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > limit {
        return Err(FolderError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}
