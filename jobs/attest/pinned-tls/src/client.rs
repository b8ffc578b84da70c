//! A client of one server: HTTP/1.1 over one TLS 1.3 connection.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use sealift_signed_document::Digest;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, sync::Mutex, task::AbortHandle, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    ServerUrl,
    peer::{client_config, spki_sha256},
};

/// What a server may cost its client.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Time to connect and shake hands.
    pub connect: Duration,
    /// Time from a request's first byte to its answer's last.
    pub request: Duration,
    /// Bytes of an answer's body.
    pub body_bytes: usize,
}

impl ClientLimits {
    /// For servers that answer with small documents: ten seconds to connect, two minutes for an
    /// answer, 16 MiB for its body.
    pub const DOCUMENTS: Self = Self {
        connect: Duration::from_secs(10),
        request: Duration::from_mins(2),
        body_bytes: 16 << 20,
    };
}

/// Bytes of an answer's head.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The text is no address of a server.
    #[error("`{0}` is not an address of the form https://host:port")]
    BadUrl(String),
    /// Nobody answers there, or whoever did went away before the handshake was complete.
    #[error("cannot connect to {url}; is the service running?")]
    Connect {
        /// Where to.
        url: ServerUrl,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// The TLS library refuses the server; with a pinned key, most likely because it has another.
    #[error("the server at {url} does not prove that it holds the expected TLS key")]
    Handshake {
        /// Where to.
        url: ServerUrl,
        /// What the TLS library says.
        #[source]
        source: std::io::Error,
    },
    /// The TLS library refuses its configuration or the peer's certificate.
    #[error("the TLS library refuses the configuration or the peer's certificate")]
    Tls(#[source] rustls::Error),
    /// The connection broke before the answer was complete.
    #[error("the connection broke before the answer was complete")]
    Broken(#[source] hyper::Error),
    /// The request cannot be written as HTTP.
    #[error("the request has no HTTP form")]
    BadRequest(#[source] http::Error),
    /// Too slow.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// Too large, or cut off.
    #[error("the answer is cut off, or larger than the {limit} bytes that are read")]
    BadBody {
        /// The limit it was read under.
        limit: usize,
        /// What the reader says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is not the JSON that was asked for.
    #[error("the answer does not have the form that was asked for")]
    BadJson(#[source] serde_json::Error),
}

impl ClientError {
    /// Whether asking again later can help.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::Broken(_) | Self::TimedOut(_) | Self::BadBody { .. }
        )
    }
}

/// A server that goes away while it shakes hands has proven nothing false: only what the TLS
/// library itself refuses, which it reports as invalid data, is about the key.
fn not_connected(url: &ServerUrl, source: std::io::Error) -> ClientError {
    let url = url.clone();
    if source.kind() == std::io::ErrorKind::InvalidData {
        ClientError::Handshake { url, source }
    } else {
        ClientError::Connect { url, source }
    }
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The header lines.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Reads the body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(ClientError::BadJson)
    }
}

/// One TLS connection, with the key that its server proved to hold.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
    host: HeaderValue,
    peer_spki: Digest,
    limits: ClientLimits,
}

impl Connection {
    /// Connects to a server whose key has the digest `pin`, and to no other.
    pub async fn open_pinned(
        url: &ServerUrl,
        pin: Digest,
        limits: ClientLimits,
    ) -> Result<Self, ClientError> {
        Self::open(url, Some(pin), limits).await
    }

    /// Connects to whoever answers. The peer proves only that it holds the key of
    /// [`Connection::peer_spki`]: nothing secret may be sent before evidence names that key, or
    /// unless what is sent is protected by other means.
    pub async fn open_unverified(
        url: &ServerUrl,
        limits: ClientLimits,
    ) -> Result<Self, ClientError> {
        Self::open(url, None, limits).await
    }

    async fn open(
        url: &ServerUrl,
        pin: Option<Digest>,
        limits: ClientLimits,
    ) -> Result<Self, ClientError> {
        let opening = Self::handshake(url, pin, limits);
        timeout(limits.connect, opening)
            .await
            .map_err(|_| ClientError::TimedOut(limits.connect))?
    }

    async fn handshake(
        url: &ServerUrl,
        pin: Option<Digest>,
        limits: ClientLimits,
    ) -> Result<Self, ClientError> {
        let stream = TcpStream::connect((url.bare_host(), url.port()))
            .await
            .map_err(|source| ClientError::Connect {
                url: url.clone(),
                source,
            })?;
        let connect = |source| ClientError::Connect {
            url: url.clone(),
            source,
        };
        stream.set_nodelay(true).map_err(connect)?;
        let config = client_config(pin).map_err(ClientError::Tls)?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(url.name().clone(), stream)
            .await
            .map_err(|source| not_connected(url, source))?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let certificate =
            certificate.ok_or(ClientError::Tls(rustls::Error::NoCertificatesPresented))?;
        let peer_spki = spki_sha256(certificate).map_err(ClientError::Tls)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::Broken)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        })
        .abort_handle();
        let host = url.authority();
        let host = HeaderValue::try_from(host).map_err(|e| ClientError::BadRequest(e.into()))?;
        Ok(Self {
            sender,
            driver,
            host,
            peer_spki,
            limits,
        })
    }

    /// SHA-256 of the server's SubjectPublicKeyInfo.
    pub fn peer_spki(&self) -> Digest {
        self.peer_spki
    }

    /// Whether the connection can no longer carry a request.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and reads its whole answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::new(Bytes::from(body)))
            .map_err(ClientError::BadRequest)?;
        *request.headers_mut() = headers;
        request
            .headers_mut()
            .insert(header::HOST, self.host.clone());
        let limits = self.limits;
        timeout(limits.request, self.exchange(request))
            .await
            .map_err(|_| ClientError::TimedOut(limits.request))?
    }

    /// `GET`s a path.
    pub async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, path, HeaderMap::new(), Vec::new())
            .await
    }

    /// `POST`s JSON to a path.
    pub async fn post_json<T: Serialize>(
        &mut self,
        path: &str,
        body: &T,
    ) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::BadJson)?;
        self.send(Method::POST, path, json_headers(), body).await
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        self.sender.ready().await.map_err(ClientError::Broken)?;
        let answer = self
            .sender
            .send_request(request)
            .await
            .map_err(ClientError::Broken)?;
        let (head, body) = answer.into_parts();
        let limit = self.limits.body_bytes;
        let body = Limited::new(body, limit)
            .collect()
            .await
            .map_err(|source| ClientError::BadBody { limit, source })?
            .to_bytes();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers
}

