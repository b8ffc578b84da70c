//! What has to be found again after a power cut: whole, or as it was before.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use crate::failure::Failure;

/// Makes the folder `path` (mode 0700) if it is not there.
pub(crate) fn make_folder(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| sync_folder_of(path))
        .map_err(|source| Failure::unwritable(path, source))
}

/// Puts `bytes` (mode 0600) in the place of whatever `path` held.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let beside = path.with_extension("unfinished");
    let write = || {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder_of(path)
    };
    write().map_err(|source| {
        // What cannot be removed now is truncated by the next attempt.
        drop(fs::remove_file(&beside));
        Failure::unwritable(path, source)
    })
}

/// A new name is durable only with its folder.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("stores");
        make_folder(&inner).unwrap();
        make_folder(&inner).unwrap();
        let path = inner.join("run");
        replace(&path, b"a longer text than the next").unwrap();
        replace(&path, b"file:///store").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"file:///store");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(names(&inner), ["run"]);
    }

    #[test]
    fn nothing_is_left_of_what_could_not_be_put_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        fs::create_dir(&path).unwrap();
        let failure = replace(&path, b"file:///store").unwrap_err();
        assert!(failure.to_string().contains("/run`"), "{failure}");
        assert_eq!(names(folder.path()), ["run"]);
    }
}
