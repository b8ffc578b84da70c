//! The libraries without the engine: a plain model in one store is sealed into another.

use std::sync::Arc;

use object_store::{ObjectStoreExt, memory::InMemory, path::Path};
use sealift_model_store::ObjectFile;
use sealift_sealed_model::RangeRead;

use crate::{
    publishing::{in_memory, put},
    support::{plain_file, publish, sealed_from},
};

const PLAIN: &str = "plain/model.safetensors";

async fn plain_model() -> (Arc<InMemory>, ObjectFile) {
    let memory = Arc::new(InMemory::new());
    put(&memory, PLAIN, plain_file()).await;
    let file = ObjectFile::open(memory.clone(), Path::from(PLAIN))
        .await
        .unwrap();
    (memory, file)
}

/// Reads as a caller that may block.
async fn read(file: Arc<ObjectFile>, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; length];
        file.read_exact_at(&mut buffer, offset).map(|()| buffer)
    });
    reading.await.unwrap()
}

#[tokio::test]
async fn a_plain_model_in_one_store_is_sealed_and_published_in_another() {
    let (_, file) = plain_model().await;
    let sealing = tokio::task::spawn_blocking(|| sealed_from(Box::new(file), ("v1", 1)));
    let sealed = sealing.await.unwrap();
    let (_, store) = in_memory();
    publish(&store, &sealed).await.unwrap();
    sealed.open_from(&store).await.unwrap();
}

#[tokio::test]
async fn an_object_is_read_in_any_part_and_never_beyond_its_end() {
    let (_, file) = plain_model().await;
    let (plain, file) = (plain_file(), Arc::new(file));
    let end = plain.len() as u64;
    assert_eq!(file.len(), end);
    for (offset, length) in [(0, 8), (7, 100), (end - 5, 5), (end, 0)] {
        let from = offset as usize;
        assert_eq!(
            read(file.clone(), offset, length).await.unwrap(),
            plain[from..from + length]
        );
    }
    for (offset, length) in [(end - 5, 6), (end, 1), (u64::MAX, 2)] {
        assert!(read(file.clone(), offset, length).await.is_err());
    }
}

#[tokio::test]
async fn an_object_that_was_replaced_or_removed_since_is_not_read_on() {
    let (memory, file) = plain_model().await;
    let file = Arc::new(file);
    read(file.clone(), 0, 8).await.unwrap();
    put(&memory, PLAIN, plain_file()).await;
    assert!(read(file.clone(), 8, 8).await.is_err());
    memory.delete(&Path::from(PLAIN)).await.unwrap();
    assert!(read(file, 8, 8).await.is_err());
}
