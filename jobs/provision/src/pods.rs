//! The pods of one operator process.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sealift_init_data::{RegisteredSlots, RenderError, render};
use sealift_pinned_tls::{ClientError, ServerUrl};
use sealift_trust_folder::{TrustFolder, TrustFolderError};
use tokio::{
    sync::Mutex as AsyncMutex,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    Backend, BackendError, Guest, GuestEnd, GuestStart, GuestStatus, Pod, PodName, PodSettings,
    spec::Specs,
};

/// Pause between two questions to a guest that is getting its keys and its model.
const POLL_PAUSE: Duration = Duration::from_millis(200);
/// How long a guest may take from its start to serving: it fetches and decrypts a whole model.
const START_TIMEOUT: Duration = Duration::from_mins(9);
/// Reasons of guests that waiting and another start may cure.
const CURABLE_REASONS: [&str; 3] = [
    "no answer from the key manager",
    "no answer from the store",
    "the guest was interrupted",
];

/// Why a pod does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// Nothing to start guests from.
    #[error("the trust folder is not usable")]
    Trust(#[source] TrustFolderError),
    /// The template does not take this operator's slots.
    #[error("the owner's template does not allow this pod")]
    Render(#[source] RenderError),
    /// The guest was not started.
    #[error("the guest of pod `{name}` was not started")]
    Backend {
        /// The pod.
        name: PodName,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// The spec was not written, read or removed.
    #[error("cannot {operation} the spec of a pod, `{}`", path.display())]
    Spec {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// Nobody provisioned it, or it was deprovisioned.
    #[error("there is no pod `{0}`; it was deprovisioned, or its spec was removed")]
    NoSpec(PodName),
    /// The name stands for something else.
    #[error("pod `{0}` is already there for another model version")]
    OtherPod(PodName),
    /// The guest ended.
    #[error("the guest of pod `{name}` ended ({}); the operator's log has its last words", end.text)]
    Ended {
        /// The pod.
        name: PodName,
        /// How.
        end: GuestEnd,
    },
    /// The guest will never serve.
    #[error("the guest of pod `{name}` does not serve: {reason}")]
    Failed {
        /// The pod.
        name: PodName,
        /// The guest's reason.
        reason: String,
    },
    /// The guest takes too long.
    #[error("the guest of pod `{name}` does not serve after {seconds} s; it is {phase}")]
    TooSlow {
        /// The pod.
        name: PodName,
        /// How long it was waited for.
        seconds: u64,
        /// How far it was.
        phase: String,
    },
    /// The process is ending.
    #[error("the program is shutting down")]
    ShuttingDown,
}

impl PodError {
    /// Whether trying again later can help without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Backend { source, .. } => source.is_transient(),
            Self::Ended { end, .. } => end.transient,
            Self::Failed { reason, .. } => CURABLE_REASONS.contains(&reason.as_str()),
            Self::TooSlow { .. } | Self::ShuttingDown => true,
            Self::Trust(_)
            | Self::Render(_)
            | Self::Spec { .. }
            | Self::NoSpec(_)
            | Self::OtherPod(_) => false,
        }
    }

    /// What a person can do, where waiting does not help.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Trust(_) => "make the trust folder anew with `sealift reference accept`",
            Self::Render(_) => {
                "have the owner sign a template that allows this key manager and store"
            }
            Self::Backend { .. } => {
                "build every binary of the workspace in one profile, then accept it"
            }
            Self::Spec { .. } => "look at the folder of pods in the state folder",
            Self::NoSpec(_) => "start a new run",
            Self::OtherPod(_) => "remove the pod's folder if no run uses it",
            Self::Failed { .. } => {
                "look at the key manager's audit log; after a rebuild, accept the new measurements \
                 and seal the model again"
            }
            _ => "look at the operator's log",
        }
    }
}

/// A guest that said it serves. Nothing is proven: its evidence has not been asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Where it listens.
    pub url: ServerUrl,
    /// Which start of a guest this is; another number means other keys.
    pub start: u64,
    /// Its last status.
    pub status: GuestStatus,
}

/// The pods of one operator process, shared by all its jobs.
///
/// A guest on this machine ends with the process, a pod does not: [`Pods::serving`] starts the
/// guest again from its spec, with the key manager of today, so that finished jobs need not be
/// done again after a resume.
pub struct Pods {
    settings: PodSettings,
    backend: Box<dyn Backend>,
    specs: Specs,
    /// One lock per pod, so that starting one guest keeps no other pod waiting.
    guests: Mutex<BTreeMap<PodName, Arc<AsyncMutex<Option<Live>>>>>,
    starts: AtomicU64,
}

struct Live {
    guest: Box<dyn Guest>,
    start: u64,
}

impl Pods {
    /// No guest runs yet.
    pub fn new(settings: PodSettings, backend: Box<dyn Backend>) -> Self {
        let specs = Specs::new(settings.specs());
        Self {
            settings,
            backend,
            specs,
            guests: Mutex::default(),
            starts: AtomicU64::new(0),
        }
    }

