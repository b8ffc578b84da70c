//! The connection to the engine: one task writes, one reads, for as long as the process lives.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use sealift_run::{
    AttemptId,
    message::{Assignment, FromEngine, MAX_FRAME_BYTES, ToEngine, decode, encode},
};
use tokio::{
    net::UnixStream,
    sync::{mpsc, watch},
};
use tokio_util::{
    codec::{Framed, LengthDelimitedCodec},
    sync::CancellationToken,
};

use crate::HostError;

/// Frames that wait for the engine to read them.
const OUTBOX: usize = 1_024;

/// How long the engine may take to greet.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) type Frames = Framed<UnixStream, LengthDelimitedCodec>;

/// Whose an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This worker's.
    Held,
    /// Its outcome is in the log.
    Recorded,
    /// Not this worker's any more.
    Void,
}

/// How the engine reaches an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    /// The engine asked it to stop at a safe point.
    pub(crate) interrupt: CancellationToken,
    pub(crate) standing: watch::Sender<Standing>,
}

/// What the attempts of this worker share.
#[derive(Debug)]
pub(crate) struct Link {
    outbox: mpsc::Sender<Bytes>,
    controls: Mutex<HashMap<AttemptId, Control>>,
    /// The engine ends: nothing more is claimed.
    pub(crate) draining: CancellationToken,
}

impl Link {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Bytes>) {
        let (outbox, sent) = mpsc::channel(OUTBOX);
        let (controls, draining) = (Mutex::default(), CancellationToken::new());
        (
            Self {
                outbox,
                controls,
                draining,
            },
            sent,
        )
    }

    /// Sends a message; one that is too long is an error, a closed connection is none: the
    /// process is about to end.
    pub(crate) async fn send(&self, message: &ToEngine) -> Result<(), HostError> {
        let frame = Bytes::from(encode(message)?);
        drop(self.outbox.send(frame).await);
        Ok(())
    }

    pub(crate) fn control(&self, attempt: &AttemptId) -> Option<Control> {
        self.controls().get(attempt).cloned()
    }

    pub(crate) fn forget(&self, attempt: &AttemptId) {
        self.controls().remove(attempt);
    }

    fn controls(&self) -> MutexGuard<'_, HashMap<AttemptId, Control>> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, attempt: AttemptId) {
        let interrupt = self.draining.child_token();
        let standing = watch::Sender::new(Standing::Held);
        self.controls().insert(
            attempt,
            Control {
                interrupt,
                standing,
            },
        );
    }

    fn settle(&self, attempt: &AttemptId, standing: Standing) {
        if let Some(control) = self.control(attempt) {
            control.standing.send_replace(standing);
            if standing == Standing::Void {
                control.interrupt.cancel();
            }
        }
    }
}

/// Connects and introduces this worker; returns the lease in milliseconds.
pub(crate) async fn register(
    socket: &std::path::Path,
    hello: &ToEngine,
) -> Result<(Frames, u64), HostError> {
    let unreachable = |source| HostError::Unreachable {
        socket: socket.to_owned(),
        source,
    };
    let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
    let codec = LengthDelimitedCodec::builder()
        .max_frame_length(MAX_FRAME_BYTES)
        .new_codec();
    let mut frames = Framed::new(stream, codec);
    frames
        .send(Bytes::from(encode(hello)?))
        .await
        .map_err(unreachable)?;
    let Ok(greeting) = tokio::time::timeout(GREETING_TIMEOUT, frames.next()).await else {
        return Err(HostError::EngineGone);
    };
    let greeting = greeting
        .ok_or(HostError::EngineGone)?
        .map_err(unreachable)?;
    match decode(&greeting)? {
        FromEngine::Registered { lease_ms } => Ok((frames, lease_ms)),
        FromEngine::Refused { reason } => Err(HostError::Refused { reason }),
        _ => Err(HostError::EngineGone),
    }
}

/// Writes until every sender is gone or the engine is.
pub(crate) async fn write(mut sink: SplitSink<Frames, Bytes>, mut outbox: mpsc::Receiver<Bytes>) {
    while let Some(frame) = outbox.recv().await {
        if let Err(error) = sink.send(frame).await {
            tracing::debug!(%error, "the engine reads no more");
            return;
        }
    }
}

/// Reads until the engine is gone; says why the process must end.
pub(crate) async fn read(
    mut stream: SplitStream<Frames>,
    link: &Link,
    assignments: mpsc::Sender<Assignment>,
) -> HostError {
    let mut assignments = Some(assignments);
    while let Some(frame) = stream.next().await {
        let message = match frame
            .map_err(|_| HostError::EngineGone)
            .and_then(|frame| decode::<FromEngine>(&frame).map_err(HostError::from))
        {
            Ok(message) => message,
            Err(error) => return error,
        };
        match message {
            FromEngine::Assigned(assignment) => {
                link.admit(assignment.attempt.clone());
                if let Some(assignments) = &assignments {
                    // An error means that the worker has ended, and the engine will see it.
                    drop(assignments.send(*assignment).await);
                }
            }
            FromEngine::Interrupt { attempt } => {
                if let Some(control) = link.control(&attempt) {
                    control.interrupt.cancel();
                }
            }
            FromEngine::Void { attempt } => link.settle(&attempt, Standing::Void),
            FromEngine::Recorded { attempt } => link.settle(&attempt, Standing::Recorded),
            FromEngine::Drain => {
                link.draining.cancel();
                assignments = None;
            }
            FromEngine::Refused { reason } => return HostError::Refused { reason },
            FromEngine::Registered { .. }
            | FromEngine::Status(_)
            | FromEngine::Changed
            | FromEngine::Stopping => {}
        }
    }
    HostError::EngineGone
}
