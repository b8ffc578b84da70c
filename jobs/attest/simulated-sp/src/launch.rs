//! Measuring, starting and serving a guest.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use aws_lc_rs::digest::{Context, SHA384};
use sealift_attester::wire;
use sealift_evidence::Measurement;
use sealift_signed_document::Digest;

use crate::{GuestContext, SimulatedSp};

/// An executable that was opened and measured. It is started through this descriptor, so that
/// whatever stands at its path later does not matter.
///
/// Bytes written into the very same file after it was measured are not noticed: who can do that
/// is its owner, against whom the simulation protects nobody.
#[derive(Debug)]
pub struct MeasuredExecutable {
    file: File,
    path: PathBuf,
    measurement: Measurement,
}

/// How much of an executable is hashed at a time.
const CHUNK_BYTES: usize = 1 << 20;

impl MeasuredExecutable {
    /// Opens and measures the executable at `path`: SHA-384 of its bytes.
    pub fn open(path: &Path) -> Result<Self, LaunchError> {
        let failed = |source| LaunchError::Executable {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let mut digest = Context::new(&SHA384);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => digest.update(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let mut bytes = [0; 48];
        bytes.copy_from_slice(digest.finish().as_ref());
        let measurement = Measurement::from_bytes(bytes);
        Ok(Self {
            file,
            path: path.to_owned(),
            measurement,
        })
    }

    /// What a report of a guest that runs it says.
    pub fn measurement(&self) -> Measurement {
        self.measurement
    }
}

/// What to start, and with what.
pub struct Launch<'a> {
    /// What runs.
    pub executable: &'a MeasuredExecutable,
    /// Its arguments; paths must be absolute, because it starts in `/`.
    pub args: Vec<OsString>,
    /// The raw bytes of its init-data, whose SHA-256 becomes its HOST_DATA.
    pub init_data: &'a [u8],
    /// Where its standard output goes.
    pub stdout: Stdio,
    /// Where its standard error goes.
    pub stderr: Stdio,
}

/// A running guest; dropping it ends it.
#[derive(Debug)]
pub struct LaunchedGuest {
    child: Child,
    context: GuestContext,
}

/// Why a guest was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The executable cannot be read.
    #[error("cannot measure `{}`; was it built?", path.display())]
    Executable {
        /// Where it should be.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The system gave no thread or no socket.
    #[error("cannot serve a guest")]
    Serve(#[source] io::Error),
    /// The executable was not started.
    #[error("cannot start `{}`", path.display())]
    Start {
        /// What was measured.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

impl SimulatedSp {
    /// Starts a guest with a cleared environment, one socket to this firmware as its standard
    /// input, and no other descriptor but its output.
    ///
    /// A thread answers its requests until it closes the socket. The same thread starts it: the
    /// kernel's death signal follows the thread, so a guest that asked for it
    /// (`sealift_attester::die_with_launcher`) must not hang on one that ends earlier.
    pub fn launch(&self, launch: Launch<'_>) -> Result<LaunchedGuest, LaunchError> {
        let (ours, guests) = UnixStream::pair().map_err(LaunchError::Serve)?;
        let context = GuestContext {
            measurement: launch.executable.measurement,
            host_data: *Digest::of(launch.init_data).as_bytes(),
        };
        let executable = launch
            .executable
            .file
            .try_clone()
            .map_err(LaunchError::Serve)?;
        let path = launch.executable.path.clone();
        let mut command = guest_command(&executable, guests, launch);
        let (sender, receiver) = mpsc::sync_channel(1);
        let firmware = self.clone();
        thread::Builder::new()
            .name("simulated-sp".to_owned())
            .spawn(move || {
                let started = command.spawn();
                // The guest's end and the executable must close here, or its exit would not show.
                drop((command, executable));
                let runs = started.is_ok();
                if sender.send(started).is_ok() && runs {
                    firmware.serve(ours, &context);
                }
            })
            .map_err(LaunchError::Serve)?;
        let started = receiver
            .recv()
            .map_err(|_| LaunchError::Serve(io::ErrorKind::BrokenPipe.into()))?;
        let child = started.map_err(|source| LaunchError::Start { path, source })?;
        Ok(LaunchedGuest { child, context })
    }

    /// Answers requests until the guest closes its end or breaks the protocol.
    fn serve(&self, mut guest: UnixStream, context: &GuestContext) {
        let mut request = [0; wire::REQUEST_BYTES];
        while guest.read_exact(&mut request).is_ok() {
            let Some(answer) = self.answer(&request, context) else {
                return;
            };
            if guest.write_all(&answer).is_err() {
                return;
            }
        }
    }

    fn answer(
        &self,
        request: &[u8; wire::REQUEST_BYTES],
        context: &GuestContext,
    ) -> Option<Vec<u8>> {
        let report_data = wire::report_data(request)?;
        let evidence = self.evidence(context, &report_data).ok()?.to_kbs_json();
        let mut answer = u32::try_from(evidence.len()).ok()?.to_be_bytes().to_vec();
        answer.extend(evidence);
        Some(answer)
    }
}

fn guest_command(executable: &File, socket: UnixStream, launch: Launch<'_>) -> Command {
    let mut command = Command::new(format!("/proc/self/fd/{}", executable.as_raw_fd()));
    command
        .arg0(&launch.executable.path)
        .args(launch.args)
        .env_clear()
        .current_dir("/")
        // A group of its own: a signal from the terminal is for the launcher, which ends its
        // guests itself.
        .process_group(0)
        .stdin(OwnedFd::from(socket))
        .stdout(launch.stdout)
        .stderr(launch.stderr);
    close_descriptors_on_exec(&mut command);
    command
}

/// Marks every descriptor above standard error to be closed when the guest starts, also those
/// that some library opened without the mark.
#[expect(
    unsafe_code,
    reason = "only code between fork and exec can do this for all descriptors"
)]
fn close_descriptors_on_exec(command: &mut Command) {
    const FIRST: libc::c_uint = 3;
    let close = || {
        // SAFETY: the system call takes three integers and touches no memory of ours.
        let result = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                FIRST,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: the closure makes one system call and neither allocates nor takes a lock.
    unsafe { command.pre_exec(close) };
}

impl LaunchedGuest {
    /// What the firmware reports about it.
    pub fn context(&self) -> &GuestContext {
        &self.context
    }

    /// The process, to read its output and wait for its end.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for LaunchedGuest {
    fn drop(&mut self) {
        // Both fail only for a process that is already gone and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
