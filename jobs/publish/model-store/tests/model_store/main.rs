//! The model store from outside: publishing, fetching, collecting garbage, on stores that work and
//! on stores that do not.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something it builds on fails"
)]

mod collecting;
mod conformance;
mod faulty;
mod fetching;
mod publishing;
mod sealing;
mod suite;
mod support;
