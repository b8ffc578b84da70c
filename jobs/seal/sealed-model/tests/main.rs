//! The sealed model from the outside, in one binary.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something it builds on fails"
)]

mod corruption;
mod interop;
mod opening;
mod sealing;
mod support;
mod vectors;
