//! The engine's socket: who may connect, and who serves them.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::process::geteuid;
use sealift_run::message::{FromEngine, ToEngine};
use sealift_store::RunStore;
use tokio::net::{UnixListener, UnixStream};

use crate::{
    EngineError, control,
    engine::{Phase, Shared},
    frames::{ConnectionError, Frames},
    session,
};

/// Longest path of a Unix socket on Linux (`sun_path` of unix(7), less its final zero byte).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// How long a client may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to rest when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens at `path`, which no other engine can: its folder is locked.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, EngineError> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH_BYTES {
        return Err(EngineError::SocketPath {
            path: path.to_owned(),
            length,
        });
    }
    let failed = |source| EngineError::Socket {
        path: path.to_owned(),
        source,
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Nobody else reaches it meanwhile: its folder is 0700.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves every client until the engine ends.
pub(crate) async fn accept<S: RunStore>(listener: UnixListener, shared: Arc<Shared<S>>) {
    let mut phase = shared.phase.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase == Phase::Ended) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                let sessions = shared.sessions.clone();
                sessions.spawn(async move {
                    if let Err(error) = serve(stream, shared).await {
                        tracing::warn!(error = ?error, "a client of the engine was dropped");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a client could not connect to the engine");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<S: RunStore>(
    stream: UnixStream,
    shared: Arc<Shared<S>>,
) -> Result<(), ConnectionError> {
    let peer = stream.peer_cred()?.uid();
    if peer != geteuid().as_raw() {
        tracing::warn!(peer, "a client of another user was turned away");
        return Ok(());
    }
    let mut frames = Frames::new(stream);
    let Ok(hello) = tokio::time::timeout(HELLO_TIMEOUT, frames.next()).await else {
        return Ok(());
    };
    match hello? {
        None => Ok(()),
        Some(ToEngine::Register {
            protocol,
            worker,
            zone,
            kinds,
        }) => match shared.kinds.admit(protocol, &zone, &kinds) {
            Ok(kinds) => session::serve(frames, shared, worker, kinds).await,
            Err(unfit) => {
                tracing::warn!(%worker, %unfit, "a worker was turned away");
                frames
                    .send(&FromEngine::Refused {
                        reason: unfit.to_string(),
                    })
                    .await
            }
        },
        Some(request) => control::serve(frames, shared, request).await,
    }
}

/// Where a state folder's engine listens.
pub(crate) fn path_in(folder: &Path) -> PathBuf {
    sealift_store::StateFolder::socket_in(folder)
}
