//! The folder that a version is built in before it gets its name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sealift_signed_document::{Digest, DigestWriter, SecretBytes};

use crate::name::FileName;

/// What is read at once when a file is hashed.
const HASH_BYTES: usize = 1 << 20;

/// Why a version's folder was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A folder without a name.
    #[error("`{}` is no name for a folder", .0.display())]
    Target(PathBuf),
    /// The folder is there already.
    #[error("`{}` exists already; remove it first", .0.display())]
    TargetExists(PathBuf),
    /// The file system said no.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

/// A sibling of the version's folder, removed when dropped unless it was given its name for good.
///
/// So a version's folder is whole or absent, and nothing of an attempt that failed is left.
pub(crate) struct DraftFolder {
    path: PathBuf,
    target: PathBuf,
    done: bool,
}

impl DraftFolder {
    /// Makes the folder, after removing what crashed attempts at the same `target` left.
    pub(crate) fn create(target: &Path) -> Result<Self, FolderError> {
        let name = target.file_name().and_then(|name| name.to_str());
        let (Some(parent), Some(name)) = (target.parent(), name) else {
            return Err(FolderError::Target(target.to_owned()));
        };
        if target.symlink_metadata().is_ok() {
            return Err(FolderError::TargetExists(target.to_owned()));
        }
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        fs::create_dir_all(parent).map_err(folder_error("create", parent))?;
        let prefix = format!(".{name}.part-");
        remove_leftovers(parent, &prefix).map_err(folder_error("clean", parent))?;
        let random = SecretBytes::<8>::random();
        let path = parent.join(prefix + &hex::encode(random.expose()));
        fs::create_dir(&path).map_err(folder_error("create", &path))?;
        Ok(Self {
            path,
            target: target.to_owned(),
            done: false,
        })
    }

    /// Makes a new file.
    pub(crate) fn create_file(&self, name: &FileName) -> Result<File, FolderError> {
        let path = self.path.join(name.as_str());
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(folder_error("create", &path))
    }

    /// Writes a whole file.
    pub(crate) fn write_file(&self, name: &FileName, bytes: &[u8]) -> Result<(), FolderError> {
        let mut file = self.create_file(name)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(folder_error("write", &self.path.join(name.as_str())))
    }

    /// The SHA-256 and length of a file as the disk now holds it.
    pub(crate) fn digest_file(&self, name: &FileName) -> Result<(Digest, u64), FolderError> {
        let path = self.path.join(name.as_str());
        digest(&path).map_err(folder_error("read", &path))
    }

    /// Gives the folder its name.
    pub(crate) fn finish(mut self) -> Result<(), FolderError> {
        let sync = |path: &Path| File::open(path)?.sync_all();
        sync(&self.path).map_err(folder_error("write", &self.path))?;
        fs::rename(&self.path, &self.target).map_err(folder_error("rename", &self.path))?;
        self.path.clone_from(&self.target);
        let parent = self
            .target
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        sync(parent).map_err(folder_error("write", parent))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for DraftFolder {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is removed before the next attempt.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

fn remove_leftovers(parent: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(prefix))
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn digest(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut writer = DigestWriter::new();
    let mut buffer = vec![0; HASH_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((writer.finish(), bytes)),
            read => {
                writer.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}

pub(crate) fn folder_error(
    operation: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> FolderError {
    move |source| FolderError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}
