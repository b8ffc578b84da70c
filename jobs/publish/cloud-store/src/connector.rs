//! Requests to cloud stores over hyper and rustls.

use std::{error::Error as _, io, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error as ClientError, connect::HttpConnector as TcpConnector},
    rt::TokioExecutor,
};
use object_store::{
    ClientConfigKey, ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
        HttpResponse, HttpResponseBody, HttpService,
    },
};
use rustls::crypto::aws_lc_rs;
use tokio::time::timeout;

/// How long connecting may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long sending a request and waiting for its answer's head may take: a piece of 8 MiB at
/// 28 kB/s.
const RESPONSE_TIME_MAX: Duration = Duration::from_mins(5);

/// How long an answer's body may stand still.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Makes HTTP clients: HTTP/1.1, TLS 1.3 by rustls with the roots that Mozilla trusts, and plain HTTP
/// only where the store's options allow it (`AWS_ALLOW_HTTP`, `AZURE_ALLOW_HTTP`: for emulators).
/// Proxies are not used.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperConnector;

impl HttpConnector for HyperConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIME_MAX));
        let allowed = options.get_config_value(&ClientConfigKey::AllowHttp);
        let https_only = allowed.as_deref() != Some("true");
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(aws_lc_rs::default_provider())
            .map_err(|source| object_store::Error::Generic {
                store: "cloud",
                source: source.into(),
            })?;
        let tls = if https_only {
            tls.https_only()
        } else {
            tls.https_or_http()
        };
        let client =
            Client::builder(TokioExecutor::new()).build(tls.enable_http1().wrap_connector(tcp));
        Ok(HttpClient::new(HyperClient { client, https_only }))
    }
}

#[derive(Debug)]
struct HyperClient {
    client: Client<HttpsConnector<TcpConnector>, HttpRequestBody>,
    https_only: bool,
}

/// A request that would show its credentials to the network.
#[derive(Debug, thiserror::Error)]
#[error(
    "plain HTTP is refused; use an https address (or AWS_ALLOW_HTTP, AZURE_ALLOW_HTTP for an emulator)"
)]
struct PlainHttp;

#[async_trait]
impl HttpService for HyperClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // The connector would refuse it too, but as a failure that is worth trying again.
        if self.https_only && request.uri().scheme_str() != Some("https") {
            return Err(HttpError::new(HttpErrorKind::Unknown, PlainHttp));
        }
        let answer = timeout(RESPONSE_TIME_MAX, self.client.request(request)).await;
        let answer = answer.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
        let (head, body) = answer.map_err(not_answered)?.into_parts();
        Ok(HttpResponse::from_parts(head, watched(body)))
    }
}

/// A body that fails when nothing arrives for a while, instead of waiting for ever.
fn watched(body: Incoming) -> HttpResponseBody {
    let frames = stream::unfold(Some(body), |body| async {
        let mut body = body?;
        let frame = match timeout(SILENCE_MAX, body.frame()).await {
            Err(late) => Err(HttpError::new(HttpErrorKind::Timeout, late)),
            Ok(frame) => frame?.map_err(|error| HttpError::new(kind_of(&error), error)),
        };
        let rest = frame.is_ok().then_some(body);
        Some((frame, rest))
    });
    HttpResponseBody::new(StreamBody::new(frames.fuse()))
}

fn not_answered(error: ClientError) -> HttpError {
    if error.is_connect() {
        return HttpError::new(HttpErrorKind::Connect, error);
    }
    let cause = error
        .source()
        .and_then(|source| source.downcast_ref::<hyper::Error>());
    HttpError::new(cause.map_or(HttpErrorKind::Unknown, kind_of), error)
}

/// What happened on the connection, which decides whether the store's client tries again.
fn kind_of(error: &hyper::Error) -> HttpErrorKind {
    if error.is_timeout() {
        return HttpErrorKind::Timeout;
    }
    if error.is_closed() || error.is_canceled() || error.is_body_write_aborted() {
        return HttpErrorKind::Request;
    }
    let cause = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    match cause.map(io::Error::kind) {
        Some(io::ErrorKind::TimedOut) => HttpErrorKind::Timeout,
        Some(
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof,
        ) => HttpErrorKind::Interrupted,
        _ if error.is_incomplete_message() => HttpErrorKind::Request,
        _ => HttpErrorKind::Unknown,
    }
}
