//! From what a job says to what the log keeps.

use std::{any::Any, error::Error, iter::successors};

use sealift_job::{JobError, UndoError};
use sealift_run::{Action, Failure, FailureClass, Outcome, UndoFailure};

/// Most causes of one failure that are kept.
const MAX_CAUSES: usize = 16;

pub(crate) fn failure(error: &JobError) -> Failure {
    let class = match error {
        JobError::Transient { .. } => FailureClass::Transient,
        JobError::Permanent { .. } => FailureClass::Permanent,
    };
    let remedy = error.remedy().map(str::to_owned);
    Failure {
        class,
        fact: error.to_string(),
        remedy,
        causes: causes(error),
    }
}

pub(crate) fn undo_failure(error: &UndoError) -> UndoFailure {
    UndoFailure {
        left_behind: error.left_behind.clone(),
        causes: causes(error),
    }
}

/// An undo that could not say what it left.
pub(crate) fn undo_failed(job: &str, cause: &(dyn Error + 'static)) -> Outcome {
    let causes = [cause.to_string()]
        .into_iter()
        .chain(causes(cause))
        .collect();
    let left_behind = format!("what job `{job}` left");
    Outcome::UndoFailed {
        failure: UndoFailure {
            left_behind,
            causes,
        },
    }
}

/// A job that panicked. Trying again would panic again.
pub(crate) fn panicked(job: &str, action: Action, panic: &(dyn Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let causes = vec![text.unwrap_or_else(|| "the panic has no text".to_owned())];
    match action {
        Action::Run => Outcome::Failed {
            failure: Failure {
                class: FailureClass::Permanent,
                fact: format!("job `{job}` panicked"),
                remedy: Some("this is a bug in the job; report it with its log".to_owned()),
                causes,
            },
        },
        Action::Undo => {
            let left_behind = format!("what job `{job}` left");
            Outcome::UndoFailed {
                failure: UndoFailure {
                    left_behind,
                    causes,
                },
            }
        }
    }
}

/// A job that did not return in time.
pub(crate) fn timed_out(job: &str, action: Action, timeout_ms: u64) -> Outcome {
    let fact = format!("job `{job}` did not end within {timeout_ms} ms");
    match action {
        Action::Run => Outcome::Failed {
            failure: Failure {
                class: FailureClass::Transient,
                fact,
                remedy: None,
                causes: Vec::new(),
            },
        },
        Action::Undo => {
            let left_behind = format!("what job `{job}` left");
            Outcome::UndoFailed {
                failure: UndoFailure {
                    left_behind,
                    causes: vec![fact],
                },
            }
        }
    }
}

fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let chain = successors(error.source(), |cause: &&(dyn Error + 'static)| {
        (*cause).source()
    });
    chain.take(MAX_CAUSES).map(ToString::to_string).collect()
}
