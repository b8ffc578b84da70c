//! The state folder of one engine: whose it is, who may read it, and that one engine has it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    process::geteuid,
};
use sealift_run::RunId;

/// Longest text of a process id.
const MAX_PID_BYTES: u64 = 20;

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another engine has it.
    #[error("another engine, process {pid}, works in {folder}; stop it with `sealift stop`", folder = .folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The other engine's process, as it wrote it down (`?` if it has not yet).
        pid: String,
    },
    /// It belongs to somebody else.
    #[error("{folder} belongs to another user; choose another folder with --state", folder = .0.display())]
    ForeignOwner(PathBuf),
    /// Others may look into it.
    #[error("{folder} is open to other users; run `chmod 700` on it", folder = .0.display())]
    TooOpen(PathBuf),
    /// It is not a folder.
    #[error("{folder} is not a folder; choose another with --state", folder = .0.display())]
    NotAFolder(PathBuf),
    /// The system refused.
    #[error("could not {operation} {path}", path = .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A state folder that this process alone works in, until it is dropped.
///
/// The lock is the kernel's, so it ends with the process, however that ends.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    lock: File,
}

impl StateFolder {
    /// Makes the folder if it is not there (0700), checks it, and takes it.
    ///
    /// # Errors
    /// [`FolderError`]; of another engine, [`FolderError::InUse`].
    pub fn lock(path: &Path) -> Result<Self, FolderError> {
        make_private(path)?;
        let path = path.canonicalize().map_err(io_error("resolve", path))?;
        let pid_path = path.join("engine.pid");
        let mut lock = private_file(&pid_path).map_err(io_error("open", &pid_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = read_pid(&mut lock).unwrap_or_else(|_| "?".to_owned());
                return Err(FolderError::InUse { folder: path, pid });
            }
            Err(errno) => return Err(io_error("lock", &pid_path)(errno.into())),
        }
        write_pid(&mut lock).map_err(io_error("write", &pid_path))?;
        Ok(Self { path, lock })
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The engine's database in a state folder.
    pub fn database_in(folder: &Path) -> PathBuf {
        folder.join("engine.sqlite")
    }

    /// The engine's socket in a state folder.
    pub fn socket_in(folder: &Path) -> PathBuf {
        folder.join("engine.sock")
    }

    /// The folder in which the jobs of a run leave files for each other.
    pub fn artifacts(&self, run: &RunId) -> PathBuf {
        self.path.join("artifacts").join(run.as_str())
    }

    /// Makes [`artifacts`](Self::artifacts) (0700) if it is not there.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn make_artifacts(&self, run: &RunId) -> Result<PathBuf, FolderError> {
        let path = self.artifacts(run);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(io_error("make", &path))?;
        Ok(path)
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // The file stays, empty: removing it would let two engines lock two files of one name.
        drop(self.lock.set_len(0));
    }
}

/// Makes the file if it is not there, readable by its owner alone, following no link.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
}

fn make_private(path: &Path) -> Result<(), FolderError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(io_error("make", path))?;
    let meta = fs::metadata(path).map_err(io_error("read", path))?;
    if !meta.is_dir() {
        return Err(FolderError::NotAFolder(path.to_owned()));
    }
    if meta.uid() != geteuid().as_raw() {
        return Err(FolderError::ForeignOwner(path.to_owned()));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(FolderError::TooOpen(path.to_owned()));
    }
    Ok(())
}

fn read_pid(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.take(MAX_PID_BYTES).read_to_string(&mut text)?;
    let pid = text.trim();
    Ok(if pid.is_empty() { "?" } else { pid }.to_owned())
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn io_error(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> FolderError {
    move |source| FolderError::Io {
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
    fn a_second_engine_is_refused_and_told_who_has_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateFolder::lock(&path).unwrap();
        let refused = StateFolder::lock(&path).unwrap_err();
        let own = std::process::id().to_string();
        assert!(
            matches!(&refused, FolderError::InUse { pid, .. } if *pid == own),
            "{refused}"
        );
        drop(first);
        StateFolder::lock(&path).unwrap();
    }

    #[test]
    fn a_folder_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(
            StateFolder::lock(&path),
            Err(FolderError::TooOpen(_))
        ));
    }

    #[test]
    fn a_new_folder_and_its_files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::lock(&dir.path().join("a/state")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.path().join("engine.pid")), 0o600);
        let artifacts = folder.make_artifacts(&"r1".parse().unwrap()).unwrap();
        assert_eq!(mode(&artifacts), 0o700);
    }

    #[test]
    fn a_path_below_a_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = StateFolder::lock(&file.join("state")).unwrap_err();
        assert!(error.to_string().contains("state"), "{error}");
    }
}
