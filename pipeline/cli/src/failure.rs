//! What a command that did not succeed tells its user: fact, remedy, cause, exit code.

use std::{error::Error, fmt, path::Path};

use crate::exit_code::ExitCode;

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    fact: String,
    remedy: Option<String>,
    source: Option<BoxError>,
    code: ExitCode,
}

impl Failure {
    pub(crate) fn new(code: ExitCode, fact: impl Into<String>) -> Self {
        Self {
            fact: fact.into(),
            remedy: None,
            source: None,
            code,
        }
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub(crate) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A file that could not be read, named as the user wrote it.
    pub(crate) fn unreadable(path: &Path, source: std::io::Error) -> Self {
        Self::new(ExitCode::Input, format!("cannot read `{}`", path.display())).because(source)
    }

    /// A file that could not be written, named as the user wrote it.
    pub(crate) fn unwritable(path: &Path, source: std::io::Error) -> Self {
        Self::new(
            ExitCode::Environment,
            format!("cannot write `{}`", path.display()),
        )
        .remedy("check that the folder exists, is writable and has space left")
        .because(source)
    }

    pub(crate) fn code(&self) -> ExitCode {
        self.code
    }

    /// The whole chain of causes, outermost first, each once.
    fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next: Option<&dyn Error> = self.source.as_deref().map(|source| source as _);
        while let Some(error) = next {
            causes.push(error.to_string());
            next = error.source();
        }
        causes.dedup();
        causes
    }

    /// The last cause, or the fact where none is known.
    pub(crate) fn innermost(&self) -> String {
        self.causes().pop().unwrap_or_else(|| self.fact.clone())
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": self.fact,
            "causes": self.causes(),
            "remedy": self.remedy,
            "exit_code": self.code as u8,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.fact)?;
        for cause in self.causes() {
            write!(f, "\n  because: {cause}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  help: {remedy}")?;
        }
        Ok(())
    }
}

impl Error for Failure {}

/// Attaches fact, remedy and code to a library's error where a command meets it.
pub(crate) trait OrFail<T> {
    fn or_fail(self, code: ExitCode, fact: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<BoxError>> OrFail<T> for Result<T, E> {
    fn or_fail(self, code: ExitCode, fact: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|source| Failure::new(code, fact).because(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_prints_fact_causes_and_remedy_once_each() {
        let io = std::io::Error::other("disk is full");
        let failure = Failure::new(ExitCode::Environment, "cannot write `x`")
            .remedy("free some space")
            .because(io);
        assert_eq!(
            failure.to_string(),
            "error: cannot write `x`\n  because: disk is full\n  help: free some space"
        );
        assert_eq!(failure.to_json()["exit_code"], 8);
    }
}
