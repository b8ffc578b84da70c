//! PyPI's `kserve-storage`, the code that a confidential KServe runs, decrypts what is exported
//! for it; and what it does not notice, the signature beside it does.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use sealift_sealed_model::{FolderFiles, KserveExportError, PublishKey, export_kserve_jwe};
use sealift_signed_document::SecretBytes;

use crate::{
    kserve_guest::decrypt,
    stock_tools::{said, verify_folder},
    support::{safetensors_file, tiny_tensors},
};

const RESOURCE: &str = "kbs:///tiny/v1/kserve";

/// A plain model and its export.
struct Exported {
    folder: tempfile::TempDir,
    publish: PublishKey,
    key: SecretBytes<32>,
}

fn plain() -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([
        ("config.json".to_owned(), b"{\"layers\":1}".to_vec()),
        ("labels.json".to_owned(), b"[\"no\",\"yes\"]".to_vec()),
        (
            "model.safetensors".to_owned(),
            safetensors_file(&tiny_tensors()),
        ),
    ])
}

fn export(files: &BTreeMap<String, Vec<u8>>) -> Result<Exported, KserveExportError> {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::create_dir(&plain).unwrap();
    for (name, bytes) in files {
        fs::write(plain.join(name), bytes).unwrap();
    }
    let publish = PublishKey::generate();
    let (model, resource) = ("tiny".parse().unwrap(), RESOURCE.parse().unwrap());
    let export = export_kserve_jwe(
        &FolderFiles::new(&plain),
        (&model, &resource),
        &publish,
        &folder.path().join("exported"),
    )?;
    let key = SecretBytes::from_slice(export.key().expose()).unwrap();
    export.finish()?;
    Ok(Exported {
        folder,
        publish,
        key,
    })
}

impl Exported {
    fn path(&self) -> PathBuf {
        self.folder.path().join("exported")
    }

    /// Has KServe decrypt the folder in place, with `key` at [`RESOURCE`].
    fn decrypt(&self, key: &SecretBytes<32>) -> Output {
        decrypt(&self.path(), RESOURCE, key.expose())
    }

    fn verify(&self) -> Output {
        let key = self.folder.path().join("publish.pem");
        fs::write(&key, self.publish.public().to_pem()).unwrap();
        verify_folder(&self.path(), &key)
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn kserve_decrypts_what_is_exported_for_it() {
    let exported = export(&plain()).unwrap();
    let names: Vec<_> = files(&exported.path()).into_keys().collect();
    assert_eq!(
        names,
        [
            "config.json.jwe",
            "labels.json.jwe",
            "model.safetensors.jwe",
            "model.sig"
        ]
    );
    let output = exported.decrypt(&exported.key);
    assert!(output.status.success(), "{}", said(&output));
    let mut decrypted = files(&exported.path());
    assert!(decrypted.remove("model.sig").is_some());
    assert_eq!(decrypted, plain());
}

#[test]
fn no_plain_byte_is_exported() {
    let exported = export(&plain()).unwrap();
    let weights = safetensors_file(&tiny_tensors());
    for (name, bytes) in files(&exported.path()) {
        let found = bytes.windows(16).any(|window| weights[200..216] == *window);
        assert!(!found, "{name}");
    }
}

#[test]
fn kserve_refuses_a_changed_file_and_another_key() {
    let exported = export(&plain()).unwrap();
    assert!(!exported.decrypt(&SecretBytes::random()).status.success());
    let path = exported.path().join("model.safetensors.jwe");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    fs::write(&path, bytes).unwrap();
    assert!(!exported.decrypt(&exported.key).status.success());
}

/// KServe takes two files in each other's place, and a plain one where an encrypted one belongs.
#[test]
fn what_kserve_does_not_notice_the_signature_does() {
    type Spoil = fn(&Path);
    let spoil: [Spoil; 2] = [
        |folder| {
            let [one, two] = ["config.json.jwe", "labels.json.jwe"].map(|name| folder.join(name));
            let (first, second) = (fs::read(&one).unwrap(), fs::read(&two).unwrap());
            fs::write(one, second).unwrap();
            fs::write(two, first).unwrap();
        },
        |folder| {
            fs::remove_file(folder.join("config.json.jwe")).unwrap();
            fs::write(folder.join("config.json"), b"{\"layers\":2}").unwrap();
        },
    ];
    for spoil in spoil {
        let exported = export(&plain()).unwrap();
        assert!(exported.verify().status.success());
        spoil(&exported.path());
        assert!(!exported.verify().status.success());
        assert!(exported.decrypt(&exported.key).status.success());
    }
}

#[test]
fn a_file_that_kserve_would_take_for_another_is_not_exported() {
    let mut files = plain();
    files.insert("config.json.jwe".to_owned(), Vec::new());
    let refused = export(&files).map(drop).unwrap_err();
    assert!(
        matches!(refused, KserveExportError::FileName(_)),
        "{refused:?}"
    );
}

#[test]
fn an_empty_file_is_not_exported_because_kserve_cannot_decrypt_one() {
    let mut files = plain();
    files.insert("merges.txt".to_owned(), Vec::new());
    let refused = export(&files).map(drop).unwrap_err();
    assert!(
        matches!(refused, KserveExportError::Empty(_)),
        "{refused:?}"
    );
}

#[test]
fn a_folder_without_files_is_not_exported() {
    let refused = export(&BTreeMap::new()).map(drop).unwrap_err();
    assert!(matches!(refused, KserveExportError::NoFiles), "{refused:?}");
}

#[test]
fn nothing_is_left_of_an_export_that_is_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::create_dir(&plain).unwrap();
    fs::write(plain.join("config.json"), b"{}").unwrap();
    let export = export_kserve_jwe(
        &FolderFiles::new(&plain),
        (&"tiny".parse().unwrap(), &RESOURCE.parse().unwrap()),
        &PublishKey::generate(),
        &folder.path().join("exported"),
    );
    let count = || fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(count(), 2);
    drop(export.unwrap());
    assert_eq!(count(), 1);
}

#[test]
fn two_exports_of_one_model_share_no_key() {
    let (one, two) = (export(&plain()).unwrap(), export(&plain()).unwrap());
    assert!(one.key != two.key);
    let exported = |exported: &Exported| files(&exported.path());
    for (name, bytes) in exported(&one) {
        assert_ne!(bytes, exported(&two)[&name], "{name}");
    }
}
