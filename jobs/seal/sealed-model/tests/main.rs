//! The sealed model from the outside, in one binary.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something it builds on fails"
)]

mod claims;
mod corruption;
mod interop;
mod kserve;
mod kserve_guest;
mod opening;
mod rotation;
mod sealing;
mod shares;
mod stock_tools;
mod streaming;
mod support;
mod vectors;
