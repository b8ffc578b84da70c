//! One object of any store as a file that is read in parts.

use std::{io, sync::Arc};

use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, path::Path as Location};
use sealift_sealed_model::RangeRead;
use tokio::runtime::Handle;

/// An object whose parts are fetched as they are read: a plain model, or a shard of one, that is
/// sealed from where it lies ([`sealift_sealed_model::SourceModel::from_files`]).
///
/// Nothing is kept, so memory does not grow with the object. It reads blockingly; call it on a
/// thread that may block (`tokio::task::spawn_blocking`), while the runtime runs.
#[derive(Debug)]
pub struct ObjectFile {
    store: Arc<dyn ObjectStore>,
    location: Location,
    bytes: u64,
    /// What every part has to come from, where the store tags its objects.
    e_tag: Option<String>,
    runtime: Handle,
}

impl ObjectFile {
    /// Asks `store` for the object's length.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        location: Location,
    ) -> Result<Self, object_store::Error> {
        let found = store.head(&location).await?;
        Ok(Self {
            store,
            location,
            bytes: found.size,
            e_tag: found.e_tag,
            runtime: Handle::current(),
        })
    }

    async fn fetch(&self, begin: u64, end: u64) -> Result<bytes::Bytes, object_store::Error> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(begin..end)),
            if_match: self.e_tag.clone(),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&self.location, options).await?;
        found.bytes().await
    }
}

impl RangeRead for ObjectFile {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        // Stores refuse an empty range.
        if buffer.is_empty() {
            return Ok(());
        }
        let end = offset
            .checked_add(buffer.len() as u64)
            .filter(|&end| end <= self.bytes)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let part = self
            .runtime
            .block_on(self.fetch(offset, end))
            .map_err(io::Error::other)?;
        if part.len() != buffer.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.copy_from_slice(&part);
        Ok(())
    }
}
