//! Hosts jobs in a worker process: claims tasks from the engine over its socket, runs them under
//! apalis, heartbeats while they run, and reports how they ended.
//!
//! A worker binary is a [`Host`] with its jobs and a call of [`Host::run`].

mod attempt;
mod backend;
mod connection;
mod host;
mod hosted;
mod outcome;

pub use host::{Host, HostError, HostOptions};
