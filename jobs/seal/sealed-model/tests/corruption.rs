//! Every truncation and every single changed byte of a small version is refused.

use std::{collections::BTreeMap, io, num::NonZeroUsize, sync::Arc};

use crate::support::sealed;
use sealift_sealed_model::{
    FetchedVersion, FileName, OpenedModel, PinnedVersion, RangeRead, VersionError, VersionFiles,
};
use sealift_signed_document::SecretBytes;

/// A version in memory.
#[derive(Clone)]
struct Files(BTreeMap<FileName, Vec<u8>>);

impl VersionFiles for Files {
    fn names(&self) -> io::Result<Vec<FileName>> {
        Ok(self.0.keys().cloned().collect())
    }

    fn open(&self, name: &FileName) -> io::Result<Box<dyn RangeRead>> {
        let bytes = self.0.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(bytes.clone()))
    }
}

struct Case {
    files: Files,
    pinned: PinnedVersion,
    kek: SecretBytes<32>,
}

fn case() -> Case {
    let sealed = sealed();
    let files = std::fs::read_dir(sealed.folder())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_str().unwrap().parse().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    Case {
        files: Files(files),
        pinned: sealed.pinned.clone(),
        kek: sealed.version.kek.clone(),
    }
}

impl Case {
    /// Reads everything that a guest reads.
    fn use_all(&self, files: Files) -> Result<OpenedModel, VersionError> {
        let verified = FetchedVersion::new(Arc::new(files))?.verify(&self.pinned)?;
        verified.read_file("config.json")?;
        verified.read_file("model.safetensors.index.json")?;
        verified.read_file("protection-report.json")?;
        verified.open(&self.kek, NonZeroUsize::MIN)
    }
}

#[test]
fn a_version_with_one_byte_changed_anywhere_is_refused() {
    let case = case();
    case.use_all(case.files.clone()).unwrap();
    for (name, bytes) in &case.files.0 {
        for at in 0..bytes.len() {
            let change = 1 << (at % 8);
            let mut files = case.files.clone();
            files.0.get_mut(name).unwrap()[at] ^= change;
            assert!(
                case.use_all(files).is_err(),
                "`{name}` byte {at} ^ {change:#x}"
            );
        }
    }
}

#[test]
fn a_version_with_one_file_truncated_anywhere_is_refused() {
    let case = case();
    for (name, bytes) in &case.files.0 {
        for length in 0..bytes.len() {
            let mut files = case.files.clone();
            files.0.get_mut(name).unwrap().truncate(length);
            assert!(case.use_all(files).is_err(), "`{name}` cut to {length}");
        }
    }
}

#[test]
fn a_version_with_something_appended_to_one_file_is_refused() {
    let case = case();
    for name in case.files.0.keys() {
        for more in [b" ".as_slice(), b"\0", b"\n", b"}"] {
            let mut files = case.files.clone();
            files.0.get_mut(name).unwrap().extend(more);
            assert!(case.use_all(files).is_err(), "`{name}` with {more:?}");
        }
    }
}

#[test]
fn two_files_in_each_others_place_are_refused() {
    let case = case();
    let names: Vec<&FileName> = case.files.0.keys().collect();
    for (index, one) in names.iter().enumerate() {
        for two in &names[index + 1..] {
            let mut files = case.files.clone();
            let (first, second) = (files.0[*one].clone(), files.0[*two].clone());
            files.0.insert((*one).clone(), second);
            files.0.insert((*two).clone(), first);
            assert!(case.use_all(files).is_err(), "`{one}` and `{two}`");
        }
    }
}
