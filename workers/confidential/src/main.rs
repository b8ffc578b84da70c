//! `sealift-confidential`: one confidential guest, until its launcher ends it.
//!
//! Exit codes: 6 for input that has to be changed, 7 for what was refused, 8 for the surroundings,
//! 129 when the launcher is gone. Once the address is announced the process stays, and its status
//! says what became of it.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use sealift_attester::{AttesterError, SimulatedSpSocket, die_with_launcher};
use sealift_confidential::{
    Boot, BootError, BootInputs, Chain, Guest, SERVER_LIMITS, forbid_memory_dumps,
};
use sealift_pinned_tls::{Server, ServerError};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Largest file that is read at the start; init-data may have 256 KiB, a delegation less.
const MAX_INPUT_BYTES: u64 = 256 << 10;

/// Runs one sealed model version in memory that only this process can read.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The exact init-data that this process was launched with.
    #[arg(long, value_name = "FILE")]
    init_data: PathBuf,
    /// The owner root's word for the key that signed the model (delegation.v1).
    #[arg(long, value_name = "FILE")]
    publish_delegation: PathBuf,
    /// Address to listen on; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot read `{}`; pass a file of at most 256 KiB", path.display())]
    Input {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot get evidence about this process")]
    Attester(#[source] AttesterError),
    #[error("the system does not let this process forbid memory dumps")]
    Hardening(#[source] io::Error),
    #[error("the guest does not start")]
    Boot(#[source] BootError),
    #[error("the guest cannot serve")]
    Server(#[source] ServerError),
    #[error("cannot announce the address on standard output")]
    Announce(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

impl StartError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Input { .. } => 6,
            Self::Boot(error) => error.exit_code(),
            _ => 8,
        }
    }
}

fn main() -> ExitCode {
    // Only our own events, whose fields are sizes, ids and durations: a library's could hold rows.
    let own = Targets::new().with_target("sealift", LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .with_writer(io::stderr);
    tracing_subscriber::registry().with(lines).with(own).init();
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "no guest was started");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), StartError> {
    // First, so that not even a start that hangs outlives its launcher or is dumped.
    die_with_launcher().map_err(StartError::Attester)?;
    forbid_memory_dumps().map_err(StartError::Hardening)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?
        .block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> Result<(), StartError> {
    let boot = Boot::new(BootInputs {
        init_data: read(&arguments.init_data)?,
        publish_delegation: read(&arguments.publish_delegation)?,
        attester: Arc::new(SimulatedSpSocket::from_stdin().map_err(StartError::Attester)?),
        now_unix: unix_seconds(),
    })
    .map_err(StartError::Boot)?;
    let guest = Guest::new(
        boot,
        thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    );
    let server = Server::bind(arguments.listen, guest.boot().certificate(), SERVER_LIMITS)
        .await
        .map_err(StartError::Server)?;
    announce(server.address()).map_err(StartError::Announce)?;
    guest.listening();
    let starting = guest.clone();
    let start = tokio::spawn(async move { starting.start().await });
    // Ends with the launcher.
    server.serve(guest.router(), std::future::pending()).await;
    start.abort();
    Ok(())
}

/// One line of JSON: `{"listening":"127.0.0.1:40123"}`.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::json!({ "listening": address }))?;
    stdout.flush()
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    let failed = |source| StartError::Input {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_INPUT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_INPUT_BYTES {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
