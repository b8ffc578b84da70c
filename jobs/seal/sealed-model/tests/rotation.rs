//! Rotation: the same bodies under another KEK.

use std::{collections::BTreeMap, fs, ops::Deref, path::Path, sync::Arc};

use sealift_sealed_model::{
    ContainerError, FetchedVersion, FolderFiles, MANIFEST_FILE, OpenedModel, PinnedVersion,
    RotateError, RotatedVersion, Rotation, SIGNATURE_FILE, SealingKeys, VersionError,
};
use sealift_signed_document::{SecretBytes, SigningKey};
use sealift_wrapped_key::{Kek, WrappedKeys};

use crate::support::{LAYER, Sealed, TWO_THREADS, WEIGHTS, pin, sealed};

/// A rotated version and its KEK, which the key manager draws in earnest.
struct Rotated {
    version: RotatedVersion,
    kek: SecretBytes<32>,
}

impl Deref for Rotated {
    type Target = RotatedVersion;

    fn deref(&self) -> &RotatedVersion {
        &self.version
    }
}

/// Rotates the version in `folder` that `kek` opens.
fn rotate_folder(
    (sealed, folder): (&Sealed, &Path),
    pinned: &PinnedVersion,
    kek: &SecretBytes<32>,
    out: &Path,
) -> Result<Rotated, RotateError> {
    let files = Arc::new(FolderFiles::new(folder));
    let verified = FetchedVersion::new(files).unwrap().verify(pinned).unwrap();
    let keys = SealingKeys {
        publish: &sealed.owner.publish,
        header: &sealed.owner.header,
    };
    let (rotation, next) = (Rotation::read(&verified)?, SecretBytes::random());
    let wrapped = rotation.wrapped_keys()?;
    let rewrapped = wrapped.rewrap(&Kek::new(kek), &Kek::new(&next)).unwrap();
    let version = rotation.write(&rewrapped, keys, out)?;
    Ok(Rotated { version, kek: next })
}

fn rotate(sealed: &Sealed, out: &Path) -> Result<Rotated, RotateError> {
    let from = (sealed, sealed.folder());
    rotate_folder(from, &sealed.pinned, &sealed.version.kek, out)
}

fn open(
    sealed: &Sealed,
    rotated: &RotatedVersion,
    kek: &SecretBytes<32>,
) -> Result<OpenedModel, VersionError> {
    let pinned = pin(&sealed.owner, &rotated.manifest, rotated.manifest_sha256);
    FetchedVersion::new(Arc::new(FolderFiles::new(&rotated.folder)))?
        .verify(&pinned)?
        .open(kek, TWO_THREADS)
}

fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

fn body_of(file: &[u8]) -> &[u8] {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    &file[8 + header..]
}

#[test]
fn a_rotated_version_opens_to_the_same_tensors_under_the_new_kek_alone() {
    let sealed = sealed();
    let rotated = rotate(&sealed, &sealed.folder().with_file_name("new")).unwrap();
    let before = sealed.open().unwrap();
    let after = open(&sealed, &rotated, &rotated.kek).unwrap();
    assert_eq!(after.tensors().count(), before.tensors().count());
    for (old, new) in before.tensors().zip(after.tensors()) {
        assert_eq!((old.facts, old.bytes), (new.facts, new.bytes));
    }
    let refusal = open(&sealed, &rotated, &sealed.version.kek)
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(
            &refusal,
            VersionError::Container {
                source: ContainerError::KeyUnwrap(_),
                ..
            }
        ),
        "{refusal:?}"
    );
    let old_folder = sealed.fetch().unwrap().verify(&sealed.pinned).unwrap();
    assert!(old_folder.open(&rotated.kek, TWO_THREADS).is_err());
}

