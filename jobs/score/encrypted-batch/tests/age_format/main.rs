//! The age v1 format: the shared test vectors, the `age` crate and Debian's `age`.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod interop;
mod vectors;
