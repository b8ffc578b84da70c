//! Rotation: the same bodies under another KEK.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use sealift_sealed_model::{
    ContainerError, FetchedVersion, FolderFiles, MANIFEST_FILE, OpenedModel, RotateError,
    RotatedVersion, SIGNATURE_FILE, SealingKeys, VersionError, rotate_version,
};
use sealift_signed_document::{SecretBytes, SigningKey};

use crate::support::{LAYER, Sealed, TWO_THREADS, WEIGHTS, pin, sealed};

fn rotate(
    sealed: &Sealed,
    kek: &SecretBytes<32>,
    out: &Path,
) -> Result<RotatedVersion, RotateError> {
    let verified = sealed.fetch().unwrap().verify(&sealed.pinned).unwrap();
    let keys = SealingKeys {
        publish: &sealed.owner.publish,
        header: &sealed.owner.header,
    };
    rotate_version(&verified, kek, keys, out)
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
    let rotated = rotate(
        &sealed,
        &sealed.version.kek,
        &sealed.folder().with_file_name("new"),
    )
    .unwrap();
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
    let rotated = rotate(
        &sealed,
        &sealed.version.kek,
        &sealed.folder().with_file_name("new"),
    )
    .unwrap();
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
    let refusal = rotate(&sealed, &sealed.version.kek, &out)
        .map(drop)
        .unwrap_err();
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
    let rotated = rotate(&sealed, &sealed.version.kek, &out).unwrap();
    open(&sealed, &rotated, &rotated.kek).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_version_is_not_rotated_with_another_kek_or_header_key() {
    let mut sealed = sealed();
    let out = sealed.folder().with_file_name("new");
    let refusal = rotate(&sealed, &SecretBytes::random(), &out)
        .map(drop)
        .unwrap_err();
    let RotateError::Version(VersionError::Container { source, .. }) = &refusal else {
        panic!("refused elsewhere: {refusal:?}");
    };
    assert!(matches!(source, ContainerError::KeyUnwrap(_)));
    sealed.owner.header = SigningKey::generate();
    let refusal = rotate(&sealed, &sealed.version.kek, &out)
        .map(drop)
        .unwrap_err();
    assert!(matches!(refusal, RotateError::HeaderKey));
    assert!(!out.exists());
}

#[test]
fn a_rotated_version_is_rotated_again() {
    let sealed = sealed();
    let first = rotate(
        &sealed,
        &sealed.version.kek,
        &sealed.folder().with_file_name("r1"),
    )
    .unwrap();
    let pinned = pin(&sealed.owner, &first.manifest, first.manifest_sha256);
    let files = Arc::new(FolderFiles::new(&first.folder));
    let verified = FetchedVersion::new(files).unwrap().verify(&pinned).unwrap();
    let keys = SealingKeys {
        publish: &sealed.owner.publish,
        header: &sealed.owner.header,
    };
    let out = sealed.folder().with_file_name("r2");
    let second = rotate_version(&verified, &first.kek, keys, &out).unwrap();
    assert_eq!(second.manifest.revision, 2);
    open(&sealed, &second, &second.kek).unwrap();
}
