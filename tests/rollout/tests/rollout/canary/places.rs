//! Where a secret could be left: files of the deployment, temporary files, command lines,
//! environments, files that have no name any more, and what was printed.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use rustix::process::Pid;
use tempfile::TempDir;

use super::marker::Needles;
use crate::harness::{Output, processes};

/// Where programs leave temporary files: children have no environment that names another folder.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Longer than any tick.
const CLOCK_TICK: Duration = Duration::from_secs(1);

/// Makes a folder in which secrets may stand, of this test or of one beside it.
pub(super) fn plain_folder() -> TempDir {
    tempfile::Builder::new().prefix(PLAIN).tempdir().unwrap()
}

fn is_plain(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PLAIN.as_bytes())
}

const PLAIN: &str = "rollout-plain-";

/// A place that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    File(PathBuf),
    Process(String),
    Printed,
}

/// A secret that was found.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) place: Place,
    pub(super) secrets: Vec<String>,
}

/// Everything that was looked at since some moment.
pub(super) struct Watched {
    since: SystemTime,
    looked_at: Vec<(Place, Vec<u8>)>,
}

impl Watched {
    /// Looks at nothing yet.
    pub(super) fn from_now() -> Self {
        // Files get the time of the last tick of the kernel's clock.
        Self {
            since: SystemTime::now() - CLOCK_TICK,
            looked_at: Vec::new(),
        }
    }

    pub(super) fn said(&mut self, output: &Output) {
        for text in [&output.stdout, &output.stderr] {
            self.looked_at
                .push((Place::Printed, text.clone().into_bytes()));
        }
    }

    /// Command lines, environments and nameless files of the processes of a deployment.
    pub(super) fn look_at_processes(&mut self, folder: &Path) {
        for process in processes::of(folder) {
            self.look_at_process(process.pid, &process.executable);
        }
    }

    fn look_at_process(&mut self, pid: Pid, name: &str) {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        for file in ["cmdline", "environ"] {
            // One that has ended has neither any more.
            let bytes = fs::read(proc.join(file)).unwrap_or_default();
            self.looked_at
                .push((Place::Process(format!("{file} of {name}")), bytes));
        }
        for descriptor in fs::read_dir(proc.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = descriptor.path();
            let nameless = fs::metadata(&path).is_ok_and(|it| it.is_file() && it.nlink() == 0);
            if nameless {
                let bytes = fs::read(&path).unwrap_or_default();
                self.looked_at
                    .push((Place::Process(format!("nameless file of {name}")), bytes));
            }
        }
    }

    /// Every file of the deployment, and every temporary file that is new.
    pub(super) fn look_at_files(&mut self, folder: &Path) {
        self.look_below(folder, false);
        for temporary in TEMPORARY {
            self.look_below(Path::new(temporary), true);
        }
    }

    fn look_below(&mut self, folder: &Path, only_new: bool) {
        // Build folders tag themselves as caches; a checkout below /tmp has a large one.
        if folder.join("CACHEDIR.TAG").exists() {
            return;
        }
        // Folders of other users, and what is removed meanwhile, cannot be read and are not ours.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if is_plain(&entry.file_name()) {
                continue;
            }
            if metadata.is_dir() {
                self.look_below(&path, only_new);
            } else if metadata.is_file()
                && (!only_new || metadata.modified().is_ok_and(|at| at >= self.since))
                && let Ok(bytes) = fs::read(&path)
            {
                self.looked_at.push((Place::File(path), bytes));
            }
        }
    }

    pub(super) fn find(&self, needles: &Needles) -> Vec<Hit> {
        let hits = self.looked_at.iter().filter_map(|(place, bytes)| {
            let secrets: Vec<_> = needles
                .find_in(bytes)
                .into_iter()
                .map(str::to_owned)
                .collect();
            (!secrets.is_empty()).then(|| Hit {
                place: place.clone(),
                secrets,
            })
        });
        hits.collect()
    }
}

/// A secret in a command line, an environment or a nameless file of a process is found.
pub(super) fn assert_processes_are_seen(folder: &Path, needles: &Needles) {
    let secret = needles.text_sample();
    assert_seen("cmdline", needles, |command| {
        command.args(["-", secret]);
    });
    assert_seen("environ", needles, |command| {
        command.env("PLANTED", secret);
    });
    assert_seen("nameless file", needles, |command| {
        let nameless = folder.join("nameless");
        fs::write(&nameless, secret).unwrap();
        command.stderr(fs::File::open(&nameless).unwrap());
        fs::remove_file(&nameless).unwrap();
    });
}

fn assert_seen(place: &str, needles: &Needles, plant: impl FnOnce(&mut Command)) {
    let mut command = Command::new("cat");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    plant(&mut command);
    let mut child = command.spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // Once it repeats something it is `cat`, no longer on the way to it.
    stdin.write_all(b"?").unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    let mut watched = Watched::from_now();
    watched.look_at_process(Pid::from_child(&child), "cat");
    drop(stdin);
    child.wait().unwrap();
    let found = watched.find(needles);
    assert!(
        !found.is_empty(),
        "a secret in the {place} of a process was not found"
    );
}
