//! Files that hold a private key: made once, for their owner alone, and checked when read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Largest key file that is read; PKCS#8 keys have a few hundred bytes.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;

/// Why a key file was not written or not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file system said no.
    #[error("cannot {operation} the key file `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// Others can read or change the file.
    #[error("the key file `{}` has mode {mode:04o}; make it private: chmod 600 `{}`", path.display(), path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody else.
    #[error("the key file `{}` belongs to user {owner}, not to the user who runs this", path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// Not a key by its size.
    #[error("the key file `{}` is larger than any key", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Writes `bytes` to a new file of mode 0600 and makes it durable; an existing file is kept, and
/// nothing is left of one that could not be written whole.
///
/// # Errors
/// [`KeyFileError::Io`].
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let io = |operation| move |source| io_error(operation, path, source);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io("create"))?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder_of(path));
    written.map_err(|source| {
        // Half a key opens nothing, and would be in the way of the next attempt.
        drop(fs::remove_file(path));
        io_error("write", path, source)
    })
}

/// A new name is durable only with its folder.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Reads a key file that belongs to this user and to nobody else.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let io = |operation| move |source| io_error(operation, path, source);
    let mut file = File::open(path).map_err(io("open"))?;
    // The open file is examined, not the path, so that the path cannot be swapped in between.
    let metadata = file.metadata().map_err(io("examine"))?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::NotPrivate {
            path: path.to_owned(),
            mode,
        });
    }
    let own = File::open("/proc/self")
        .and_then(|own| own.metadata())
        .map_err(io("examine"))?;
    if metadata.uid() != own.uid() {
        return Err(KeyFileError::ForeignOwner {
            path: path.to_owned(),
            owner: metadata.uid(),
        });
    }
    if metadata.len() > MAX_KEY_FILE_BYTES {
        return Err(KeyFileError::TooLarge {
            path: path.to_owned(),
        });
    }
    // Reserved in full, so that no growing buffer leaves copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.read_to_end(&mut bytes).map_err(io("read"))?;
    Ok(bytes)
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_private_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_new(&path, b"one").unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(matches!(
            write_new(&path, b"two"),
            Err(KeyFileError::Io { .. })
        ));
        assert_eq!(read(&path).unwrap().as_slice(), b"one");
    }

    #[test]
    fn a_key_that_the_group_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_new(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read(&path),
            Err(KeyFileError::NotPrivate { mode: 0o640, .. })
        ));
    }

    #[test]
    fn an_unwritable_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = write_new(&file.join("key"), b"one").unwrap_err();
        assert!(error.to_string().contains("file/key"), "{error}");
    }
}
