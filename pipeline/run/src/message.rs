//! What workers, control clients and the engine say to each other over the engine's socket.
//!
//! One frame is a 32-bit big-endian length and that many bytes of JSON. The client speaks first,
//! with [`ToEngine::Register`] or a control request.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Action, AttemptId, Outcome, RunId, RunStatus, Worker};

/// The version of these messages; both sides are of one release, so any other is refused.
pub const PROTOCOL: u32 = 1;

/// Longest frame: a list of 100,000 partitions with their digests fits, a mistake does not.
pub const MAX_FRAME_BYTES: usize = 32 * 1024 * 1024;

/// Longest line of a log; longer ones are cut by the worker.
pub const MAX_LOG_LINE_BYTES: usize = 16 * 1024;

/// Most attempts that one worker may hold at once.
pub const MAX_SLOTS: u32 = 1_024;

/// One kind of job, as a worker offers it and as a definition is checked against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindDescription {
    /// The kind with its version (`seal@1`).
    pub kind: String,
    /// The trust zone that hosts it.
    pub zone: String,
    /// Whether it leaves something outside the run's own artifacts.
    pub effectful: bool,
    /// JSON Schema of its input.
    pub input: Value,
    /// JSON Schema of its output.
    pub output: Value,
}

/// How far an attempt is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all; 0 if unknown.
    pub total: u64,
    /// What is counted, in the plural.
    pub unit: String,
}

/// From a worker or a control client to the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToEngine {
    /// A worker introduces itself; the first and only time.
    Register {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Which start of which worker.
        worker: Worker,
        /// Its trust zone.
        zone: String,
        /// What it hosts.
        kinds: Vec<KindDescription>,
    },
    /// The worker can hold `slots` more attempts.
    Claim {
        /// At least 1; [`MAX_SLOTS`] in all.
        slots: u32,
    },
    /// The attempt is alive.
    Heartbeat {
        /// The attempt.
        attempt: AttemptId,
        /// How far it is, if it said so.
        progress: Option<Progress>,
    },
    /// The attempt speaks.
    Log {
        /// The attempt.
        attempt: AttemptId,
        /// One line, without its end.
        line: String,
    },
    /// The attempt ended.
    Finish {
        /// The attempt.
        attempt: AttemptId,
        /// How.
        outcome: Outcome,
    },
    /// A control client asks how the engine is; also as a first message.
    Status,
    /// A control client wants to know when something happens to a run; also as a first message.
    Follow {
        /// The run.
        run: RunId,
    },
    /// A control client asks the engine to end; also as a first message.
    Stop {
        /// Not waiting for the attempts' safe points.
        at_once: bool,
    },
}

/// From the engine to a worker or a control client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromEngine {
    /// The worker is known now.
    Registered {
        /// How long a claim lives without a heartbeat, in milliseconds.
        lease_ms: u64,
    },
    /// The client is not served.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// The worker holds an attempt; answers one slot of [`ToEngine::Claim`].
    Assigned(Box<Assignment>),
    /// The attempt should stop at a safe point; its outcome then uses no attempt.
    Interrupt {
        /// The attempt.
        attempt: AttemptId,
    },
    /// The attempt is no longer the worker's: whatever it still writes is refused.
    Void {
        /// The attempt.
        attempt: AttemptId,
    },
    /// The outcome is in the log.
    Recorded {
        /// The attempt.
        attempt: AttemptId,
    },
    /// The engine ends: stop every attempt at a safe point and claim no more.
    Drain,
    /// Answers [`ToEngine::Status`].
    Status(EngineStatus),
    /// Answers [`ToEngine::Follow`], at once and again whenever something has happened to the
    /// run: what it is, is in the tables.
    Changed,
    /// Answers [`ToEngine::Stop`].
    Stopping,
}

/// A task that a worker holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// What to present with every message about it.
    pub attempt: AttemptId,
    /// 1 for the first attempt.
    pub number: u32,
    /// The kind of its job.
    pub kind: String,
    /// What to do.
    pub action: Action,
    /// What it is told.
    pub input: Value,
    /// For an undo: what the job left, if it is known to have succeeded.
    pub output: Option<Value>,
    /// Longest time it may take, in milliseconds.
    pub timeout_ms: u64,
    /// The folder in which the jobs of the run leave files for each other.
    pub artifacts: PathBuf,
}

/// How an engine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineStatus {
    /// Its process.
    pub pid: u32,
    /// Whether it is waiting for attempts to stop.
    pub draining: bool,
    /// The runs it is working on.
    pub runs: Vec<(RunId, RunStatus)>,
    /// The workers that are connected.
    pub workers: Vec<Worker>,
}

/// The body of a frame.
///
/// # Errors
/// Only if it would be longer than [`MAX_FRAME_BYTES`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = serde_json::to_vec(message).map_err(FrameError::Encode)?;
    if body.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong(body.len()));
    }
    Ok(body)
}

/// The message in the body of a frame.
///
/// # Errors
/// [`FrameError::Decode`] for anything but one message of this release.
pub fn decode<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(FrameError::Decode)
}

/// Why a frame could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The message is too long.
    #[error(
        "the message takes {0} bytes; the most is {MAX_FRAME_BYTES}: put large data into a file of the run's artifacts"
    )]
    TooLong(usize),
    /// The message has no JSON form.
    #[error("the message could not be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// The body is not a message.
    #[error(
        "the frame holds no message of this release; start workers and engine from one release"
    )]
    Decode(#[source] serde_json::Error),
}
