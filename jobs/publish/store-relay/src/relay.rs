//! The operator's side: a server before a store.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path as UrlPath, State},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures::TryStreamExt as _;
use http::{StatusCode, header};
use object_store::{
    Error, GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    path::Path,
};
use sealift_pinned_tls::{
    CertificateSwitch, IdentityError, Server, ServerError, ServerLimits, TlsIdentity,
};
use sealift_signed_document::Digest;

use crate::{LIST, Listed, MAX_OBJECT_BYTES, OBJECTS};

/// Folders that guests read: pieces and documents of models, sealed partitions, and results, which
/// a guest looks at again when its file was there already.
const READ: [&str; 4] = ["batches", "blobs", "results", "versions"];

/// The folder whose objects a guest lists: the revisions of its version.
const LISTED: &str = "versions";

/// The folder that guests write: result files under their own digests.
const WRITTEN: &str = "results";

/// A guest reads a piece at a time; this leaves five minutes for the largest object.
const LIMITS: ServerLimits = ServerLimits {
    request: Duration::from_mins(5),
    body_bytes: MAX_OBJECT_BYTES,
    ..ServerLimits::DOCUMENTS
};

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// No certificate.
    #[error("no certificate can be made for the relay")]
    Identity(#[from] IdentityError),
    /// The port.
    #[error("the relay cannot listen")]
    Listen(#[from] ServerError),
}

/// A listening relay before one store.
///
/// Whoever reaches its address reads ciphertext and published documents, and may leave result
/// files, each once and under its own digest, for partitions that are in the store.
pub struct StoreRelay {
    server: Server,
    store: Arc<dyn ObjectStore>,
}

impl StoreRelay {
    /// Listens on `address`; port 0 lets the system choose one.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn bind(
        address: SocketAddr,
        store: Arc<dyn ObjectStore>,
    ) -> Result<Self, RelayError> {
        let certificate = CertificateSwitch::new(&TlsIdentity::generate()?);
        let server = Server::bind(address, &certificate, LIMITS).await?;
        Ok(Self { server, store })
    }

    /// Where it listens: `https://host:port`.
    pub fn url(&self) -> String {
        format!("https://{}", self.server.address())
    }

    /// Serves until the future is dropped.
    pub async fn serve(self) {
        let router = Router::new()
            .route(&format!("{OBJECTS}/{{*location}}"), get(read).put(create))
            .route(&format!("{LIST}/{{*folder}}"), get(list))
            .with_state(self.store);
        self.server.serve(router, std::future::pending()).await;
    }
}

type Store = State<Arc<dyn ObjectStore>>;

async fn read(State(store): Store, UrlPath(location): UrlPath<String>) -> Response {
    let Some(location) = in_folder(&location, &READ) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let found = match store.get_opts(&location, GetOptions::default()).await {
        Ok(found) => found,
        Err(error) => return refused("read", &location, &error),
    };
    let length = [(header::CONTENT_LENGTH, found.meta.size)];
    (length, Body::from_stream(found.into_stream())).into_response()
}

async fn create(State(store): Store, UrlPath(location): UrlPath<String>, body: Bytes) -> Response {
    let Some(result) = in_folder(&location, &[WRITTEN]).and_then(|at| ResultFile::at(&at)) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    if Digest::of(&body) != result.sha256 {
        return StatusCode::FORBIDDEN.into_response();
    }
    if let Err(error) = store.head(&result.partition).await {
        return refused("look for", &result.partition, &error);
    }
    let options = PutOptions::from(PutMode::Create);
    let payload = PutPayload::from_bytes(body);
    match store.put_opts(&result.location, payload, options).await {
        Ok(_) => StatusCode::CREATED.into_response(),
        Err(error) => refused("create", &result.location, &error),
    }
}

async fn list(State(store): Store, UrlPath(folder): UrlPath<String>) -> Response {
    let Some(folder) = in_folder(&folder, &[LISTED]) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let listed = store.list(Some(&folder)).map_ok(|object| Listed {
        location: object.location.to_string(),
        size: object.size,
    });
    match listed.try_collect::<Vec<_>>().await {
        Ok(listed) => Json(listed).into_response(),
        Err(error) => refused("list", &folder, &error),
    }
}

/// The location that a path names, if it stands in one of `folders`.
fn in_folder(path: &str, folders: &[&str]) -> Option<Path> {
    let location = Path::parse(path).ok()?;
    let folder = location.parts().next()?;
    folders.contains(&folder.as_ref()).then_some(location)
}

/// `results/<batch>/<partition>/<sha256>.age`, and the partition that it answers.
struct ResultFile {
    location: Path,
    partition: Path,
    sha256: Digest,
}

impl ResultFile {
    fn at(location: &Path) -> Option<Self> {
        let parts: Vec<_> = location.parts().collect();
        let [_, batch, partition, file] = parts.as_slice() else {
            return None;
        };
        let sha256 = file.as_ref().strip_suffix(".age")?.parse().ok()?;
        let partition = format!("{}.age", partition.as_ref());
        let partition = Path::from_iter(["batches", batch.as_ref(), &partition]);
        Some(Self {
            location: location.clone(),
            partition,
            sha256,
        })
    }
}

/// The status of what the store answered; only the operator's log says more.
fn refused(operation: &'static str, location: &Path, error: &Error) -> Response {
    let status = match error {
        Error::NotFound { .. } => StatusCode::NOT_FOUND,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StatusCode::CONFLICT,
        _ => StatusCode::BAD_GATEWAY,
    };
    if status == StatusCode::BAD_GATEWAY {
        let error = error as &dyn std::error::Error;
        tracing::warn!(operation, %location, error, "the store failed");
    }
    status.into_response()
}
