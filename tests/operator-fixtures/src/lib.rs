//! What the tests of the operator's zone stand on: a deployment on disk under a simulated AMD-SP,
//! guests and a key manager in this process over real TLS, and a sealed batch.
//!
//! Evidence, signatures, TLS and files are real; guest and key manager only play their parts of
//! the protocol, so that each of their messages can be spoiled.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a fixture that fails is a test that fails"
)]

mod batch;
mod guest;
mod key_manager;
mod world;

pub use batch::SealedBatch;
pub use guest::{GuestBackend, Played, Spoil, Stage};
pub use key_manager::{ServedKeyManager, TestKeyManager};
pub use world::{
    GUEST_MEASUREMENT, KEY_MANAGER_MEASUREMENT, MODEL, NOW, RUN, SERIAL, World, context,
};
