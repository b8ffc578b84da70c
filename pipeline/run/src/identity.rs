//! Names of runs, tasks, attempts and workers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest run identifier: a UUID is 36; it becomes a folder name.
const MAX_RUN_ID_BYTES: usize = 64;

/// Names one run: 1 to 64 of `a-z`, `0-9` and `-`, so that it is safe as a folder name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// A text that is not a run identifier.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a run: a run is named by 1 to 64 of a-z, 0-9 and `-`")]
pub struct InvalidRunId(String);

impl RunId {
    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = InvalidRunId;

    fn from_str(text: &str) -> Result<Self, InvalidRunId> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for RunId {
    type Error = InvalidRunId;

    fn try_from(text: String) -> Result<Self, InvalidRunId> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > MAX_RUN_ID_BYTES || !text.bytes().all(allowed) {
            return Err(InvalidRunId(text));
        }
        Ok(Self(text))
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one task of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskId {
    /// The job's name in the definition.
    pub job: String,
    /// Position in the job's fan-out; 0 without one.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.job, self.index)
    }
}

/// Names one claim of one task; what a worker presents with everything it writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The task's fence: 1 for its first claim, one more for each further claim.
    pub fence: u64,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of run {} under fence {}",
            self.task, self.run, self.fence
        )
    }
}

/// One start of one worker process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// Stays the same over restarts (`owner`).
    pub name: String,
    /// Fresh at every start, so that a restarted worker is told apart from its former self.
    pub boot: String,
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (boot {})", self.name, self.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_that_could_leave_its_folder_is_refused() {
        for text in ["", "..", "a/b", "A", "a b", &"a".repeat(65)] {
            assert!(text.parse::<RunId>().is_err(), "{text:?}");
        }
        assert!("0191-abc".parse::<RunId>().is_ok());
    }
}
