//! The confidential guest: opens one sealed model version in memory that only it can read, scores
//! the partitions of users' batches with it, and hands out nothing but encrypted results and
//! signed receipts.
//!
//! | module | what happens there |
//! |---|---|
//! | `boot`, `keys` | the measured init-data is accepted, the guest's own keys are made |
//! | `hardening` | what the operating system may not write down |
//! | `evidence` | the answer to an operator's challenge |
//! | `phase` | how far the guest is |
//! | `session` | everything that is said to the key manager |
//! | `start`, `model` | keys, fetch, verification, loading |
//! | `store` | partitions in, result files out |
//! | `score` | one partition from dispatch to committed receipt |
//! | `encrypted_answers` | rows on their way through an encrypted head |
//! | `failure`, `chain` | why not, for operators and for the log |
//! | `guest`, `http` | the whole; paths, bodies and statuses |
//!
//! The process dials the key manager and the store that its measured init-data names, and nobody
//! else. Whoever dials it is not trusted: what an operator sends decides which work is done next,
//! never for whom, with what or under which rules.

mod boot;
mod chain;
mod encrypted_answers;
mod evidence;
mod failure;
mod guest;
mod hardening;
mod http;
mod keys;
mod model;
mod phase;
mod score;
mod session;
mod start;
mod store;

pub use boot::{Boot, BootError, BootInputs};
pub use chain::Chain;
pub use evidence::{GuestEvidence, attested_keys};
pub use failure::{FailureBody, FailureCode, ScoreFailure};
pub use guest::Guest;
pub use hardening::forbid_memory_dumps;
pub use http::{ATTEST_PATH, SCORE_PATH, SERVER_LIMITS, STATUS_PATH, Status};
pub use phase::{FailReason, Phase};
pub use score::{ScoreAnswer, ScoreRequest};
