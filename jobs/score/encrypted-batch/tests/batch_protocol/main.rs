//! A batch from the user's rows to verified results, and everything that must not work on the way.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod partitions;
mod receipts;
mod results;
mod scenario;
mod unwrapping;
