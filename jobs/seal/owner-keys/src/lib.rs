//! The owner's keys, and what is done with them at a key manager.
//!
//! [`OwnerKeys`] is the folder of key files. [`OwnerSession`] is a key manager that the owner
//! appraised, with the admin key that signs changes for it; nothing is sent to any other.
//! [`Witness`] unlocks a key manager and cosigns its checkpoints.

mod owner_keys;
mod session;
mod state_keys;
mod witness;

pub use owner_keys::{KeysError, OwnerKeys};
pub use session::{OwnerSession, SessionError, VersionRules};
pub use witness::{Witness, WitnessError, Witnessed};
