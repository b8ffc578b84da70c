//! The guest's side: a store behind a relay.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, Method, StatusCode};
use object_store::{
    Attributes, CopyOptions, Error, Extensions, GetOptions, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, path::Path,
};
use sealift_pinned_tls::{Answer, ClientError, ClientLimits, Connection, ServerUrl};

use crate::{LIST, Listed, MAX_OBJECT_BYTES, OBJECTS};

/// How the store names itself in errors.
const NAME: &str = "relay";

const LIMITS: ClientLimits = ClientLimits {
    request: Duration::from_mins(6),
    body_bytes: MAX_OBJECT_BYTES,
    ..ClientLimits::DOCUMENTS
};

/// What a guest does with a store, and nothing else: whole objects read, created once, and the
/// names in a folder. What is read is whatever the relay answered.
pub struct RelayedStore {
    url: ServerUrl,
    /// Connections that carry no request, to be used again.
    idle: Mutex<Vec<Connection>>,
}

impl RelayedStore {
    /// The store behind the relay at `url`; nothing is connected yet.
    pub fn new(url: ServerUrl) -> Self {
        Self {
            url,
            idle: Mutex::default(),
        }
    }

    /// Sends a request; once more over a new connection if an old one broke under it, which is how
    /// a server closes one that stood still.
    async fn ask(&self, method: Method, path: &str, body: &[u8]) -> Result<Answer, ClientError> {
        if let Some(connection) = self.take_idle() {
            match self.send(connection, method.clone(), path, body).await {
                Err(ClientError::Broken(_)) => {}
                answered => return answered,
            }
        }
        // Whose key it is does not matter: see the crate's documentation.
        let connection = Connection::open_unverified(&self.url, LIMITS).await?;
        self.send(connection, method, path, body).await
    }

    async fn send(
        &self,
        mut connection: Connection,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> Result<Answer, ClientError> {
        let sent = connection.send(method, path, HeaderMap::new(), body.to_vec());
        let answer = sent.await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(connection);
        Ok(answer)
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.is_closed());
        idle.pop()
    }

    async fn listed(&self, folder: &Path) -> Result<Vec<Listed>> {
        let path = format!("{LIST}/{}", plain(folder)?);
        let answer = self.ask(Method::GET, &path, &[]).await.map_err(failed)?;
        let answer = expect(StatusCode::OK, folder, answer)?;
        serde_json::from_slice(&answer.body).map_err(|error| failed(ClientError::BadJson(error)))
    }
}

/// A location as it stands in a URL: all that the layout of stores is made of.
fn plain(location: &Path) -> Result<&str> {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-@".contains(&byte);
    if location.as_ref().bytes().all(usual) {
        Ok(location.as_ref())
    } else {
        Err(not_done("a location of other characters"))
    }
}

/// Whether a read asks for the whole of an object as it is now.
fn is_plain(options: &GetOptions) -> bool {
    let GetOptions {
        if_match,
        if_none_match,
        if_modified_since,
        if_unmodified_since,
        range,
        version,
        head,
        extensions: _,
    } = options;
    let conditions = [if_match, if_none_match, version];
    let times = [if_modified_since, if_unmodified_since];
    !head
        && range.is_none()
        && conditions.iter().all(|condition| condition.is_none())
        && times.iter().all(|time| time.is_none())
}

fn expect(status: StatusCode, location: &Path, answer: Answer) -> Result<Answer> {
    let path = location.to_string();
    let source = || format!("the relay answered {}", answer.status).into();
    match answer.status {
        found if found == status => Ok(answer),
        StatusCode::NOT_FOUND => Err(Error::NotFound {
            path,
            source: source(),
        }),
        StatusCode::CONFLICT => Err(Error::AlreadyExists {
            path,
            source: source(),
        }),
        _ => Err(Error::Generic {
            store: NAME,
            source: source(),
        }),
    }
}

fn failed(error: ClientError) -> Error {
    Error::Generic {
        store: NAME,
        source: error.into(),
    }
}

fn not_done(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: NAME.to_owned(),
    }
}

#[expect(
    clippy::default_trait_access,
    reason = "the type is of a crate that is not linked for its name alone"
)]
fn meta(location: Path, size: u64) -> ObjectMeta {
    ObjectMeta {
        location,
        // Nothing that a guest does depends on when an object was written.
        last_modified: Default::default(),
        size,
        e_tag: None,
        version: None,
    }
}

impl fmt::Display for RelayedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the relay at {}", self.url)
    }
}

impl fmt::Debug for RelayedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayedStore({})", self.url)
    }
}

#[async_trait]
impl ObjectStore for RelayedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode != PutMode::Create {
            return Err(not_done("replacing an object"));
        }
        let path = format!("{OBJECTS}/{}", plain(location)?);
        let body = Bytes::from(payload);
        let answer = self.ask(Method::PUT, &path, &body).await.map_err(failed)?;
        expect(StatusCode::CREATED, location, answer)?;
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Extensions::default(),
        })
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_done("an upload in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !is_plain(&options) {
            return Err(not_done("a conditional or partial read"));
        }
        let path = format!("{OBJECTS}/{}", plain(location)?);
        let answer = self.ask(Method::GET, &path, &[]).await.map_err(failed)?;
        let body = expect(StatusCode::OK, location, answer)?.body;
        let size = body.len() as u64;
        let whole = stream::once(async move { Ok(body) }).boxed();
        Ok(GetResult {
            payload: GetResultPayload::Stream(whole),
            meta: meta(location.clone(), size),
            range: 0..size,
            attributes: Attributes::default(),
            extensions: Extensions::default(),
        })
    }

    fn delete_stream(
        &self,
        _locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        stream::once(async { Err(not_done("deleting")) }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let Some(folder) = prefix.cloned() else {
            return stream::once(async { Err(not_done("listing everything")) }).boxed();
        };
        let relayed = Self::new(self.url.clone());
        let listing = async move {
            let listed = relayed.listed(&folder).await?;
            let objects = listed.into_iter().map(|Listed { location, size }| {
                Ok(meta(Path::parse(location).map_err(Error::from)?, size))
            });
            Ok::<_, Error>(stream::iter(objects))
        };
        stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> Result<ListResult> {
        Err(not_done("listing one level"))
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(not_done("copying"))
    }
}
