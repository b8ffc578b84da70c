//! Starts and stops confidential guests, each for one model version: `provision@1` and
//! `deprovision@1`.
//!
//! Where a guest runs is a [`Backend`]; on one machine that is [`LocalBackend`], under the
//! simulated AMD-SP. What a guest is started with follows from the owner's signed template alone.
//! Nothing here decides whether a guest is trusted: `attest@1` does, and the key manager.

mod backend;
mod deprovision;
mod local;
mod name;
mod pod;
mod pods;
mod provision;
mod settings;
mod spec;
mod status;

pub use backend::{Backend, BackendError, Guest, GuestEnd, GuestStart};
pub use deprovision::{Deprovision, Input as DeprovisionInput, Output as DeprovisionOutput};
pub use local::LocalBackend;
pub use name::{ParsePodNameError, PodName};
pub use pod::{Pod, Published};
pub use pods::{PodError, Pods, Serving};
pub use provision::{Input as ProvisionInput, Output as ProvisionOutput, Provision};
pub use settings::{GuestStore, KeyManagerAddress, PodSettings, SettingsError};
pub use status::{GuestStatus, STATUS_PATH};
