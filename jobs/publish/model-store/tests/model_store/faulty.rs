//! Stores that misbehave.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, memory::InMemory, path::Path,
};

/// What goes wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing; operations are counted.
    None,
    /// The operation at this index fails before it does anything.
    FailsBefore(usize),
    /// The operation at this index does its work and then its answer is lost.
    FailsAfter(usize),
    /// Every operation is refused for lack of rights.
    Denied,
    /// The second reading of each blob answers with one bit changed.
    LiesAtSecondRead,
    /// An object that exists is overwritten although it was to be created.
    CreateOverwrites,
    /// The store says that it created an object that exists, and leaves it as it is.
    CreateIgnored,
    /// Conditional writes are unknown.
    NoConditionalCreate,
    /// Whether an object exists is looked up some time before it is written.
    CreateRaces,
    /// Reading goes on as it first went: absent stays absent.
    StaleRead,
    /// Nothing is listed.
    StaleList,
    /// From the head request of this index for a publication's mark on, the store's clock is this
    /// many hours ahead of what it was.
    ClockJumps { at: usize, hours: u64 },
}

/// How often a write of a piece lets others go first.
const YIELDS_PER_WRITE: usize = 1000;

/// A store in memory with a fault.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) inner: Arc<InMemory>,
    fault: Fault,
    operations: AtomicUsize,
    /// Pieces that are being written, and the most that ever were.
    writing: AtomicUsize,
    writing_peak: AtomicUsize,
    reads: Mutex<BTreeMap<Path, usize>>,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<InMemory>, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            inner,
            fault,
            operations: AtomicUsize::new(0),
            writing: AtomicUsize::new(0),
            writing_peak: AtomicUsize::new(0),
            reads: Mutex::default(),
        })
    }

    pub(crate) fn operations(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    pub(crate) fn pieces_written_at_once(&self) -> usize {
        self.writing_peak.load(Ordering::Relaxed)
    }

    /// Runs one operation under the fault.
    async fn run<T>(
        &self,
        location: &Path,
        operation: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let index = self.operations.fetch_add(1, Ordering::Relaxed);
        let lost = || Error::Generic {
            store: "faulty",
            source: "the connection was lost".into(),
        };
        match self.fault {
            Fault::FailsBefore(at) if at == index => Err(lost()),
            Fault::FailsAfter(at) if at == index => {
                drop(operation.await);
                Err(lost())
            }
            Fault::Denied => Err(Error::PermissionDenied {
                path: location.to_string(),
                source: "no".into(),
            }),
            _ => operation.await,
        }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.fault)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let create = options.mode == PutMode::Create;
        match self.fault {
            Fault::CreateOverwrites => options.mode = PutMode::Overwrite,
            Fault::NoConditionalCreate if create => {
                return Err(Error::NotImplemented {
                    operation: "put_opts".into(),
                    implementer: self.to_string(),
                });
            }
            Fault::CreateRaces if create => {
                let known = self.inner.head(location).await.is_ok();
                tokio::task::yield_now().await;
                if !known {
                    options.mode = PutMode::Overwrite;
                }
            }
            Fault::CreateIgnored if create => {
                let made = self
                    .inner
                    .put_opts(location, payload.clone(), options)
                    .await;
                if made.is_err() {
                    return self.inner.put(&Path::from("elsewhere"), payload).await;
                }
                return made;
            }
            _ => {}
        }
        let piece = location.as_ref().starts_with("blobs/");
        if piece {
            let now = self.writing.fetch_add(1, Ordering::Relaxed) + 1;
            self.writing_peak.fetch_max(now, Ordering::Relaxed);
            // Long enough that whoever may write beside this one does.
            for _ in 0..YIELDS_PER_WRITE {
                tokio::task::yield_now().await;
            }
        }
        let written = self
            .run(location, self.inner.put_opts(location, payload, options))
            .await;
        if piece {
            self.writing.fetch_sub(1, Ordering::Relaxed);
        }
        written
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.run(location, self.inner.put_multipart_opts(location, options))
            .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.fault == Fault::StaleRead {
            let absent = self.inner.head(location).await.is_err();
            let mut known = self.reads.lock().unwrap();
            if absent {
                known.insert(location.clone(), 0);
            }
            if known.contains_key(location) {
                let path = location.to_string();
                return Err(Error::NotFound {
                    path,
                    source: "remembered".into(),
                });
            }
        }
        let head = options.head;
        let mut found = self
            .run(location, self.inner.get_opts(location, options))
            .await?;
        if let Fault::ClockJumps { at, hours } = self.fault
            && head
            && location.as_ref().starts_with("publishing/")
        {
            let mut reads = self.reads.lock().unwrap();
            let asked = reads.entry(location.clone()).or_default();
            if *asked >= at {
                found.meta.last_modified += Duration::from_hours(hours);
            }
            *asked += 1;
        }
        if self.fault == Fault::LiesAtSecondRead && !head && location.as_ref().starts_with("blobs/")
        {
            let reads = {
                let mut reads = self.reads.lock().unwrap();
                let reads = reads.entry(location.clone()).or_default();
                *reads += 1;
                *reads
            };
            let mut bytes = self.inner.get(location).await?.bytes().await?.to_vec();
            if reads > 1 {
                *bytes.last_mut().unwrap() ^= 1;
            }
            let stream = futures::stream::once(async move { Ok(Bytes::from(bytes)) });
            found.payload = GetResultPayload::Stream(stream.boxed());
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.run(location, self.inner.get_ranges(location, ranges))
            .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.fault == Fault::StaleList {
            return futures::stream::empty().boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.run(from, self.inner.copy_opts(from, to, options))
            .await
    }
}
