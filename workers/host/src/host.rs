//! A worker process: its jobs, and its life between the engine's greeting and the engine's end.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use apalis::prelude::{Data, Monitor, MonitorError, WorkerBuilder, WorkerBuilderExt};
use futures::StreamExt;
use rustix::process::{Signal, set_parent_process_death_signal};
use sealift_job::Job;
use sealift_run::{
    Worker,
    message::{Assignment, FrameError, KindDescription, MAX_SLOTS, PROTOCOL, ToEngine},
};
use tokio::{runtime, sync::mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    attempt::Runner,
    backend::EngineQueue,
    connection::{self, Link},
    hosted::{Hosted, Typed},
};

/// How a [`Host`] runs.
#[derive(Clone)]
pub struct HostOptions {
    /// The engine's socket.
    pub engine_socket: PathBuf,
    /// Stays the same over restarts, and is unique among the workers of an engine.
    pub name: String,
    /// Attempts at once; 1 to [`MAX_SLOTS`].
    pub slots: u32,
    /// Whether the process ends with the one that started it, as a child of the engine's
    /// launcher must. It must have been started by a thread that lives as long as its process.
    pub end_with_parent: bool,
    /// The clock, in Unix seconds.
    pub now_unix: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for HostOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostOptions")
            .field("engine_socket", &self.engine_socket)
            .field("name", &self.name)
            .field("slots", &self.slots)
            .field("end_with_parent", &self.end_with_parent)
            .finish_non_exhaustive()
    }
}

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Two jobs have one kind.
    #[error("two jobs are hosted as `{0}`; this is a bug in the worker")]
    DuplicateKind(&'static str),
    /// More or fewer attempts at once than a worker may hold.
    #[error("a worker runs 1 to {MAX_SLOTS} attempts at once, not {0}")]
    Slots(u32),
    /// The system did not give what a worker needs.
    #[error("could not {operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The engine could not be reached.
    #[error("could not reach the engine at {socket}; start it with `sealift run` or `sealift serve`", socket = .socket.display())]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The engine does not serve this worker.
    #[error("the engine turned the worker away: {reason}")]
    Refused {
        /// Why, in the engine's words.
        reason: String,
    },
    /// The engine closed the connection: its attempts are void.
    #[error("the engine has gone; continue with `sealift resume`")]
    EngineGone,
    /// A message could not be made or read.
    #[error("could not talk with the engine")]
    Frame(#[from] FrameError),
    /// The runtime of the worker failed.
    #[error("the worker's runtime failed")]
    Runtime(#[from] MonitorError),
}

/// The jobs of one worker process.
pub struct Host {
    zone: String,
    jobs: BTreeMap<&'static str, Arc<dyn Hosted>>,
    duplicate: Option<&'static str>,
}

impl Host {
    /// A host of the trust zone `zone` (`owner`, `operator`), without jobs yet.
    pub fn new(zone: impl Into<String>) -> Self {
        Self {
            zone: zone.into(),
            jobs: BTreeMap::new(),
            duplicate: None,
        }
    }

    /// Hosts a job.
    #[must_use]
    pub fn hosts<J: Job + 'static>(mut self, job: J) -> Self {
        if self.jobs.insert(J::KIND, Arc::new(Typed(job))).is_some() {
            self.duplicate = Some(J::KIND);
        }
        self
    }

    /// What it hosts, by name.
    pub fn kinds(&self) -> Vec<KindDescription> {
        self.jobs
            .values()
            .map(|job| job.describe(&self.zone))
            .collect()
    }

    /// What it hosts as JSON, in the form that definitions are checked against.
    pub fn kinds_json(&self) -> String {
        let json = serde_json::to_string_pretty(&self.kinds());
        json.expect("schemas are JSON values") + "\n"
    }

    /// Works for the engine until it drains (then `Ok`) or goes away (then an error).
    ///
    /// After an error the process must end: jobs may still be running on its threads.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn run(self, options: HostOptions) -> Result<(), HostError> {
        if let Some(kind) = self.duplicate {
            return Err(HostError::DuplicateKind(kind));
        }
        if !(1..=MAX_SLOTS).contains(&options.slots) {
            return Err(HostError::Slots(options.slots));
        }
        if options.end_with_parent {
            let set = set_parent_process_death_signal(Some(Signal::KILL));
            let operation = "tie the worker to the process that started it";
            set.map_err(|errno| HostError::System {
                operation,
                source: errno.into(),
            })?;
        }
        let runtime = JobRuntime::new(options.slots)?;
        let hello = ToEngine::Register {
            protocol: PROTOCOL,
            worker: Worker {
                name: options.name.clone(),
                boot: uuid::Uuid::new_v4().to_string(),
            },
            zone: self.zone.clone(),
            kinds: self.kinds(),
        };
        let (frames, lease_ms) = connection::register(&options.engine_socket, &hello).await?;
        let (sink, stream) = frames.split();
        let (link, outbox) = Link::new();
        let link = Arc::new(link);
        let writer = AbortOnDropHandle::new(tokio::spawn(connection::write(sink, outbox)));
        let (assigned, assignments) = mpsc::channel(options.slots as usize);
        link.send(&ToEngine::Claim {
            slots: options.slots,
        })
        .await?;
        let runner = Arc::new(Runner {
            jobs: self.jobs,
            runtime: runtime.handle(),
            link: Arc::clone(&link),
            lease_ms,
            now_unix: options.now_unix,
        });
        let reader = connection::read(stream, &link, assigned);
        tokio::pin!(reader);
        let worked = tokio::select! {
            worked = work(&options.name, options.slots, runner, assignments) => worked,
            gone = &mut reader => return Err(gone),
        };
        // Every attempt waited for its record, so nothing that matters is left unsent.
        drop(writer);
        worked
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("zone", &self.zone)
            .field("kinds", &self.jobs.keys())
            .finish_non_exhaustive()
    }
}

