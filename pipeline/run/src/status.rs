//! Statuses of runs, jobs, tasks and attempts, with the explicit tables of what may follow what.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! shown_as_serialized {
    ($($status:ident { $($variant:ident => $name:literal),+ $(,)? })+) => {$(
        impl $status {
            /// The name in the log, in tables and on screens.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The status of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $status {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    )+};
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Nothing has happened yet.
    #[default]
    New,
    /// Jobs are waiting or running.
    Running,
    /// Something failed or the run was cancelled: running jobs are being stopped, then undone.
    Unwinding,
    /// An undo failed; a person must act, then resume the run.
    Stopped,
    /// Every job is settled; the `finally` jobs are running.
    Finalizing,
    /// Settled: everything succeeded.
    Succeeded,
    /// Settled: a job failed, and what had to be undone is undone.
    Failed,
    /// Settled: cancelled, and what had to be undone is undone.
    Cancelled,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStatus {
    /// A job it needs has not succeeded yet, or its stage has not begun.
    #[default]
    Waiting,
    /// It has tasks that are not settled.
    Active,
    /// Every task succeeded.
    Succeeded,
    /// A task failed.
    Failed,
    /// Stopped because the run unwinds.
    Cancelled,
    /// A `finally` job that cannot run.
    Skipped,
    /// What it did is being taken back.
    Undoing,
    /// What it did is taken back.
    Undone,
    /// What it did is still there.
    UndoFailed,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskStatus {
    /// Held back by its job's `max-parallel`.
    #[default]
    Pending,
    /// May be claimed from its time on.
    Ready,
    /// Claimed, being done.
    Running,
    /// Done.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Stopped because the job failed or the run unwinds.
    Cancelled,
    /// May be claimed to be undone.
    UndoReady,
    /// Claimed, being undone.
    Undoing,
    /// Taken back.
    Undone,
    /// Could not be taken back.
    UndoFailed,
}

/// Where one claim of a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptStatus {
    /// A worker holds it.
    Running,
    /// The work is done.
    Succeeded,
    /// The work failed.
    Failed,
    /// Ended without an outcome.
    Released,
    /// The work is taken back.
    Undone,
    /// The work could not be taken back.
    UndoFailed,
}

shown_as_serialized! {
    RunStatus {
        New => "new", Running => "running", Unwinding => "unwinding", Stopped => "stopped",
        Finalizing => "finalizing", Succeeded => "succeeded", Failed => "failed",
        Cancelled => "cancelled",
    }
    JobStatus {
        Waiting => "waiting", Active => "active", Succeeded => "succeeded", Failed => "failed",
        Cancelled => "cancelled", Skipped => "skipped", Undoing => "undoing", Undone => "undone",
        UndoFailed => "undo-failed",
    }
    TaskStatus {
        Pending => "pending", Ready => "ready", Running => "running", Succeeded => "succeeded",
        Failed => "failed", Cancelled => "cancelled", UndoReady => "undo-ready",
        Undoing => "undoing", Undone => "undone", UndoFailed => "undo-failed",
    }
    AttemptStatus {
        Running => "running", Succeeded => "succeeded", Failed => "failed",
        Released => "released", Undone => "undone", UndoFailed => "undo-failed",
    }
}

impl RunStatus {
    /// The table of legal transitions of a run.
    pub fn may_become(self, next: Self) -> bool {
        use RunStatus::{
            Cancelled, Failed, Finalizing, New, Running, Stopped, Succeeded, Unwinding,
        };
        matches!(
            (self, next),
            (New, Running)
                | (Running | Stopped, Unwinding)
                | (Running | Unwinding, Finalizing)
                | (Unwinding, Stopped)
                | (Finalizing, Succeeded | Failed | Cancelled)
        )
    }

    /// Whether nothing can happen any more.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl JobStatus {
    /// The table of legal transitions of a job.
    pub fn may_become(self, next: Self) -> bool {
        use JobStatus::{
            Active, Cancelled, Failed, Skipped, Succeeded, UndoFailed, Undoing, Undone, Waiting,
        };
        matches!(
            (self, next),
            (Waiting, Active | Succeeded | Failed | Cancelled | Skipped)
                | (Active, Succeeded | Failed | Cancelled)
                | (Succeeded | Failed | Cancelled | UndoFailed, Undoing)
                | (Undoing, Undone | UndoFailed)
        )
    }

    /// Whether its own work is over, whatever is undone later.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Waiting | Self::Active)
    }
}

impl TaskStatus {
    /// The table of legal transitions of a task.
    pub fn may_become(self, next: Self) -> bool {
        use TaskStatus::{
            Cancelled, Failed, Pending, Ready, Running, Succeeded, UndoFailed, UndoReady, Undoing,
            Undone,
        };
        matches!(
            (self, next),
            (Pending, Ready | Cancelled)
                | (Ready, Running | Cancelled)
                | (Running, Succeeded | Failed | Cancelled | Ready)
                | (Succeeded | Failed | Cancelled | UndoFailed, UndoReady)
                | (UndoReady, Undoing)
                | (Undoing, Undone | UndoReady | UndoFailed)
        )
    }

    /// Whether its own work is over, whatever is undone later.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Pending | Self::Ready | Self::Running)
    }

    /// Whether a worker holds it.
    pub fn is_claimed(self) -> bool {
        matches!(self, Self::Running | Self::Undoing)
    }
}
