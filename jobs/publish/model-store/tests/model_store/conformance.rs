//! The stores that are built in do what models need.

use std::sync::Arc;

use crate::suite::conforms;
use object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory};

#[tokio::test]
async fn memory_conforms() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    conforms(&store).await;
}

#[tokio::test]
async fn a_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(store.with_fsync(true));
    conforms(&store).await;
}
