//! Whole rollouts with the binaries of this build: what a user types, what a crash leaves, what a
//! bad input gets told, and that no secret stands anywhere.

mod end_to_end;
mod harness;
mod kills;
mod stopping;
mod schema;
