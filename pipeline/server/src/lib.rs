//! The engine process: one per state folder, serving workers in other processes over a Unix
//! socket.
//!
//! [`Engine`] decides nothing: [`sealift_run`] does, [`sealift_store`] keeps it; the engine
//! connects them to workers, to the command line and to whoever asks for its status or its end.

pub mod control;
mod engine;
mod frames;
mod kinds;
mod session;
mod socket;

pub use engine::{Engine, EngineError, EngineOptions};
pub use kinds::{KnownKinds, UnfitWorker};
