//! The sealed model from the outside, in one binary.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something it builds on fails"
)]

mod claims;
mod corruption;
mod interop;
mod opening;
mod rotation;
mod sealing;
mod support;
mod vectors;
