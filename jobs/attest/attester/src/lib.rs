//! How a confidential process gets evidence about itself, and how it ends with its launcher.

mod attester;
mod launcher;
#[cfg(feature = "simulated")]
mod simulated;

pub use attester::{Attester, AttesterError};
pub use launcher::{EXIT_LAUNCHER_GONE, die_with_launcher};
#[cfg(feature = "simulated")]
pub use simulated::{SimulatedSpSocket, wire};
