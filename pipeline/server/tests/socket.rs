//! The engine's socket under clients that behave badly.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{os::unix::fs::PermissionsExt, path::PathBuf, time::SystemTime};

use sealift_run::{
    Worker,
    message::{FromEngine, KindDescription, MAX_FRAME_BYTES, PROTOCOL, ToEngine, decode, encode},
};
use sealift_server::{Engine, EngineError, EngineOptions};
use sealift_store::{SqliteStore, StateFolder, StoreOptions};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

fn now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

fn kind() -> KindDescription {
    KindDescription {
        kind: "step@1".into(),
        zone: "owner".into(),
        effectful: true,
        input: json!({}),
        output: json!({}),
    }
}

async fn engine(folder: &std::path::Path) -> Result<Engine, EngineError> {
    let store = StateFolder::lock(folder).unwrap();
    let store = SqliteStore::open(store, StoreOptions::new(now_ms)).await?;
    let kinds = [kind()].into_iter().collect();
    Engine::start(store, EngineOptions { kinds })
}

struct Client(UnixStream);

impl Client {
    async fn connect(socket: &PathBuf) -> Self {
        Self(UnixStream::connect(socket).await.unwrap())
    }

    async fn send(&mut self, body: &[u8]) {
        self.0.write_u32(body.len() as u32).await.unwrap();
        self.0.write_all(body).await.unwrap();
    }

    /// What the engine says, or nothing if it has closed the connection.
    async fn hear(&mut self) -> Option<FromEngine> {
        let length = self.0.read_u32().await.ok()?;
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body).await.ok()?;
        Some(decode(&body).unwrap())
    }
}

fn register(protocol: u32, kinds: Vec<KindDescription>) -> Vec<u8> {
    let worker = Worker {
        name: "w".into(),
        boot: "b".into(),
    };
    let zone = "owner".into();
    encode(&ToEngine::Register {
        protocol,
        worker,
        zone,
        kinds,
    })
    .unwrap()
}

#[tokio::test]
async fn the_socket_is_the_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir.path().join("state")).await.unwrap();
    let mode = std::fs::metadata(engine.socket_path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_socket_left_by_a_killed_engine_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    drop(StateFolder::lock(&state).unwrap());
    drop(std::os::unix::net::UnixListener::bind(StateFolder::socket_in(&state)).unwrap());
    let engine = engine(&state).await.unwrap();
    let mut client = Client::connect(&engine.socket_path().to_owned()).await;
    client.send(&register(PROTOCOL, vec![kind()])).await;
    assert!(matches!(
        client.hear().await,
        Some(FromEngine::Registered { .. })
    ));
}

#[tokio::test]
async fn a_folder_whose_socket_path_is_too_long_is_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let Err(refused) = engine(&dir.path().join("x".repeat(100))).await else {
        panic!("the path fits")
    };
    assert!(
        matches!(refused, EngineError::SocketPath { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("--state"), "{refused}");
}

#[tokio::test]
async fn a_client_with_one_thing_wrong_is_dropped_and_the_engine_serves_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir.path().join("state")).await.unwrap();
    let socket = engine.socket_path().to_owned();
    let mut unknown = kind();
    unknown.kind = "other@1".into();
    let refused = [
        register(PROTOCOL + 1, vec![kind()]),
        register(PROTOCOL, vec![unknown]),
        encode(&ToEngine::Claim { slots: 1 }).unwrap(),
    ];
    for hello in refused {
        let mut client = Client::connect(&socket).await;
        client.send(&hello).await;
        assert!(matches!(
            client.hear().await,
            Some(FromEngine::Refused { .. })
        ));
        assert_eq!(client.hear().await, None);
    }
    for garbage in [&b"{}"[..], b"", b"\xff\xff"] {
        let mut client = Client::connect(&socket).await;
        client.send(garbage).await;
        assert_eq!(client.hear().await, None, "{garbage:?}");
    }
    let mut greedy = Client::connect(&socket).await;
    greedy
        .0
        .write_u32(MAX_FRAME_BYTES as u32 + 1)
        .await
        .unwrap();
    assert_eq!(greedy.hear().await, None);
    let mut good = Client::connect(&socket).await;
    good.send(&register(PROTOCOL, vec![kind()])).await;
    assert!(matches!(
        good.hear().await,
        Some(FromEngine::Registered { .. })
    ));
    // Nor may a worker register twice on one connection.
    good.send(&register(PROTOCOL, vec![kind()])).await;
    assert!(matches!(
        good.hear().await,
        Some(FromEngine::Refused { .. })
    ));
}

#[tokio::test]
async fn a_worker_that_writes_about_what_it_does_not_hold_is_told_that_it_is_void() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir.path().join("state")).await.unwrap();
    let mut client = Client::connect(&engine.socket_path().to_owned()).await;
    client.send(&register(PROTOCOL, vec![kind()])).await;
    client.hear().await.unwrap();
    let foreign = br#"{"type":"heartbeat","attempt":{"run":"r","task":{"job":"j","index":0},"fence":1},"progress":null}"#;
    client.send(foreign).await;
    assert!(matches!(client.hear().await, Some(FromEngine::Void { .. })));
}
