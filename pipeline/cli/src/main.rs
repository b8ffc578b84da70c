//! `sealift`: the control plane and the model user's tool.
//!
//! It links no job: it decides what runs, starts the zones' own binaries, and does what only the
//! model user may do, sealing batches and opening results.

mod args;
mod child;
mod clock;
mod commands;
mod deployment;
mod durable_file;
mod exit_code;
mod failure;
mod layout;
mod output;
mod progress;
mod siblings;

use clap::Parser;

use crate::{
    args::Args,
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    output::Output,
};

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let output = Output::new(args.json);
    match run(args, output) {
        Ok(()) => ExitCode::Success.into(),
        Err(failure) => {
            output.failure(&failure);
            failure.code().into()
        }
    }
}

fn run(args: Args, output: Output) -> Result<(), Failure> {
    // Blocked on by the main thread, so that children start from a thread that lives as long as
    // the process: the kernel's death signal follows the thread.
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .or_fail(ExitCode::Environment, "cannot start the runtime")?
        .block_on(commands::dispatch(args, output))
}
