//! Asking a running engine how it is, or to end: both sides of it.

use std::{io, path::Path, sync::Arc};

use sealift_run::{
    RunId,
    message::{EngineStatus, FromEngine, ToEngine},
};
use sealift_store::RunStore;
use tokio::{net::UnixStream, sync::broadcast::error::RecvError};

use crate::{
    engine::{Phase, Shared},
    frames::{ConnectionError, Frames},
    socket,
};

/// Why a running engine gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No engine works in the folder.
    #[error(
        "no engine is running in this state folder; `sealift run` or `sealift serve` starts one"
    )]
    NotRunning,
    /// The engine could not be reached.
    #[error("could not reach the engine at its socket")]
    Unreachable(#[source] io::Error),
    /// The engine did not answer as this release does.
    #[error("the engine did not answer the request; use the release that started it")]
    NoAnswer,
}

/// How the engine of a state folder is.
///
/// # Errors
/// [`ControlError`].
pub async fn status(folder: &Path) -> Result<EngineStatus, ControlError> {
    match ask(folder, &ToEngine::Status).await? {
        FromEngine::Status(status) => Ok(status),
        _ => Err(ControlError::NoAnswer),
    }
}

/// Asks the engine of a state folder to end, at safe points or at once, and waits until it has.
///
/// # Errors
/// [`ControlError`].
pub async fn stop(folder: &Path, at_once: bool) -> Result<(), ControlError> {
    let mut frames = connect(folder).await?;
    frames
        .send(&ToEngine::Stop { at_once })
        .await
        .map_err(|_| ControlError::NoAnswer)?;
    match frames.next().await {
        Ok(Some(FromEngine::Stopping)) => {}
        _ => return Err(ControlError::NoAnswer),
    }
    // The connection closes with the engine, however it closes.
    drop(frames.next::<FromEngine>().await);
    Ok(())
}

/// Tells when something happens to a run that another process's engine works on.
///
/// What happened is read with [`sealift_store::Reader`]: `while follower.changed().await { … }`,
/// and once more after it.
pub struct Follower(Frames);

impl Follower {
    /// Begins to follow; [`changed`](Self::changed) is true at once.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn start(folder: &Path, run: &RunId) -> Result<Self, ControlError> {
        let mut frames = connect(folder).await?;
        let follow = ToEngine::Follow { run: run.clone() };
        let sent = frames.send(&follow).await;
        sent.map_err(|_| ControlError::NoAnswer)?;
        Ok(Self(frames))
    }

    /// Waits for the next change; false once the engine has ended or begun to.
    pub async fn changed(&mut self) -> bool {
        matches!(self.0.next().await, Ok(Some(FromEngine::Changed)))
    }
}

async fn ask(folder: &Path, request: &ToEngine) -> Result<FromEngine, ControlError> {
    let mut frames = connect(folder).await?;
    frames
        .send(request)
        .await
        .map_err(|_| ControlError::NoAnswer)?;
    frames
        .next()
        .await
        .ok()
        .flatten()
        .ok_or(ControlError::NoAnswer)
}

async fn connect(folder: &Path) -> Result<Frames, ControlError> {
    match UnixStream::connect(socket::path_in(folder)).await {
        Ok(stream) => Ok(Frames::new(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Err(ControlError::NotRunning)
            }
            _ => Err(ControlError::Unreachable(error)),
        },
    }
}

/// Serves one control client: a status ends the connection, a stop keeps it open to the end.
pub(crate) async fn serve<S: RunStore>(
    mut frames: Frames,
    shared: Arc<Shared<S>>,
    request: ToEngine,
) -> Result<(), ConnectionError> {
    match request {
        ToEngine::Status => {
            let runs = match shared.store.reader().unsettled().await {
                Ok(runs) => runs.into_iter().map(|run| (run.id, run.status)).collect(),
                Err(error) => {
                    let reason = error.to_string();
                    return frames.send(&FromEngine::Refused { reason }).await;
                }
            };
            let status = EngineStatus {
                pid: std::process::id(),
                draining: *shared.phase.borrow() != Phase::Running,
                runs,
                workers: shared.workers(),
            };
            frames.send(&FromEngine::Status(status)).await
        }
        ToEngine::Follow { run } => follow(frames, &shared, &run).await,
        ToEngine::Stop { at_once } => {
            frames.send(&FromEngine::Stopping).await?;
            // The client waits for the connection to close with the process; the engine must not
            // wait for the client, so nothing of the engine's holds this task.
            tokio::spawn(async move { drop(frames.next::<ToEngine>().await) });
            shared.advance(if at_once {
                Phase::Ended
            } else {
                Phase::Draining
            });
            Ok(())
        }
        _ => {
            let reason = "a client says who it is first".to_owned();
            frames.send(&FromEngine::Refused { reason }).await
        }
    }
}

/// Tells a client of every change of a run until the client or the engine ends.
async fn follow<S: RunStore>(
    mut frames: Frames,
    shared: &Shared<S>,
    run: &RunId,
) -> Result<(), ConnectionError> {
    let mut notices = shared.store.notices();
    let mut phase = shared.phase.subscribe();
    loop {
        frames.send(&FromEngine::Changed).await?;
        let change = async {
            loop {
                match notices.recv().await {
                    Ok(notice) if notice.run() != run => {}
                    // Something was missed: that is a change too.
                    Ok(_) | Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => return false,
                }
            }
        };
        tokio::select! {
            changed = change => if !changed { return Ok(()) },
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return Ok(()),
            // A client that follows says nothing more; anything it does is its end.
            _ = frames.next::<ToEngine>() => return Ok(()),
        }
    }
}
