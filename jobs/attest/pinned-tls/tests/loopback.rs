//! Server and client of this crate against each other over loopback.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use std::{net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    routing::{get, post},
};
use sealift_pinned_tls::{
    CertificateSwitch, ClientError, ClientLimits, Connection, PinnedClient, Server, ServerLimits,
    ServerUrl, TlsIdentity,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};

struct Running {
    address: SocketAddr,
    switch: CertificateSwitch,
    _stop: oneshot::Sender<()>,
}

impl Running {
    fn url(&self) -> ServerUrl {
        format!("https://{}", self.address).parse().unwrap()
    }
}

async fn start(identity: &TlsIdentity, limits: ServerLimits) -> Running {
    let switch = CertificateSwitch::new(identity);
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), &switch, limits)
        .await
        .unwrap();
    let address = server.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route(
            "/echo",
            post(|Json(value): Json<serde_json::Value>| async { Json(value) }),
        )
        .route(
            "/moved",
            get(|| async { axum::response::Redirect::temporary("/hello") }),
        )
        .route("/large", get(|| async { vec![0_u8; 4096] }))
        .route("/never", get(std::future::pending::<()>));
    tokio::spawn(server.serve(router, async {
        stopped.await.ok();
    }));
    Running {
        address,
        switch,
        _stop: stop,
    }
}

#[tokio::test]
async fn a_pinned_client_exchanges_json_over_one_connection() {
    let identity = TlsIdentity::generate().unwrap();
    let server = start(&identity, ServerLimits::DOCUMENTS).await;
    let client = PinnedClient::new(
        server.url(),
        identity.spki_sha256(),
        ClientLimits::DOCUMENTS,
    );
    for n in 0..3 {
        let sent = serde_json::json!({ "n": n });
        let answer = client.post_json("/echo", &sent).await.unwrap();
        assert_eq!(answer.json::<serde_json::Value>().unwrap(), sent);
    }
}

#[tokio::test]
async fn a_server_with_another_key_is_refused_before_anything_is_sent() {
    let identity = TlsIdentity::generate().unwrap();
    let server = start(&identity, ServerLimits::DOCUMENTS).await;
    let other = TlsIdentity::generate().unwrap();
    let client = PinnedClient::new(server.url(), other.spki_sha256(), ClientLimits::DOCUMENTS);
    let refused = client.get("/hello").await;
    assert!(matches!(refused, Err(ClientError::Handshake { .. })));
}

#[tokio::test]
async fn a_server_that_goes_away_during_the_handshake_may_be_asked_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        // Closed over unread bytes, so that the client sees a reset, as of a killed process.
        stream.readable().await.unwrap();
        drop(stream);
    };
    let url = url.parse().unwrap();
    let limits = ClientLimits::DOCUMENTS;
    let (refused, ()) = tokio::join!(Connection::open_unverified(&url, limits), server);
    let error = refused.err().unwrap();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn an_unverified_connection_reports_the_key_of_its_peer() {
    let identity = TlsIdentity::generate().unwrap();
    let server = start(&identity, ServerLimits::DOCUMENTS).await;
    let connection = Connection::open_unverified(&server.url(), ClientLimits::DOCUMENTS)
        .await
        .unwrap();
    assert_eq!(connection.peer_spki(), identity.spki_sha256());
}

