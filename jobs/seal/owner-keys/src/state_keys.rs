//! The key that the key manager's records are encrypted under, and how another one takes its place.
//!
//! While it is being changed there are two files, because a process that is killed cannot know
//! whether the key manager had taken the new key: `state-key.next` is there before it is sent, and
//! stays until it is known which of the two opens the records. Then the other one is destroyed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use sealift_signed_document::{
    SecretBytes,
    key_file::{self, KeyFileError},
};

use crate::{KeysError, OwnerKeys};

const CURRENT: &str = "state-key";
const NEXT: &str = "state-key.next";

/// Which of two state keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateKey {
    /// The one that was there before.
    Current,
    /// The one that may have taken its place.
    Next,
}

impl OwnerKeys {
    /// The keys that the records may be encrypted under, the likelier one first.
    pub(crate) fn state_keys(&self) -> Result<Vec<(StateKey, SecretBytes<32>)>, KeysError> {
        let mut keys = Vec::new();
        if self.folder().join(NEXT).exists() {
            keys.push((StateKey::Next, self.read_state_key(NEXT)?));
        }
        // Overwritten while it was destroyed, it is still a key by its form, and opens nothing.
        keys.push((StateKey::Current, self.read_state_key(CURRENT)?));
        Ok(keys)
    }

    /// The key that is to take the place of the current one, durable before anybody is sent it.
    /// Asked again it is the same one, because the key manager may have taken it.
    pub(crate) fn next_state_key(&self) -> Result<SecretBytes<32>, KeysError> {
        let path = self.folder().join(NEXT);
        if !path.exists() {
            let key = SecretBytes::<32>::random();
            // Under its own name only once it is whole.
            let beside = path.with_extension("unfinished");
            remove(&beside)?;
            key_file::write_new(&beside, key.expose())?;
            fs::rename(&beside, &path).map_err(failed("rename", &beside))?;
            sync_folder(self.folder())?;
        }
        self.read_state_key(NEXT)
    }

    /// Keeps the key that opens the records, and destroys the other one, if there is one.
    ///
    /// The file is overwritten before it is removed. What the disk keeps beyond that (copies by
    /// the file system, flash memory, backups) is out of reach.
    pub(crate) fn settle_state_key(&self, opens: StateKey) -> Result<(), KeysError> {
        let (current, next) = (self.folder().join(CURRENT), self.folder().join(NEXT));
        if !next.exists() {
            return Ok(());
        }
        match opens {
            StateKey::Current => {
                overwrite(&next)?;
                remove(&next)?;
            }
            StateKey::Next => {
                overwrite(&current)?;
                fs::rename(&next, &current).map_err(failed("replace", &current))?;
            }
        }
        sync_folder(self.folder())
    }

    fn read_state_key(&self, name: &str) -> Result<SecretBytes<32>, KeysError> {
        let path = self.folder().join(name);
        let bytes = key_file::read(&path)?;
        SecretBytes::from_slice(&bytes).ok_or(KeysError::NotAKey { path })
    }
}

fn overwrite(path: &Path) -> Result<(), KeysError> {
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(failed("overwrite", path))?;
    file.write_all(&[0; 32])
        .and_then(|()| file.sync_all())
        .map_err(failed("overwrite", path))
}

fn remove(path: &Path) -> Result<(), KeysError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(failed("remove", path)),
    }
}

fn sync_folder(folder: &Path) -> Result<(), KeysError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync", folder))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeysError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| {
        KeysError::File(KeyFileError::Io {
            operation,
            path,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (tempfile::TempDir, OwnerKeys) {
        let folder = tempfile::tempdir().unwrap();
        let keys = OwnerKeys::create(&folder.path().join("owner"), 1_800_000_000).unwrap();
        (folder, keys)
    }

    #[test]
    fn the_next_state_key_stays_the_same_until_it_is_settled() {
        let (_folder, keys) = keys();
        let current = keys.state_key().unwrap();
        let next = keys.next_state_key().unwrap();
        assert!(next != current && keys.next_state_key().unwrap() == next);
        let candidates = keys.state_keys().unwrap();
        assert!(candidates[0] == (StateKey::Next, next.clone()));
        assert!(candidates[1] == (StateKey::Current, current));
        keys.settle_state_key(StateKey::Next).unwrap();
        assert!(keys.state_key().unwrap() == next);
        assert_eq!(keys.state_keys().unwrap().len(), 1);
    }

    #[test]
    fn a_next_state_key_that_was_never_taken_is_destroyed() {
        let (_folder, keys) = keys();
        let current = keys.state_key().unwrap();
        let next = keys.next_state_key().unwrap();
        keys.settle_state_key(StateKey::Current).unwrap();
        assert!(keys.state_key().unwrap() == current);
        assert!(keys.next_state_key().unwrap() != next);
    }

    /// Killed after the old key was overwritten and before the new one had its place.
    #[test]
    fn a_state_key_that_was_half_destroyed_leaves_the_next_one() {
        let (_folder, keys) = keys();
        let next = keys.next_state_key().unwrap();
        overwrite(&keys.folder().join(CURRENT)).unwrap();
        assert!(keys.state_keys().unwrap()[0].1 == next);
        keys.settle_state_key(StateKey::Next).unwrap();
        assert!(keys.state_key().unwrap() == next);
    }

    #[test]
    fn no_byte_of_a_destroyed_state_key_stays_in_its_file() {
        let (folder, keys) = keys();
        let path = keys.folder().join(CURRENT);
        // A second name for the same file, as a look at the disk would be.
        let seen = folder.path().join("seen");
        fs::hard_link(&path, &seen).unwrap();
        keys.next_state_key().unwrap();
        keys.settle_state_key(StateKey::Next).unwrap();
        assert_eq!(fs::read(seen).unwrap(), [0; 32]);
    }
}
