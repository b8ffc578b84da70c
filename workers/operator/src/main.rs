//! `sealift-operator`: the worker of the operator's zone. It starts guests, appraises them, moves
//! ciphertext to and from them, and holds no key.

mod arguments;
mod jobs;
mod store;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser as _;
use sealift_host::{HostError, HostOptions};
use tracing_subscriber::EnvFilter;

use crate::{
    arguments::{Arguments, Command, Work},
    jobs::{SetupError, host},
};

/// Name of this worker at its engine, which has one operator.
const WORKER: &str = "operator";
/// Attempts at once: most of them wait for a guest.
const SLOTS: u32 = 4;

#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error("the operator cannot be set up")]
    Setup(#[from] SetupError),
    #[error("the operator's worker ended")]
    Host(#[from] HostError),
    #[error("cannot print the kinds")]
    Print(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

fn main() -> ExitCode {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into());
    tracing_subscriber::fmt()
        .json()
        .with_writer(io::stderr)
        .with_env_filter(filter.from_env_lossy())
        .init();
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the operator ends"
            );
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), WorkerError> {
    match command {
        Command::Kinds => {
            let kinds = jobs::kinds_json()?;
            io::stdout()
                .write_all(kinds.as_bytes())
                .map_err(WorkerError::Print)
        }
        Command::Work(work) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(WorkerError::Runtime)?
            .block_on(serve(*work)),
    }
}

async fn serve(work: Work) -> Result<(), WorkerError> {
    let options = HostOptions {
        engine_socket: work.engine.clone(),
        name: WORKER.to_owned(),
        slots: SLOTS,
        end_with_parent: true,
        now_unix: Arc::new(unix_seconds),
    };
    Ok(host(work).await?.run(options).await?)
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