#[tokio::test]
async fn new_connections_see_a_switched_certificate_and_open_ones_live_on() {
    let (first, second) = (
        TlsIdentity::generate().unwrap(),
        TlsIdentity::generate().unwrap(),
    );
    let server = start(&first, ServerLimits::DOCUMENTS).await;
    let mut before = Connection::open_unverified(&server.url(), ClientLimits::DOCUMENTS)
        .await
        .unwrap();
    server.switch.switch_to(&second);
    assert_eq!(before.get("/hello").await.unwrap().body, "hello");
    let after = PinnedClient::new(server.url(), second.spki_sha256(), ClientLimits::DOCUMENTS);
    assert_eq!(after.get("/hello").await.unwrap().body, "hello");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let identity = TlsIdentity::generate().unwrap();
    let server = start(&identity, ServerLimits::DOCUMENTS).await;
    let client = PinnedClient::new(
        server.url(),
        identity.spki_sha256(),
        ClientLimits::DOCUMENTS,
    );
    assert_eq!(client.get("/moved").await.unwrap().status, 307);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_on_both_sides() {
    let identity = TlsIdentity::generate().unwrap();
    let limits = ServerLimits {
        body_bytes: 64,
        ..ServerLimits::DOCUMENTS
    };
    let server = start(&identity, limits).await;
    let client = PinnedClient::new(
        server.url(),
        identity.spki_sha256(),
        ClientLimits::DOCUMENTS,
    );
    let answer = client.post_json("/echo", &"x".repeat(64)).await.unwrap();
    assert_eq!(answer.status, 413);
    let small = ClientLimits {
        body_bytes: 64,
        ..ClientLimits::DOCUMENTS
    };
    let client = PinnedClient::new(server.url(), identity.spki_sha256(), small);
    assert!(matches!(
        client.get("/large").await,
        Err(ClientError::BadBody { .. })
    ));
}

#[tokio::test]
async fn a_request_that_is_never_answered_times_out_on_both_sides() {
    let identity = TlsIdentity::generate().unwrap();
    let short = Duration::from_millis(100);
    let limits = ServerLimits {
        request: short,
        ..ServerLimits::DOCUMENTS
    };
    let server = start(&identity, limits).await;
    let client = PinnedClient::new(
        server.url(),
        identity.spki_sha256(),
        ClientLimits::DOCUMENTS,
    );
    assert_eq!(client.get("/never").await.unwrap().status, 408);
    let server = start(&identity, ServerLimits::DOCUMENTS).await;
    let small = ClientLimits {
        request: short,
        ..ClientLimits::DOCUMENTS
    };
    let client = PinnedClient::new(server.url(), identity.spki_sha256(), small);
    assert!(matches!(
        client.get("/never").await,
        Err(ClientError::TimedOut(_))
    ));
}

#[tokio::test]
async fn a_client_connects_anew_after_its_connection_ended() {
    let identity = TlsIdentity::generate().unwrap();
    let limits = ServerLimits {
        head: Duration::from_millis(50),
        ..ServerLimits::DOCUMENTS
    };
    let server = start(&identity, limits).await;
    let client = PinnedClient::new(
        server.url(),
        identity.spki_sha256(),
        ClientLimits::DOCUMENTS,
    );
    client.get("/hello").await.unwrap();
    // An idle connection of another client shows when the server has given up waiting.
    let mut idle = Connection::open_unverified(&server.url(), ClientLimits::DOCUMENTS)
        .await
        .unwrap();
    while !idle.is_closed() {
        tokio::task::yield_now().await;
    }
    assert!(idle.get("/hello").await.is_err());
    assert_eq!(client.get("/hello").await.unwrap().body, "hello");
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_is_dropped() {
    let identity = TlsIdentity::generate().unwrap();
    let server = start(&identity, ServerLimits::DOCUMENTS).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_free_slot() {
    let identity = TlsIdentity::generate().unwrap();
    let limits = ServerLimits {
        connections: 1,
        ..ServerLimits::DOCUMENTS
    };
    let server = start(&identity, limits).await;
    let first = Connection::open_unverified(&server.url(), ClientLimits::DOCUMENTS)
        .await
        .unwrap();
    let short = ClientLimits {
        connect: Duration::from_millis(100),
        ..ClientLimits::DOCUMENTS
    };
    let second = Connection::open_unverified(&server.url(), short).await;
    assert!(matches!(second, Err(ClientError::TimedOut(_))));
    drop(first);
    Connection::open_unverified(&server.url(), ClientLimits::DOCUMENTS)
        .await
        .unwrap();
}
