//! Rotation and erasure with everything but processes: a real key manager over loopback TLS under
//! a simulated AMD-SP, an owner's key folder, its witness, a store in memory, and guests.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

mod erasing;
mod model;
mod rotating;
mod world;
