//! Guests against a real key manager, over real loopback TLS, under a simulated AMD-SP.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

mod boot;
mod challenge;
mod opening;
mod owner;
mod process;
mod relayed;
mod scoring;
mod spoiled_store;
mod world;
