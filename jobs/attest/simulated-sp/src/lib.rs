//! A software AMD-SP for one machine: it makes its own certificate authority, measures
//! executables, launches them, and signs reports about them that differ from real ones in nothing
//! but the root of their certificates.
//!
//! The launcher holds the chip key; a guest has one socket as its standard input, over which it
//! can ask for a report that holds its `report_data`, and nothing else. This protects against
//! other users of the machine and against mistakes, not against whoever runs the launcher.

#[cfg(feature = "simulated")]
mod authority;
#[cfg(feature = "simulated")]
mod firmware;
#[cfg(feature = "simulated")]
mod in_process;
#[cfg(feature = "simulated")]
mod launch;
#[cfg(feature = "simulated")]
mod platform;

#[cfg(feature = "simulated")]
pub use firmware::{GuestContext, SimulatedSp, SimulatedSpError};
#[cfg(feature = "simulated")]
pub use in_process::InProcessGuest;
#[cfg(feature = "simulated")]
pub use launch::{Launch, LaunchError, LaunchedGuest, MeasuredExecutable};
#[cfg(feature = "simulated")]
pub use platform::{Platform, ReportVersion};