#[test]
fn rotation_changes_headers_of_sealed_files_manifest_and_signature_and_nothing_else() {
    let sealed = sealed();
    let rotated = rotate(&sealed, &sealed.folder().with_file_name("new")).unwrap();
    let (old, new) = (content(sealed.folder()), content(&rotated.folder));
    assert!(old.keys().eq(new.keys()));
    let changed: Vec<_> = old.keys().filter(|name| old[*name] != new[*name]).collect();
    assert_eq!(changed, [MANIFEST_FILE, WEIGHTS, SIGNATURE_FILE]);
    assert_eq!(
        body_of(&old[WEIGHTS]),
        body_of(&new[WEIGHTS]),
        "body bytes are identical"
    );
    assert_eq!(old[LAYER], new[LAYER]);
    assert_eq!(
        rotated.manifest.revision,
        sealed.version.manifest.revision + 1
    );
    assert_eq!(rotated.manifest.serial, sealed.version.manifest.serial);
}

#[test]
fn a_rotation_that_fails_in_between_leaves_the_old_version_and_no_new_one() {
    let sealed = sealed();
    let out = sealed.folder().with_file_name("new");
    let mut weights = sealed.read(WEIGHTS);
    *weights.last_mut().unwrap() ^= 1;
    sealed.write(WEIGHTS, &weights);
    let before = content(sealed.folder());
    let refusal = rotate(&sealed, &out).map(drop).unwrap_err();
    assert!(
        matches!(&refusal, RotateError::Version(VersionError::Changed(_))),
        "{refusal:?}"
    );
    assert_eq!(content(sealed.folder()), before);
    let beside: Vec<_> = fs::read_dir(out.parent().unwrap())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(beside.len(), 1, "only the old version is there");
}

#[test]
fn what_a_killed_rotation_left_does_not_hinder_the_next() {
    let sealed = sealed();
    let out = sealed.folder().with_file_name("new");
    let left = sealed.folder().with_file_name(".new.part-0011223344556677");
    fs::create_dir(&left).unwrap();
    fs::write(left.join(WEIGHTS), b"half").unwrap();
    sealed.open().unwrap();
    let rotated = rotate(&sealed, &out).unwrap();
    open(&sealed, &rotated, &rotated.kek).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_version_is_not_rotated_with_another_header_key() {
    let mut sealed = sealed();
    let out = sealed.folder().with_file_name("new");
    sealed.owner.header = SigningKey::generate();
    let refusal = rotate(&sealed, &out).map(drop).unwrap_err();
    assert!(matches!(refusal, RotateError::HeaderKey));
    assert!(!out.exists());
}

#[test]
fn a_version_is_not_rotated_with_more_or_fewer_keys_than_it_has() {
    let sealed = sealed();
    let out = sealed.folder().with_file_name("new");
    let verified = sealed.fetch().unwrap().verify(&sealed.pinned).unwrap();
    let keys = Rotation::read(&verified).unwrap().wrapped_keys().unwrap();
    let (count, mut more) = (keys.keys().len(), keys.keys().to_vec());
    let fewer = more[1..].to_vec();
    more.push(more[0].clone());
    for other in [fewer, more] {
        let rewrapped = WrappedKeys::new(other).unwrap();
        let signing = SealingKeys {
            publish: &sealed.owner.publish,
            header: &sealed.owner.header,
        };
        let rotation = Rotation::read(&verified).unwrap();
        let refusal = rotation.write(&rewrapped, signing, &out).map(drop);
        assert!(
            matches!(refusal, Err(RotateError::OtherKeys { expected, .. }) if expected == count),
            "{refusal:?}"
        );
        assert!(!out.exists());
    }
}

#[test]
fn a_rotated_version_is_rotated_again() {
    let sealed = sealed();
    let first = rotate(&sealed, &sealed.folder().with_file_name("r1")).unwrap();
    let pinned = pin(&sealed.owner, &first.manifest, first.manifest_sha256);
    let out = sealed.folder().with_file_name("r2");
    let second = rotate_folder((&sealed, &first.folder), &pinned, &first.kek, &out).unwrap();
    assert_eq!(second.manifest.revision, 2);
    open(&sealed, &second, &second.kek).unwrap();
}
