//! The age test kit against both halves: header with an identity, payload with a file key.

use sealift_encrypted_batch::{
    AgeHeader, AgeIdentity, FileKey, HeaderError, UnwrapError, open_payload, unwrap_header,
};
use sealift_signed_document::Digest;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    name: String,
    expect: String,
    payload_sha256: Option<Digest>,
    file_key: String,
    identities: Vec<String>,
    file: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Hex(String),
    Zeros(usize),
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        let mut file = Vec::new();
        for part in &self.file {
            match part {
                Part::Hex(text) => file.extend(hex::decode(text).unwrap()),
                Part::Zeros(count) => file.resize(file.len() + count, 0),
            }
        }
        file
    }

    fn key(&self) -> FileKey {
        FileKey::from_bytes(hex::decode(&self.file_key).unwrap().try_into().unwrap())
    }
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("c2sp-age-testkit.json");
    serde_json::from_str(text).unwrap()
}

/// What the key manager's half says to a vector, for each of its identities.
fn unwrap(vector: &Vector) -> Vec<Result<FileKey, UnwrapError>> {
    let file = vector.bytes();
    let (header, _) = match AgeHeader::parse_prefix(&file) {
        Ok(parsed) => parsed,
        Err(refused) => return vec![Err(UnwrapError::Header(refused))],
    };
    let identities = vector.identities.iter();
    identities
        .map(|text| AgeIdentity::from_secret_text(text).unwrap())
        .map(|identity| unwrap_header(header.as_bytes(), &identity))
        .collect()
}

#[test]
fn every_vector_whose_header_must_fail_gives_no_file_key() {
    let mut checked = 0;
    for vector in vectors() {
        let bad_header = ["header failure", "HMAC failure", "no match"];
        // The nonce is part of the payload here and of the header in the test kit.
        if !bad_header.contains(&vector.expect.as_str()) || vector.name.ends_with("nonce") {
            continue;
        }
        checked += 1;
        for result in unwrap(&vector) {
            assert!(result.is_err(), "{} gave a file key", vector.name);
        }
    }
    assert_eq!(checked, 57);
}

#[test]
fn every_vector_with_x25519_stanzas_alone_gives_its_file_key() {
    let mut opened = Vec::new();
    for vector in vectors().iter().filter(|v| v.expect == "success") {
        for result in unwrap(vector) {
            match result {
                Ok(key) => {
                    assert!(key == vector.key(), "{} gave another key", vector.name);
                    opened.push(vector.name.clone());
                }
                Err(UnwrapError::Header(HeaderError::ForeignStanza(_))) => {}
                Err(other) => panic!("{}: {other}", vector.name),
            }
        }
    }
    assert_eq!(
        opened,
        [
            "stream_257_chunks",
            "stream_257_chunks_full",
            "stream_258_chunks",
            "stream_empty_payload",
            "stream_last_chunk_full",
            "stream_last_chunk_full_second",
            "stream_three_chunks",
            "stream_two_chunks",
            "x25519",
            "x25519_multiple_recipients",
        ]
    );
}

#[test]
fn every_payload_opens_or_fails_as_the_test_kit_says() {
    let (mut good, mut bad) = (0, 0);
    for vector in vectors() {
        let file = vector.bytes();
        let Ok((_, payload)) = AgeHeader::parse_prefix(&file) else {
            continue;
        };
        let opened = open_payload(&vector.key(), payload);
        match vector.expect.as_str() {
            "success" => {
                let plain = opened.unwrap_or_else(|e| panic!("{}: {e}", vector.name));
                assert_eq!(
                    Some(Digest::of(&plain)),
                    vector.payload_sha256,
                    "{}",
                    vector.name
                );
                good += 1;
            }
            "payload failure" => {
                assert!(opened.is_err(), "{} opened", vector.name);
                bad += 1;
            }
            "header failure" if vector.name.ends_with("nonce") => {
                assert!(opened.is_err(), "{} opened", vector.name);
            }
            _ => {}
        }
    }
    assert_eq!((good, bad), (10, 18));
}
