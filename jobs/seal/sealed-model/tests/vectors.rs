//! Versions that were written once and have to open for ever.

use std::{fs, path::Path, sync::Arc};

use crate::support::{TWO_THREADS, tiny_tensors};
use base64::{Engine, engine::general_purpose::STANDARD};
use sealift_sealed_model::{FetchedVersion, FolderFiles, PinnedVersion, PublishVerifyingKey};
use sealift_signed_document::SecretBytes;
use serde_json::Value;

fn opens(vector: &str, with_head: bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(vector);
    let keys: Value = serde_json::from_slice(&fs::read(path.join("keys.json")).unwrap()).unwrap();
    let text = |member: &str| keys[member].as_str().unwrap();
    let bytes = |member| STANDARD.decode(text(member)).unwrap();
    let pinned = PinnedVersion {
        publish_key: PublishVerifyingKey::from_spki_der(&bytes("publish_key")).unwrap(),
        manifest_sha256: text("manifest_sha256").parse().unwrap(),
        model: text("model").parse().unwrap(),
        version: text("version").parse().unwrap(),
        serial: keys["serial"].as_u64().unwrap(),
    };
    let files = Arc::new(FolderFiles::new(&path.join("folder")));
    let verified = FetchedVersion::new(files).unwrap().verify(&pinned).unwrap();
    verified.check_files().unwrap();
    let kek = SecretBytes::from_slice(&bytes("kek")).unwrap();
    let mut opened = verified.open(&kek, TWO_THREADS).unwrap();
    for (name, _, _, bytes) in tiny_tensors() {
        if !name.starts_with("head") {
            assert_eq!(opened.tensor(name).unwrap().bytes, bytes, "{name}");
        }
    }
    assert_eq!(opened.take_layer("head").is_some(), with_head);
}

#[test]
fn a_version_of_format_1_opens() {
    opens("format-1", true);
}

#[test]
fn a_version_whose_tensors_cryptotensors_sealed_opens() {
    opens("cryptotensors-0.2.3", false);
}
