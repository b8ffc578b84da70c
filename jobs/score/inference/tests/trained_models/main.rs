//! Trained models: what they answer, what they refuse to load, what quantising their heads costs.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod decoder;
mod expected_logits;
mod fixture;
mod heads;
mod load_errors;
mod quantised_head;
mod reference_bert;
mod scored_batch;
