//! How a command of this binary ends when it did not do what was asked.

use std::{error::Error, io::Write, process::ExitCode};

/// The fact, its causes, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    fact: String,
    source: Box<dyn Error + Send + Sync>,
    code: u8,
}

/// A file that is missing or malformed.
pub(crate) const INPUT: u8 = 6;
/// Something that did not prove what it must.
pub(crate) const UNVERIFIED: u8 = 7;
/// The machine, a folder or a process is not usable.
pub(crate) const ENVIRONMENT: u8 = 8;

impl Failure {
    pub(crate) fn new(
        code: u8,
        fact: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            fact: fact.into(),
            source: source.into(),
            code,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// Prints fact and causes, each once.
    pub(crate) fn print(&self) {
        let mut text = self.fact.clone();
        let mut next: Option<&dyn Error> = Some(self.source.as_ref());
        while let Some(error) = next {
            let cause = error.to_string();
            if !text.ends_with(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
            next = error.source();
        }
        // Nobody is left to be told about a closed standard error.
        drop(writeln!(std::io::stderr(), "{text}"));
    }
}

/// Attaches fact and code to a library's error.
pub(crate) trait OrFail<T> {
    fn or_fail(self, code: u8, fact: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> OrFail<T> for Result<T, E> {
    fn or_fail(self, code: u8, fact: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|source| Failure::new(code, fact, source))
    }
}
