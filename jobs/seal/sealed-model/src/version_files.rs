//! Where the files of a fetched version come from.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    name::FileName,
    range_read::{FileRange, RangeRead},
};

/// The files of one version, in a folder or a store. Nothing that it answers is trusted.
pub trait VersionFiles: Send + Sync {
    /// The names of all files.
    fn names(&self) -> io::Result<Vec<FileName>>;

    /// Opens one file for reading in parts.
    fn open(&self, name: &FileName) -> io::Result<Box<dyn RangeRead>>;
}

/// The files of a folder.
#[derive(Clone, Debug)]
pub struct FolderFiles(PathBuf);

impl FolderFiles {
    /// The files of the folder `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl VersionFiles for FolderFiles {
    /// Everything in the folder counts: a subfolder or a name that is none is an error.
    fn names(&self) -> io::Result<Vec<FileName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            names.push(
                name.parse()
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
            );
        }
        Ok(names)
    }

    fn open(&self, name: &FileName) -> io::Result<Box<dyn RangeRead>> {
        let path = self.0.join(name.as_str());
        // A link could lead to another file at the next read.
        if !path.symlink_metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(Box::new(FileRange::new(File::open(path)?)?))
    }
}
