//! `sealift-key-manager`: serves one key manager until its launcher ends it.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use sealift_attester::{AttesterError, SimulatedSpSocket, die_with_launcher};
use sealift_key_manager::{BootError, CALL_BODY_BYTES, KeyManager};
use sealift_pinned_tls::{Server, ServerError, ServerLimits};
use tracing_subscriber::EnvFilter;

/// The rows of a large partition are decrypted in minutes.
const REQUEST_TIME: Duration = Duration::from_mins(5);

/// Holds model keys and gives them to attested guests.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder of the encrypted state; made when it is missing.
    #[arg(long)]
    state: PathBuf,
    /// The exact init-data that this process was launched with.
    #[arg(long)]
    init_data: PathBuf,
    /// Address to listen on; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot read the init-data `{}`", path.display())]
    InitData {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot get evidence about this process")]
    Attester(#[source] AttesterError),
    #[error("the key manager does not start")]
    Boot(#[source] BootError),
    #[error("the key manager cannot serve")]
    Server(#[source] ServerError),
    #[error("cannot announce the address on standard output")]
    Announce(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .json()
        .with_writer(io::stderr)
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .init();
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes on one line: the log's own form keeps only the outermost.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn run(arguments: &Arguments) -> Result<(), StartError> {
    // First, so that not even a start that hangs outlives its launcher.
    die_with_launcher().map_err(StartError::Attester)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?
        .block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> Result<(), StartError> {
    let path = &arguments.init_data;
    let init_data = fs::read_to_string(path).map_err(|source| StartError::InitData {
        path: path.clone(),
        source,
    })?;
    let attester = SimulatedSpSocket::from_stdin().map_err(StartError::Attester)?;
    let clock = Arc::new(unix_seconds);
    let state = arguments.state.clone();
    let key_manager =
        KeyManager::boot(state, &init_data, Arc::new(attester), clock).map_err(StartError::Boot)?;
    let limits = ServerLimits {
        body_bytes: CALL_BODY_BYTES,
        request: REQUEST_TIME,
        ..ServerLimits::DOCUMENTS
    };
    let server = Server::bind(arguments.listen, key_manager.certificate(), limits)
        .await
        .map_err(StartError::Server)?;
    announce(server.address()).map_err(StartError::Announce)?;
    // Ends with the launcher.
    server
        .serve(key_manager.router(), std::future::pending())
        .await;
    Ok(())
}

/// One line of JSON: `{"listening":"127.0.0.1:40123"}`.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::json!({ "listening": address }))?;
    stdout.flush()
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
