//! Starting sibling processes and hearing their one line.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use serde::de::DeserializeOwned;

use crate::{
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    siblings::{Sibling, accepted},
};

/// Longest line that a child announces itself with.
const MAX_ANNOUNCEMENT_BYTES: u64 = 64 << 10;

/// A worker that ends when this is dropped.
pub(crate) struct Worker {
    name: &'static str,
    child: Child,
}

impl Worker {
    /// Starts a worker with `variables` in an otherwise cleared environment. It must be called on
    /// the main thread: the kernel's death signal follows the thread that started the process.
    pub(crate) fn start<'a>(
        layout: &Layout,
        sibling: Sibling,
        args: Vec<OsString>,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Failure> {
        let name = sibling.name();
        accepted(layout, sibling)?;
        let child = Command::new(sibling.path()?)
            .args(args)
            .env_clear()
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(error_log(layout, name)?)
            // A group of its own: Ctrl-C on the terminal is for the engine, which asks its
            // workers to stop at a safe point.
            .process_group(0)
            .spawn()
            .or_fail(ExitCode::Environment, format!("cannot start `{name}`"))?;
        Ok(Self { name, child })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only for a process that is already gone and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs `sibling` to its end and parses the JSON document that it prints.
pub(crate) fn ask<T: DeserializeOwned>(
    layout: &Layout,
    sibling: Sibling,
    args: Vec<OsString>,
) -> Result<T, Failure> {
    ask_with(layout, sibling, args, [])
}

/// [`ask`] with variables in an otherwise cleared environment.
pub(crate) fn ask_with<'a, T: DeserializeOwned>(
    layout: &Layout,
    sibling: Sibling,
    args: Vec<OsString>,
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<T, Failure> {
    accepted(layout, sibling)?;
    let mut command = Command::new(sibling.path()?);
    command.args(args).env_clear().envs(variables);
    answer(sibling.name(), command)
}

/// [`ask`] before a state folder accepts any build.
pub(crate) fn ask_unchecked<T: DeserializeOwned>(
    path: &Path,
    name: &str,
    args: Vec<OsString>,
) -> Result<T, Failure> {
    let mut command = Command::new(path);
    command.args(args).env_clear();
    answer(name, command)
}

fn answer<T: DeserializeOwned>(name: &str, mut command: Command) -> Result<T, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .or_fail(ExitCode::Environment, format!("cannot start `{name}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let code = match output.status.code() {
            Some(6) => ExitCode::Input,
            Some(7) => ExitCode::Unverified,
            _ => ExitCode::Environment,
        };
        return Err(
            Failure::new(code, format!("`{name}` did not do what was asked"))
                .remedy("mend what the cause names, then try again")
                .because(said),
        );
    }
    serde_json::from_slice(&output.stdout).or_fail(
        ExitCode::Unexpected,
        format!("`{name}` printed something that was not asked"),
    )
}

/// The first line of `stdout`, as JSON; what follows is left unread.
pub(crate) fn announcement<T: DeserializeOwned>(
    name: &str,
    stdout: impl Read,
) -> Result<T, Failure> {
    let mut line = String::new();
    BufReader::new(stdout)
        .take(MAX_ANNOUNCEMENT_BYTES)
        .read_line(&mut line)
        .or_fail(ExitCode::Environment, format!("cannot hear `{name}`"))?;
    serde_json::from_str(&line).or_fail(
        ExitCode::Environment,
        format!("`{name}` ended before it was ready; its log in the state folder says why"),
    )
}

/// Where a child's standard error goes.
pub(crate) fn error_log(layout: &Layout, name: &str) -> Result<File, Failure> {
    let path = layout.log_of(name);
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| Failure::unwritable(&path, source))
}
