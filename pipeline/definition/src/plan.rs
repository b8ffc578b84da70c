//! What a run executes: a definition whose inputs are given and whose references are known.
//!
//! A plan is data: it is stored with the run, its digest is the run's identity, and the state
//! machine folds over it without reading the definition again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A definition resolved against the inputs of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// The definition's `name`.
    pub definition: String,
    /// SHA-256 of the definition's bytes, lower-case hex.
    pub definition_sha256: String,
    /// Every input after defaults, by name.
    pub inputs: BTreeMap<String, Value>,
    /// Jobs in the order of the definition; `needs` is acyclic and names only jobs of this list.
    pub jobs: Vec<PlannedJob>,
    /// Jobs that run once every other job is settled, whatever its outcome; same rules as `jobs`.
    pub finally: Vec<PlannedJob>,
    /// What the run reports, by name.
    pub outputs: BTreeMap<String, Argument>,
}

/// One node of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlannedJob {
    /// The author's name, unique over `jobs` and `finally`.
    pub name: String,
    /// The kind with its version, as in `seal@1`.
    pub kind: String,
    /// The trust zone whose worker hosts the kind: `owner` or `operator`.
    pub zone: String,
    /// Names of the jobs that must have succeeded first.
    pub needs: Vec<String>,
    /// The kind's input, member by member.
    pub with: BTreeMap<String, Argument>,
    /// One task per element of a list, or none for a single task.
    pub for_each: Option<ForEach>,
    /// How often a transient failure is tried again.
    pub retry: Retry,
    /// Longest time one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// Whether the kind's `undo` runs when the run fails or is cancelled after this job started.
    pub compensate: bool,
}

/// A value of `with`, possibly known only once another job has finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Argument {
    /// Known when the run is created.
    Value(Value),
    /// `${{ jobs.<job>.outputs.<output> }}`; of a fanned-out job, the list over its tasks in order.
    Output {
        /// The job that is read.
        job: String,
        /// The member of its output.
        output: String,
    },
    /// The element of `for-each` that a task is for.
    Element,
    /// A list with at least one member that is not a plain value.
    List(Vec<Argument>),
    /// A map with at least one member that is not a plain value.
    Map(BTreeMap<String, Argument>),
}

/// Fan-out over a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ForEach {
    /// The list; each element becomes one task.
    pub list: Argument,
    /// Most tasks of this job running at once.
    pub max_parallel: u32,
}

/// Retry of transient failures. A lost worker never uses an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Retry {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    /// Wait before the second attempt, in milliseconds.
    pub initial_ms: u64,
    /// What each further wait is multiplied by.
    pub factor: f64,
    /// Longest wait, in milliseconds.
    pub max_ms: u64,
}