/// A client of the server with one pinned key, which connects anew whenever its connection ended.
pub struct PinnedClient {
    url: ServerUrl,
    pin: Digest,
    limits: ClientLimits,
    connection: Mutex<Option<Connection>>,
}

impl PinnedClient {
    /// A client that has not connected yet.
    pub fn new(url: ServerUrl, pin: Digest, limits: ClientLimits) -> Self {
        Self {
            url,
            pin,
            limits,
            connection: Mutex::new(None),
        }
    }

    /// Where it connects to.
    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// Sends a request; requests wait for each other.
    ///
    /// A request is sent at most once: when the connection breaks after it was taken, the caller
    /// decides whether it may be repeated.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, ClientError> {
        let mut slot = self.connection.lock().await;
        // Taken out, so that a request that is cancelled or fails leaves no half-used connection.
        let mut connection = match slot.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => Connection::open_pinned(&self.url, self.pin, self.limits).await?,
        };
        let answer = connection.send(method, path, headers, body).await?;
        *slot = Some(connection);
        Ok(answer)
    }

    /// `GET`s a path.
    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, path, HeaderMap::new(), Vec::new())
            .await
    }

    /// `POST`s JSON to a path.
    pub async fn post_json<T: Serialize>(
        &self,
        path: &str,
        body: &T,
    ) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::BadJson)?;
        self.send(Method::POST, path, json_headers(), body).await
    }
}