    /// What all pods have in common.
    pub fn settings(&self) -> &PodSettings {
        &self.settings
    }

    /// The slots that guests of `pod` must have been started with, under `trust`.
    pub fn registered_slots(&self, pod: &Pod, trust: &TrustFolder) -> RegisteredSlots {
        let key_manager = self.settings.key_manager();
        RegisteredSlots {
            model: pod.model.to_string(),
            version: pod.version.to_string(),
            serial: pod.serial,
            manifest_sha256: pod.manifest_sha256,
            owner_root: *trust.owner_root(),
            template_sha256: trust.template().digest(),
            km_id: key_manager.id.clone(),
            km_tls_sha256: key_manager.tls_sha256,
        }
    }

    /// Notes that there is to be such a pod; the same one again is success.
    ///
    /// # Errors
    /// [`PodError::OtherPod`] or [`PodError::Spec`].
    pub fn create(&self, pod: &Pod) -> Result<(), PodError> {
        self.specs.create(pod)
    }

    /// The serving guest of a pod; starts one from its spec if none runs, and waits for it.
    ///
    /// Dropping the future ends a guest that it started.
    ///
    /// # Errors
    /// [`PodError`].
    pub async fn serving(&self, name: &PodName, now_unix: u64) -> Result<Serving, PodError> {
        let slot = self.slot(name);
        let mut live = slot.lock().await;
        if let Some(running) = live.as_mut() {
            // Asked again: a guest that lost its lease or its key manager is replaced.
            let serving = wait(name, running).await;
            if serving.is_ok() {
                return serving;
            }
            *live = None;
        }
        let mut started = self.start(name, now_unix).await?;
        let serving = wait(name, &mut started).await?;
        *live = Some(started);
        Ok(serving)
    }

    /// Ends the guest of a pod and forgets the pod; finding neither is success.
    ///
    /// # Errors
    /// [`PodError::Spec`].
    pub async fn remove(&self, name: &PodName) -> Result<(), PodError> {
        let slot = self.slot(name);
        let guest = slot.lock().await.take();
        // Ending a guest waits for the process.
        spawn_blocking(move || drop(guest))
            .await
            .map_err(|_| PodError::ShuttingDown)?;
        self.specs.remove(name)
    }

    fn slot(&self, name: &PodName) -> Arc<AsyncMutex<Option<Live>>> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(guests.entry(name.clone()).or_default())
    }

    async fn start(&self, name: &PodName, now_unix: u64) -> Result<Live, PodError> {
        let pod = self.specs.read(name)?;
        let trust = TrustFolder::open(self.settings.trust(), now_unix).map_err(PodError::Trust)?;
        let registered = self.registered_slots(&pod, &trust);
        let template = trust.template().document();
        let init_data = render(template, &registered, self.settings.operator_slots())
            .map_err(PodError::Render)?;
        let start = GuestStart {
            name: name.clone(),
            folder: self.specs.folder(name),
            init_data,
            publish_delegation: trust.publish_delegation().clone(),
        };
        let failed = |source| PodError::Backend {
            name: name.clone(),
            source,
        };
        let guest = self.backend.start(start).await.map_err(failed)?;
        let start = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(pod = %name, url = %guest.url(), start, "guest started");
        Ok(Live { guest, start })
    }
}

async fn wait(name: &PodName, live: &mut Live) -> Result<Serving, PodError> {
    let mut phase = "silent".to_owned();
    let serving = timeout(START_TIMEOUT, poll(name, live, &mut phase)).await;
    serving.unwrap_or_else(|_| {
        Err(PodError::TooSlow {
            name: name.clone(),
            seconds: START_TIMEOUT.as_secs(),
            phase,
        })
    })
}

/// Asks until the guest serves, fails or ends; `phase` is how far it was when it was last asked.
async fn poll(name: &PodName, live: &mut Live, phase: &mut String) -> Result<Serving, PodError> {
    let url = live.guest.url().clone();
    loop {
        if let Some(end) = live.guest.ended() {
            return Err(PodError::Ended {
                name: name.clone(),
                end,
            });
        }
        match GuestStatus::ask(&url).await {
            Ok(status) if status.serves() => {
                return Ok(Serving {
                    url,
                    start: live.start,
                    status,
                });
            }
            Ok(status) if status.failed() => {
                let reason = status
                    .reason
                    .unwrap_or_else(|| "it does not say why".to_owned());
                return Err(PodError::Failed {
                    name: name.clone(),
                    reason,
                });
            }
            Ok(status) => *phase = status.phase,
            Err(error) => log_unanswered(name, &error),
        }
        sleep(POLL_PAUSE).await;
    }
}

fn log_unanswered(name: &PodName, error: &ClientError) {
    tracing::debug!(pod = %name, error = error as &dyn std::error::Error, "no status");
}
