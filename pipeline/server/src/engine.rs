//! The engine: starting it, giving it runs, watching them, ending it.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use sealift_definition::plan::Plan;
use sealift_run::{RunId, RunStatus, Worker};
use sealift_store::{Notice, RunStore, RunSummary, SqliteStore, StoreError};
use tokio::sync::{broadcast, watch};
use tokio_util::task::TaskTracker;

use crate::{KnownKinds, socket};

/// How an [`Engine`] works.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// The kinds that definitions are checked against. A worker that hosts anything else is
    /// turned away.
    pub kinds: KnownKinds,
}

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The path of the socket is longer than the system allows.
    #[error("{path} is {length} bytes long and a socket's path may be 107; choose a shorter --state", path = .path.display())]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The socket could not be made.
    #[error("could not listen at {path}", path = .path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The engine has been asked to stop.
    #[error("the engine is stopping; continue with `sealift resume`")]
    Stopping,
}

/// Where an engine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Work is given out.
    Running,
    /// No work is given out; attempts stop at their next safe point.
    Draining,
    /// Every connection is closed.
    Ended,
}

/// What the engine's tasks share.
pub(crate) struct Shared<S> {
    pub(crate) store: S,
    pub(crate) kinds: KnownKinds,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) sessions: TaskTracker,
    pub(crate) workers: Mutex<BTreeSet<Worker>>,
}

impl<S> Shared<S> {
    /// Moves on to a later phase, never back.
    pub(crate) fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = to > *phase;
            *phase = (*phase).max(to);
            later
        });
    }

    /// The workers that are connected.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().cloned().collect()
    }
}

/// The engine of one state folder.
///
/// It starts no workers: whoever starts it starts them too and tells them
/// [`socket_path`](Self::socket_path).
pub struct Engine<S: RunStore = SqliteStore> {
    shared: Arc<Shared<S>>,
    socket: PathBuf,
}

impl<S: RunStore> Engine<S> {
    /// Listens for workers. No run is worked on until it is submitted or resumed.
    ///
    /// # Errors
    /// [`EngineError::SocketPath`] or [`EngineError::Socket`].
    pub fn start(store: S, options: EngineOptions) -> Result<Self, EngineError> {
        let socket = socket::path_in(store.folder().path());
        let listener = socket::listen(&socket)?;
        let shared = Arc::new(Shared {
            store,
            kinds: options.kinds,
            phase: watch::Sender::new(Phase::Running),
            sessions: TaskTracker::new(),
            workers: Mutex::default(),
        });
        tokio::spawn(socket::accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, socket })
    }

    /// Where workers connect.
    pub fn socket_path(&self) -> &Path {
        &self.socket
    }

    /// The store under the engine, to look at what is stored.
    pub fn store(&self) -> &S {
        &self.shared.store
    }

    /// The workers that are connected now.
    pub fn workers(&self) -> Vec<Worker> {
        self.shared.workers()
    }

    /// What happens from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.shared.store.notices()
    }

    /// Makes a run and starts it.
    ///
    /// # Errors
    /// [`EngineError::Stopping`] or [`EngineError::Store`].
    pub async fn submit(&self, plan: Plan) -> Result<RunId, EngineError> {
        self.require_running()?;
        Ok(self.shared.store.submit(plan).await?)
    }

    /// As [`Self::submit`], under an identifier of [`new_run_id`](sealift_store::new_run_id).
    ///
    /// # Errors
    /// [`EngineError::Stopping`] or [`EngineError::Store`].
    pub async fn submit_as(&self, run: RunId, plan: Plan) -> Result<RunId, EngineError> {
        self.require_running()?;
        Ok(self.shared.store.submit_as(run, plan).await?)
    }

    /// Goes on with a run that was interrupted, or that stopped at an undo that failed.
    ///
    /// # Errors
    /// [`EngineError::Stopping`] or [`EngineError::Store`].
    pub async fn resume(&self, run: &RunId) -> Result<RunStatus, EngineError> {
        self.require_running()?;
        Ok(self.shared.store.resume(run).await?)
    }

    /// Begins to unwind a run.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub async fn cancel(&self, run: &RunId) -> Result<(), EngineError> {
        Ok(self.shared.store.cancel(run).await?)
    }

    /// Waits until a run is settled, or stopped at an undo that failed.
    ///
    /// # Errors
    /// [`EngineError::Stopping`] once the engine has ended before that, or
    /// [`EngineError::Store`].
    pub async fn wait(&self, run: &RunId) -> Result<RunSummary, EngineError> {
        let mut phase = self.shared.phase.subscribe();
        loop {
            // Watching begins before looking, so that nothing falls between the two.
            let mut notices = self.notices();
            let summary = self.shared.store.reader().summary(run).await?;
            if summary.status.is_settled() || summary.status == RunStatus::Stopped {
                return Ok(summary);
            }
            tokio::select! {
                () = status_change(&mut notices, run) => {}
                _ = phase.wait_for(|phase| *phase == Phase::Ended) => {
                    return Err(EngineError::Stopping);
                }
            }
        }
    }

    /// Stops giving out work and asks every attempt to stop at a safe point; `at_once` does not
    /// wait for them. Runs can be resumed either way. May be called again to hurry.
    pub fn stop(&self, at_once: bool) {
        self.shared.advance(if at_once {
            Phase::Ended
        } else {
            Phase::Draining
        });
    }

    /// Waits until the engine was asked to stop, by [`stop`](Self::stop) or over its socket, and
    /// everything is stored.
    pub async fn ended(&self) {
        let mut phase = self.shared.phase.subscribe();
        // The sender lives in `shared`, so waiting for a phase cannot fail.
        drop(phase.wait_for(|phase| *phase >= Phase::Draining).await);
        self.shared.sessions.close();
        tokio::select! {
            () = self.shared.sessions.wait() => {}
            _ = phase.wait_for(|phase| *phase == Phase::Ended) => {}
        }
        self.shared.advance(Phase::Ended);
        self.shared.sessions.wait().await;
        self.shared.store.close().await;
    }

    fn require_running(&self) -> Result<(), EngineError> {
        match *self.shared.phase.borrow() {
            Phase::Running => Ok(()),
            Phase::Draining | Phase::Ended => Err(EngineError::Stopping),
        }
    }
}

/// Waits until the run's status may have changed.
async fn status_change(notices: &mut broadcast::Receiver<Notice>, run: &RunId) {
    loop {
        match notices.recv().await {
            Ok(Notice::Run { run: changed, .. }) if changed == *run => return,
            Ok(_) => {}
            // Something was missed, or nothing more will come: look again.
            Err(_) => return,
        }
    }
}
