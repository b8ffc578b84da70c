//! One key manager at a time, in this process, over real loopback TLS, with evidence of a
//! simulated AMD-SP. Each test spoils one thing and is named after it.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

mod batches;
mod binary;
mod calls;
mod encrypted_head;
mod erasure;
mod fhe;
mod fhe_heads;
mod handshake;
mod harness;
mod owners;
mod raw;
mod release;
mod rotation;
mod state;
mod unlock;
mod witness;
