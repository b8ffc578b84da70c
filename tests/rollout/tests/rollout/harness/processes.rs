//! The processes of one deployment, as the kernel lists them.

use std::{fs, os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use super::sealift::LIMIT;

/// A process whose command line names the deployment's folder.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) executable: String,
}

impl Process {
    /// A file of `/proc/<pid>`; empty if the process has ended meanwhile.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(format!("/proc/{}/{name}", self.pid)).unwrap_or_default()
    }
}

/// Every process of the deployment in `folder`, `sealift` itself included.
pub(crate) fn of(folder: &Path) -> Vec<Process> {
    let mut needle = folder.as_os_str().as_bytes().to_vec();
    needle.push(b'/');
    let pids = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            Pid::from_raw(pid)
        });
    let ours = pids.filter_map(|pid| {
        let executable = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let executable = executable
            .file_name()?
            .to_str()?
            .trim_end_matches(" (deleted)")
            .to_owned();
        let process = Process { pid, executable };
        let named = process
            .read("cmdline")
            .windows(needle.len())
            .any(|part| part == needle);
        (named && process.executable.starts_with("sealift")).then_some(process)
    });
    ours.collect()
}

/// Whether a process ends within `limit`; one that is not there has ended.
pub(crate) fn ends(pid: Pid, limit: Duration) -> bool {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let limit = Timespec::try_from(limit).unwrap();
    let mut waited = [PollFd::new(&handle, PollFlags::IN)];
    poll(&mut waited, Some(&limit)).unwrap() == 1
}

/// Sends SIGKILL to those processes of the deployment in `folder` for which `chosen` holds; says
/// whether there was one.
pub(crate) fn kill(folder: &Path, chosen: impl Fn(&Process) -> bool) -> bool {
    let victims: Vec<_> = of(folder).into_iter().filter(chosen).collect();
    for process in &victims {
        // One that has ended by itself meanwhile was there all the same.
        let _already_gone = kill_process(process.pid, Signal::KILL);
    }
    !victims.is_empty()
}

/// Waits until no process of the deployment in `folder` is left; panics if one stays.
pub(crate) fn assert_none_left(folder: &Path) {
    loop {
        let left = of(folder);
        if left.is_empty() {
            return;
        }
        for process in left {
            assert!(ends(process.pid, LIMIT), "an orphan stays: {process:?}");
        }
    }
}
