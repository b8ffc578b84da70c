//! One `sealift` process: started, heard, ended. Nothing here waits for ever.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use super::processes;

/// Longest wait for one line or one end; a loaded machine with a debug build stays far below.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// What a command left; `Debug` is what a failed assertion shows.
#[derive(Debug)]
pub(crate) struct Output {
    #[expect(dead_code, reason = "failed assertions show it")]
    command: String,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The last JSON document on standard output.
    pub(crate) fn json(&self) -> Value {
        self.assert_success();
        let last = self
            .stdout
            .lines()
            .last()
            .unwrap_or_else(|| panic!("no output: {self:#?}"));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Every JSON document on standard output, one per line.
    pub(crate) fn documents(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[track_caller]
    pub(crate) fn assert_success(&self) {
        assert_eq!(self.code, Some(0), "{self:#?}");
    }

    /// The one failure: `error`, `causes`, `remedy`, `exit_code`.
    #[track_caller]
    pub(crate) fn failure(&self) -> Value {
        let last = self
            .stderr
            .lines()
            .last()
            .unwrap_or_else(|| panic!("no error: {self:#?}"));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// It ended with `code`, said `fact`, and said what to do: `remedy`.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: i32, fact: &str, remedy: &str) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let failure = self.failure();
        assert_eq!(failure["exit_code"], code, "{self:#?}");
        assert_says(&failure, fact);
        assert_says(&failure, remedy);
    }

    /// The run failed (exit code 4) because of `job`, which said `fact` and `remedy`.
    #[track_caller]
    pub(crate) fn assert_job_failed(&self, job: &str, fact: &str, remedy: &str) {
        self.assert_refused(4, &format!("job `{job}` failed"), "sealift show");
        let shown: Value = serde_json::from_str(self.stdout.lines().last().unwrap()).unwrap();
        let jobs = shown["jobs"].as_array().unwrap();
        let failed = jobs.iter().find(|other| other["name"] == job).unwrap();
        assert_says(&failed["failure"], fact);
        assert_says(&failed["failure"], remedy);
    }
}

/// Some text in `failure` contains `words`.
#[track_caller]
fn assert_says(failure: &Value, words: &str) {
    fn says(value: &Value, words: &str) -> bool {
        match value {
            Value::String(text) => text.contains(words),
            Value::Array(all) => all.iter().any(|value| says(value, words)),
            Value::Object(all) => all.values().any(|value| says(value, words)),
            _ => false,
        }
    }
    assert!(says(failure, words), "nobody said `{words}`: {failure:#}");
}

/// A command that is running; dropping it ends it.
pub(crate) struct Running {
    command: String,
    child: Child,
    lines: Receiver<String>,
    heard: String,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut errors = child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut bytes = Vec::new();
            drop(errors.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self {
            command: name,
            child,
            lines,
            heard: String::new(),
            stderr: Some(stderr),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Sends what a terminal sends: SIGINT to the whole process group.
    pub(crate) fn press_ctrl_c(&self) {
        kill_process_group(self.pid(), Signal::INT).unwrap();
    }

    /// The next line of standard output as JSON; none once it is closed.
    pub(crate) fn next_event(&mut self) -> Option<Value> {
        let line = self.next_line(Instant::now() + LIMIT)?;
        let event = serde_json::from_str(&line);
        Some(event.unwrap_or_else(|error| panic!("{error} in {line:?} of {}", self.command)))
    }

    /// Reads until an event for which `wanted` holds; panics if none comes.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        while let Some(event) = self.next_event() {
            if wanted(&event) {
                return event;
            }
        }
        panic!("the awaited event never came: {:#?}", self.end());
    }

    /// Reads until a job has a status.
    pub(crate) fn until_job(&mut self, job: &str, status: &str) {
        self.until(|event| event["job"] == job && event["status"] == status);
    }

    fn next_line(&mut self, deadline: Instant) -> Option<String> {
        match self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(line) => {
                self.heard.push_str(&line);
                self.heard.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} is silent after:\n{}", self.command, self.heard)
            }
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Output {
        self.end()
    }

    fn end(&mut self) -> Output {
        let deadline = Instant::now() + LIMIT;
        while self.next_line(deadline).is_some() {}
        assert!(
            processes::ends(self.pid(), LIMIT),
            "{} does not end",
            self.command
        );
        let status = self.child.wait().unwrap();
        let stderr = self.stderr.take().map(|thread| thread.join().unwrap());
        Output {
            command: self.command.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: std::mem::take(&mut self.heard),
            stderr: stderr.unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that is already gone and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
