//! Decides whether a guest is what it should be, before anything is sent to it: `attest@1`, and
//! the proof type [`AttestedGuest`] that dispatching takes.
//!
//! The verdict gates dispatch and display. Keys depend on the key manager's own appraisal alone.

mod attest;
mod challenge;
mod error;
mod evidence;
mod guests;

pub use attest::{Attest, Input, Output};
pub use challenge::{AttestedGuest, Expectation};
pub use error::AttestError;
pub use evidence::{ATTEST_PATH, GuestEvidence};
pub use guests::AttestedGuests;
