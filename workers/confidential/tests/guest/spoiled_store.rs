//! A store that spoils one kind of object, for a relay to serve.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, path::Path,
};

/// What is done to an object whose location begins with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// Answers the bytes of another object.
    Others,
    /// Breaks off before the last byte.
    CutOff,
    /// Knows no such object.
    Denies,
    /// Takes no object.
    TakesNothing,
}

/// What is spoiled, of which folder, and whether only the next time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) spoil: Spoil,
    pub(crate) folder: &'static str,
    pub(crate) once: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct SpoiledStore {
    inner: Arc<dyn ObjectStore>,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl SpoiledStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            fault: Arc::default(),
        }
    }

    pub(crate) fn spoil(&self, fault: impl Into<Option<Fault>>) {
        *self.fault.lock().unwrap() = fault.into();
    }

    fn fault(&self, location: &Path) -> Option<Spoil> {
        let mut fault = self.fault.lock().unwrap();
        let found = fault.filter(|fault| location.as_ref().starts_with(fault.folder))?;
        if found.once {
            *fault = None;
        }
        Some(found.spoil)
    }

    /// Another object of the same folder.
    async fn other(&self, location: &Path) -> Path {
        let folder = Path::from_iter(location.parts().next());
        let mut objects = self.inner.list(Some(&folder));
        while let Some(object) = objects.next().await {
            let other = object.unwrap().location;
            if other != *location {
                return other;
            }
        }
        panic!("`{folder}` holds one object");
    }
}

impl fmt::Display for SpoiledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

fn absent(location: &Path) -> Error {
    Error::NotFound {
        path: location.to_string(),
        source: "denied".into(),
    }
}

#[async_trait]
impl ObjectStore for SpoiledStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.fault(location) == Some(Spoil::TakesNothing) {
            return Err(Error::Generic {
                store: "spoiled",
                source: "the disk is full".into(),
            });
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            return self.inner.get_opts(location, options).await;
        }
        match self.fault(location) {
            Some(Spoil::Denies) => Err(absent(location)),
            Some(Spoil::Others) => {
                let other = self.other(location).await;
                self.inner.get(&other).await
            }
            Some(Spoil::CutOff) => {
                let mut found = self.inner.get(location).await?;
                let whole = self.inner.get(location).await?.bytes().await?;
                let cut = whole.slice(..whole.len() - 1);
                let parts = stream::once(async move { Ok(cut) });
                found.payload = GetResultPayload::Stream(parts.boxed());
                Ok(found)
            }
            Some(Spoil::TakesNothing) | None => self.inner.get_opts(location, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
