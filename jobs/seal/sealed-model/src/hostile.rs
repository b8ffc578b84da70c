//! What must hold of the parsers whatever bytes they are given: no panic, and nothing accepted
//! that breaks its own rules. The fuzz targets in `tests/fuzz` and the replay of their corpus in
//! this crate's tests call the same functions.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic where a rule is broken is their purpose"
)]

use crate::{
    container::{
        ChunkSize,
        metadata::{encryption, parse_encryption},
    },
    header::{Header, to_json},
    manifest::Manifest,
    tensor_key::{TAG_BYTES, chunk_iv},
};

/// A tensor file's header: what is accepted covers the file exactly and survives being written.
pub fn header(bytes: &[u8]) {
    let Ok(header) = Header::read(&bytes.to_vec()) else {
        return;
    };
    assert_eq!(
        header.body_begin() + header.body_bytes(),
        bytes.len() as u64
    );
    let mut end = 0;
    for tensor in header.tensors() {
        assert_eq!(tensor.begin, end, "bodies are contiguous");
        assert_eq!(
            tensor.dtype.tensor_bytes(&tensor.shape),
            Some(tensor.bytes())
        );
        end = tensor.end;
    }
    // Without metadata our form has an empty one.
    let metadata = header.metadata().cloned().unwrap_or_default();
    let again = Header::parse(&to_json(&metadata, header.tensors()));
    assert!(
        again.is_ok_and(
            |again| again.tensors() == header.tensors() && again.metadata() == Some(&metadata)
        ),
        "what is written is read back"
    );
}

/// `manifest.json`: what is accepted has one byte form.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    assert!(
        manifest.to_bytes().is_ok_and(|again| again == bytes),
        "an accepted manifest is canonical"
    );
}

/// The keys, IVs and tags of a file's chunks: what is accepted has one byte form, and no chunk
/// of a body that fits it lacks a tag or an IV of its own.
pub fn chunk_map(bytes: &[u8]) {
    let Some(map) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| parse_encryption(text).ok())
    else {
        return;
    };
    assert_eq!(
        encryption(&map).as_bytes(),
        bytes,
        "an accepted chunk map is canonical"
    );
    let chunk = ChunkSize::default();
    for (name, tensor) in &map {
        let chunks = (tensor.tags.len() / TAG_BYTES) as u64;
        if tensor.check(name, chunks * chunk.bytes(), chunk).is_ok() {
            assert_eq!(tensor.tags.len() as u64, chunks * TAG_BYTES as u64);
            assert!((0..chunks).all(|index| chunk_iv(tensor.base_iv, index).is_some()));
        }
    }
}

#[cfg(test)]
mod tests;
