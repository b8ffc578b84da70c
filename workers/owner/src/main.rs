//! `sealift-owner`: the owner's zone. It reads plaintext weights and holds the owner's keys.
//!
//! `work` hosts the jobs of the zone and is the key manager's witness meanwhile; the other
//! commands do one thing and print one JSON document.

mod args;
mod command;
mod cost;
mod erase;
mod export_kserve_jwe;
mod failure;
mod grant;
mod plain_tensors;
mod reference;
mod rotate;
mod template;
mod trust;
mod unlock;
mod work;

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;

use crate::args::Args;

fn main() -> std::process::ExitCode {
    match command::run(Args::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

/// Unix seconds.
fn now_unix() -> u64 {
    // A clock before 1970 makes every document expired, which refuses instead of allowing.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
