//! Whole rollouts with the binaries of this build: what a user types, what a crash leaves, what a
//! bad input gets told, and that no secret stands anywhere.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod bad_batches;
mod bad_definitions;
mod bad_environment;
mod bad_models;
mod canary;
mod cloud;
#[path = "../../../../jobs/publish/cloud-store/tests/services/emulators.rs"]
#[expect(dead_code, reason = "here one service stands for all")]
mod emulators;
mod end_to_end;
mod export;
mod harness;
mod kills;
#[path = "../../../../jobs/seal/sealed-model/tests/kserve_guest.rs"]
mod kserve_guest;
mod language_models;
mod lifecycle;
mod schema;
mod several_heads;
mod stock_age;
#[path = "../../../../jobs/seal/sealed-model/tests/stock_tools.rs"]
mod stock_tools;
mod stopping;
