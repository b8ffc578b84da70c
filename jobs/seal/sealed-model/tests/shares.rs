//! Tensors that are so large that all threads open one together.

use sealift_sealed_model::{ChunkSize, ContainerError, Protection, ProtectionPlan};

use crate::support::{PlainTensor, Sealed, WEIGHTS, planned, sealed_from};

const CHUNK: usize = 1 << 20;

/// 64 MiB in chunks of one, and half a chunk more: two threads get 33 and 32 of them.
fn large() -> (Sealed, PlainTensor) {
    let bytes: Vec<u8> = (0..64 * CHUNK + CHUNK / 2)
        .map(|i| (i ^ (i >> 13)) as u8)
        .collect();
    let tensor = ("large", safetensors::Dtype::U8, vec![bytes.len()], bytes);
    let plan: ProtectionPlan = [("large".to_owned(), planned(Protection::Sealed))].into();
    let sealed = sealed_from(std::slice::from_ref(&tensor), &plan, |request| {
        request.options.chunk = ChunkSize::new(CHUNK as u64).unwrap();
    });
    (sealed, tensor)
}

#[test]
fn a_tensor_that_threads_share_opens_as_it_was_sealed() {
    let (sealed, (name, _, _, bytes)) = large();
    let opened = sealed.open().unwrap();
    assert!(opened.tensor(name).unwrap().bytes == bytes);
}

#[test]
fn a_changed_chunk_is_refused_in_whichever_share_it_lies() {
    let (mut sealed, _) = large();
    for chunk in [0, 32, 33, 64] {
        let spoil = |sealed: &mut Sealed| {
            sealed.change_header(WEIGHTS, |raw| raw.body[chunk * CHUNK] ^= 1);
        };
        spoil(&mut sealed);
        match sealed.refusal() {
            ContainerError::ChunkTag { chunk: found, .. } => assert_eq!(found, chunk as u64),
            other => panic!("{other:?}"),
        }
        spoil(&mut sealed);
    }
    sealed.open().unwrap();
}
