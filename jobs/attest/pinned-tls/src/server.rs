//! A TLS 1.3 server: one accept loop, one router, and a limit on everything a peer can hold.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{Router, body::Body, extract::DefaultBodyLimit};
use http::{Request, Response, StatusCode};
use http_body_util::Limited;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{
    ServerConfig,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use crate::{TlsIdentity, peer::provider};

/// What a peer may hold of the server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at one time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Time for the TLS handshake, and for the head of each request (so also between requests).
    pub head: Duration,
    /// Time from a request's head to its whole answer, its body included.
    pub request: Duration,
    /// Bytes of a request's body.
    pub body_bytes: usize,
}

impl ServerLimits {
    /// For services whose requests are small documents: a peer gets 30 s for a head, two minutes
    /// for a request, 16 MiB for a body (the largest document is 8 MiB before its encoding).
    pub const DOCUMENTS: Self = Self {
        connections: 256,
        head: Duration::from_secs(30),
        request: Duration::from_mins(2),
        body_bytes: 16 << 20,
    };
}

/// Bytes of a request's head: a cookie or token of some kilobytes and a path.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Header lines of a request; clients of the protocols served here send about ten.
const MAX_HEADERS: usize = 64;
/// Pause after the kernel refuses an accept, so that a full descriptor table is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// The TLS library refuses its configuration.
    #[error("the TLS configuration is refused")]
    Tls(#[source] rustls::Error),
}

/// The certificate that new connections are shown; it can be changed while the server runs.
#[derive(Clone)]
pub struct CertificateSwitch(Arc<CurrentCertificate>);

impl CertificateSwitch {
    /// Starts with `identity`.
    pub fn new(identity: &TlsIdentity) -> Self {
        Self(Arc::new(CurrentCertificate(RwLock::new(
            identity.certified(),
        ))))
    }

    /// Shows `identity` to every connection from now on; open connections keep theirs.
    pub fn switch_to(&self, identity: &TlsIdentity) {
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) = identity.certified();
    }
}

struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl std::fmt::Debug for CurrentCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CurrentCertificate")
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(
            &self.0.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// A listening socket with its TLS configuration.
pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: ServerLimits,
    address: SocketAddr,
}

impl Server {
    /// Listens on `address`; port 0 lets the system choose one.
    pub async fn bind(
        address: SocketAddr,
        certificate: &CertificateSwitch,
        limits: ServerLimits,
    ) -> Result<Self, ServerError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(ServerError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate.0) as Arc<dyn ResolvesServerCert>);
        // A resumed connection would bypass the comparison of the server's key.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let listen = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            limits,
            address,
        })
    }

    /// The address with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `stop` resolves; then every connection is dropped.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let router = router.layer(DefaultBodyLimit::max(self.limits.body_bytes));
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let (stream, slot) = tokio::select! {
                () = &mut stop => return,
                Some(_ended) = connections.join_next() => continue,
                accepted = accept(&self.listener, &slots) => accepted,
            };
            let (acceptor, router, limits) = (self.acceptor.clone(), router.clone(), self.limits);
            connections.spawn(async move {
                let _slot = slot;
                if let Err(reason) = serve_connection(stream, acceptor, router, limits).await {
                    tracing::debug!(reason, "connection ended");
                }
            });
        }
    }
}

/// Waits for a free slot before it accepts, so that the limit also bounds open descriptors.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return (stream, slot),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    limits: ServerLimits,
) -> Result<(), &'static str> {
    // Answers are single small writes; waiting to merge them only adds delay.
    stream.set_nodelay(true).map_err(|_| "socket gone")?;
    let stream = timeout(limits.head, acceptor.accept(stream))
        .await
        .map_err(|_| "handshake timed out")?
        .map_err(|_| "handshake failed")?;
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        async move {
            let request = request.map(|body| Body::new(Limited::new(body, limits.body_bytes)));
            match timeout(limits.request, router.call(request)).await {
                Ok(answer) => answer,
                Err(_elapsed) => Ok(timed_out()),
            }
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(|_| "connection broken")
}

fn timed_out() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::REQUEST_TIMEOUT;
    answer
}
