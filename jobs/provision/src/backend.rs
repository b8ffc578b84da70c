//! Where guests run.

use std::path::PathBuf;

use async_trait::async_trait;
use sealift_init_data::InitData;
use sealift_pinned_tls::ServerUrl;
use sealift_signed_document::Envelope;
use sealift_simulated_sp::LaunchError;

use crate::PodName;

/// Starts guests somewhere: processes on this machine, pods in a cluster.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Starts a guest and waits until it says where it listens, not until it serves.
    ///
    /// Dropping the future ends what it started.
    async fn start(&self, start: GuestStart) -> Result<Box<dyn Guest>, BackendError>;
}

/// A guest that was started; dropping it ends it.
pub trait Guest: Send {
    /// Where it listens.
    fn url(&self) -> &ServerUrl;

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<GuestEnd>;
}

/// What a guest is started with. Nothing of it is secret.
#[derive(Clone, Debug)]
pub struct GuestStart {
    /// Its name.
    pub name: PodName,
    /// The folder of its spec, in which a backend may leave files for it.
    pub folder: PathBuf,
    /// What it is measured with.
    pub init_data: InitData,
    /// The owner root's word for the key that signed the model.
    pub publish_delegation: Envelope,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestEnd {
    /// Whether another start can go better. A guest that refused its input would refuse it again.
    pub transient: bool,
    /// What the system says of it.
    pub text: String,
}

/// Why a guest was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// A file for the guest was not written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// The platform did not start it.
    #[error("the platform did not start the guest")]
    Launch(#[source] LaunchError),
    /// It ended before it said where it listens.
    #[error("the guest ended before it listened ({}); the operator's log has its last words", .0.text)]
    EndedEarly(GuestEnd),
    /// It said something else.
    #[error("the guest did not announce where it listens; is it of this build?")]
    Announcement,
    /// It said nothing.
    #[error("the guest did not announce where it listens within {seconds} s")]
    Silent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// The process is ending.
    #[error("the program is shutting down")]
    ShuttingDown,
}

impl BackendError {
    /// Whether trying again later can help without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Launch(LaunchError::Executable { .. }) | Self::Announcement => false,
            Self::EndedEarly(end) => end.transient,
            _ => true,
        }
    }
}
