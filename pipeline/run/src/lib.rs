//! What has run and what must run next: a pure state machine over the event log of one run.
//!
//! [`next`] is the only way a run changes, whether it goes on or is read back from its log, so
//! recovery is the same code as progress. Nothing here does I/O or reads a clock: time arrives
//! in [`Event::at_ms`].
//!
//! [`message`] holds what a worker and the engine say to each other about attempts.

mod check;
mod event;
mod identity;
pub mod message;
mod next;
mod resolve;
mod retry;
mod stage;
mod state;
mod status;
mod step;
mod unwind;

pub use check::{MAX_JOBS, PlanFault};
pub use event::{Change, Event, Failure, FailureClass, Outcome, Release, UndoFailure};
pub use identity::{AttemptId, InvalidRunId, RunId, TaskId, Worker};
pub use next::{fold, next};
pub use resolve::{MAX_TASKS, Unresolved};
pub use state::{Action, Cause, JobState, RunState, TaskState};
pub use status::{AttemptStatus, JobStatus, RunStatus, TaskStatus};
pub use step::{Command, IllegalTransition, Step};