/// Runs assignments under apalis until the engine drains and the last of them has ended.
///
/// What was assigned and not begun goes back to the engine when the connection closes.
async fn work(
    name: &str,
    slots: u32,
    runner: Arc<Runner>,
    assignments: mpsc::Receiver<Assignment>,
) -> Result<(), HostError> {
    let name = name.to_owned();
    let draining = runner.link.draining.clone();
    let queue = Mutex::new(Some(EngineQueue::new(assignments)));
    let monitor = Monitor::new().register(move |_restarts| {
        let taken = queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The monitor makes a worker once: a queue that cannot fail is never restarted.
        let queue = taken.expect("the queue's error type has no values");
        WorkerBuilder::new(name.as_str())
            .backend(queue)
            .enable_tracing()
            .catch_panic()
            .concurrency(slots as usize)
            .data(Arc::clone(&runner))
            .build(attend)
    });
    let drained = async {
        draining.cancelled().await;
        Ok(())
    };
    Ok(monitor.run_with_signal(drained).await?)
}

/// What apalis calls for each assignment.
async fn attend(assignment: Assignment, runner: Data<Arc<Runner>>) -> Result<(), HostError> {
    // In a task of its own, because apalis polls all of a worker's tasks in one.
    let attended = tokio::spawn(Arc::clone(&runner).attend(assignment)).await;
    attended.unwrap_or_else(|error| {
        tracing::error!(%error, "an attempt's supervisor failed; its lease will end");
        Ok(())
    })
}

/// The threads on which jobs run.
struct JobRuntime(Option<runtime::Runtime>);

impl JobRuntime {
    fn new(slots: u32) -> Result<Self, HostError> {
        let mut builder = runtime::Builder::new_multi_thread();
        // One more than the slots, so that timers of jobs fire while all of them compute.
        builder
            .worker_threads(slots as usize + 1)
            .thread_name("job")
            .enable_all();
        let operation = "start the threads for jobs";
        let built = builder
            .build()
            .map_err(|source| HostError::System { operation, source })?;
        Ok(Self(Some(built)))
    }

    fn handle(&self) -> runtime::Handle {
        self.0
            .as_ref()
            .expect("it is there until it is dropped")
            .handle()
            .clone()
    }
}

impl Drop for JobRuntime {
    fn drop(&mut self) {
        // A runtime may not be dropped inside another one, and a job that never yields must not
        // hold up the end of the process.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
