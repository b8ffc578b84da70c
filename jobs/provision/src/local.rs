//! Guests as processes of this machine, under the simulated AMD-SP. They end with the operator.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ChildStdout, ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use sealift_pinned_tls::ServerUrl;
use sealift_simulated_sp::{Launch, LaunchedGuest, MeasuredExecutable, SimulatedSp};
use serde::Deserialize;
use tokio::{task::spawn_blocking, time::timeout};

use crate::{Backend, BackendError, Guest, GuestEnd, GuestStart};

/// File in a pod's folder: the init-data that the guest is launched with.
const INIT_DATA: &str = "init-data.toml";
/// File in a pod's folder: the owner root's word for the publish key.
const PUBLISH_DELEGATION: &str = "publish.delegation.json";
/// Longest announcement: an address in some JSON.
const MAX_ANNOUNCEMENT_BYTES: u64 = 4 << 10;
/// How long a guest may take to say where it listens: it makes two keys and reads two small files.
const ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_mins(1);
/// Exit codes of guests for input that has to be changed, and for what was refused.
const REFUSED_CODES: [i32; 2] = [6, 7];

/// Starts guests as child processes that the simulated AMD-SP measured.
pub struct LocalBackend {
    firmware: SimulatedSp,
    executable: PathBuf,
}

impl LocalBackend {
    /// Guests run `executable`, measured anew at each start.
    pub fn new(firmware: SimulatedSp, executable: PathBuf) -> Self {
        Self {
            firmware,
            executable,
        }
    }
}

#[async_trait]
impl Backend for LocalBackend {
    async fn start(&self, start: GuestStart) -> Result<Box<dyn Guest>, BackendError> {
        let (firmware, executable) = (self.firmware.clone(), self.executable.clone());
        let launching = spawn_blocking(move || launch(&firmware, &executable, &start));
        let mut guest = launching.await.map_err(|_| BackendError::ShuttingDown)??;
        let stdout = guest
            .child()
            .stdout
            .take()
            .ok_or(BackendError::Announcement)?;
        // Its thread ends with the guest at the latest, because then the pipe closes.
        let hearing = spawn_blocking(move || announcement(stdout));
        let heard = timeout(ANNOUNCEMENT_TIMEOUT, hearing)
            .await
            .map_err(|_| BackendError::Silent {
                seconds: ANNOUNCEMENT_TIMEOUT.as_secs(),
            })?
            .map_err(|_| BackendError::ShuttingDown)?;
        match heard {
            Heard::Address(url) => Ok(Box::new(LocalGuest { guest, url })),
            Heard::Nothing => {
                let waiting = spawn_blocking(move || guest.child().wait());
                let status = waiting.await.map_err(|_| BackendError::ShuttingDown)?;
                Err(status.map_or(BackendError::Announcement, |s| {
                    BackendError::EndedEarly(end(s))
                }))
            }
            Heard::Other => Err(BackendError::Announcement),
        }
    }
}

fn launch(
    firmware: &SimulatedSp,
    executable: &Path,
    start: &GuestStart,
) -> Result<LaunchedGuest, BackendError> {
    let write = |name: &str, bytes: &[u8]| {
        let path = start.folder.join(name);
        match fs::write(&path, bytes) {
            Ok(()) => Ok(path.into_os_string()),
            Err(source) => Err(BackendError::Write { path, source }),
        }
    };
    let init_data = write(INIT_DATA, start.init_data.as_bytes())?;
    let delegation = write(PUBLISH_DELEGATION, start.publish_delegation.as_bytes())?;
    let args = vec![
        "--init-data".into(),
        init_data,
        "--publish-delegation".into(),
        delegation,
        "--listen".into(),
        "127.0.0.1:0".into(),
    ];
    let executable = MeasuredExecutable::open(executable).map_err(BackendError::Launch)?;
    let launch = Launch {
        executable: &executable,
        args,
        init_data: start.init_data.as_bytes(),
        stdout: Stdio::piped(),
        // Into the operator's log, which outlives the pod.
        stderr: Stdio::inherit(),
    };
    firmware.launch(launch).map_err(BackendError::Launch)
}

/// What a guest prints once it listens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Announcement {
    listening: SocketAddr,
}

enum Heard {
    Address(ServerUrl),
    Nothing,
    Other,
}

fn announcement(stdout: ChildStdout) -> Heard {
    let mut line = String::new();
    let read = BufReader::new(stdout.take(MAX_ANNOUNCEMENT_BYTES)).read_line(&mut line);
    if let Ok(0) = read {
        return Heard::Nothing;
    }
    let announced = serde_json::from_str::<Announcement>(&line).ok();
    let url = announced
        .and_then(|Announcement { listening }| format!("https://{listening}").parse().ok());
    url.map_or(Heard::Other, Heard::Address)
}

struct LocalGuest {
    guest: LaunchedGuest,
    url: ServerUrl,
}

impl Guest for LocalGuest {
    fn url(&self) -> &ServerUrl {
        &self.url
    }

    fn ended(&mut self) -> Option<GuestEnd> {
        self.guest.child().try_wait().ok().flatten().map(end)
    }
}

fn end(status: ExitStatus) -> GuestEnd {
    let refused = status
        .code()
        .is_some_and(|code| REFUSED_CODES.contains(&code));
    GuestEnd {
        transient: !refused,
        text: status.to_string(),
    }
}
