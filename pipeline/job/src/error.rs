//! How a job says what went wrong, and who must act.

/// The cause under a [`JobError`] or an [`UndoError`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a job did not do its work.
///
/// `Display` states the fact alone; the cause is the `source`, the remedy is [`JobError::remedy`].
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Waiting may help: the engine tries again under the job's `retry`.
    #[error("could not {operation}")]
    Transient {
        /// What was tried, as a verb phrase that fits "could not …".
        operation: String,
        /// The cause.
        source: BoxError,
    },
    /// Trying again cannot help: the engine unwinds the run.
    #[error("could not {operation}")]
    Permanent {
        /// What was tried, as a verb phrase that fits "could not …".
        operation: String,
        /// What a person can do about it.
        remedy: String,
        /// The cause.
        source: BoxError,
    },
}

impl JobError {
    /// A failure that waiting may cure.
    pub fn transient(operation: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Transient {
            operation: operation.into(),
            source: source.into(),
        }
    }

    /// A failure that only a person can cure, and how.
    pub fn permanent(
        operation: impl Into<String>,
        remedy: impl Into<String>,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Permanent {
            operation: operation.into(),
            remedy: remedy.into(),
            source: source.into(),
        }
    }

    /// What a person can do, for a permanent failure.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Transient { .. } => None,
            Self::Permanent { remedy, .. } => Some(remedy),
        }
    }
}

/// Why what a job left behind is still there. It stops the run for a person.
#[derive(Debug, thiserror::Error)]
#[error("{left_behind} is still there")]
pub struct UndoError {
    /// What remains and where, as a noun phrase that fits "… is still there".
    pub left_behind: String,
    /// The cause.
    pub source: BoxError,
}

impl UndoError {
    /// Something remains that a person must remove.
    pub fn new(left_behind: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self {
            left_behind: left_behind.into(),
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn the_fact_the_remedy_and_the_cause_are_three_parts() {
        let error = JobError::permanent("read the model", "check the path", "no such file");
        assert_eq!(error.to_string(), "could not read the model");
        assert_eq!(error.remedy(), Some("check the path"));
        assert_eq!(error.source().unwrap().to_string(), "no such file");
    }

    #[test]
    fn an_undo_error_names_what_is_left() {
        let error = UndoError::new("pod credit-risk-7", "the API server did not answer");
        assert_eq!(error.to_string(), "pod credit-risk-7 is still there");
    }
}
