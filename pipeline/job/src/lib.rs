//! The contract between the pipeline, which decides what runs, and the jobs, which do it.
//!
//! A job crate implements [`Job`]; a worker hosts the implementation and hands it a
//! [`JobContext`]; what goes wrong is a [`JobError`] or an [`UndoError`].

mod context;
mod error;
mod job;

pub use context::{Attempt, JobContext, Report};
pub use error::{BoxError, JobError, UndoError};
pub use job::Job;
