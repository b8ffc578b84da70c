//! PyPI's `kserve-storage`, the code that a confidential KServe runs, decrypts what is exported
//! for it; and what it does not notice, the signature beside it does.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use sealift_sealed_model::{FolderFiles, KserveExportError, PublishKey, export_kserve_jwe};
use sealift_signed_document::SecretBytes;

use crate::{
    interop::{python, said, verify_folder},
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
    let out = folder.path().join("exported");
    let key = export_kserve_jwe(
        &FolderFiles::new(&plain),
        (&model, &resource),
        &publish,
        &out,
    )?;
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
        Command::new(python())
            .args([
                "-m",
                "kserve_storage.confidential.cli",
                "--resource-id",
                RESOURCE,
            ])
            .arg("--source-dir")
            .arg(self.path())
            .env("CDH_ADDR", data_hub(key.expose()))
            .output()
            .unwrap()
    }

    fn verify(&self) -> Output {
        let key = self.folder.path().join("publish.pem");
        fs::write(&key, self.publish.public().to_pem()).unwrap();
        verify_folder(&self.path(), &key)
    }
}

/// A Confidential Data Hub that has one resource, on a loopback port, until the test ends.
fn data_hub(key: &[u8; 32]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let key = *key;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request = lines.next().unwrap();
            // The request has no body: it ends with an empty line.
            drop(lines.find(String::is_empty));
            let (status, body): (_, &[u8]) = match request.as_str() {
                "GET /cdh/resource/tiny/v1/kserve HTTP/1.1" => ("200 OK", &key),
                _ => ("404 Not Found", b""),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    address
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
fn two_exports_of_one_model_share_no_key() {
    let (one, two) = (export(&plain()).unwrap(), export(&plain()).unwrap());
    assert!(one.key != two.key);
    let exported = |exported: &Exported| files(&exported.path());
    for (name, bytes) in exported(&one) {
        assert_ne!(bytes, exported(&two)[&name], "{name}");
    }
}
