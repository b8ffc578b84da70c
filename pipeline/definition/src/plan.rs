//! What a run executes: a definition whose inputs are given and whose references are known.
//!
//! A plan is data: it is stored with the run, its digest is the run's identity, and the state
//! machine folds over it without reading the definition again.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
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
    /// Jobs that run once every other job is settled, whatever its outcome; their `needs` name only
    /// jobs of this list. They may read outputs of any job of `jobs`; one whose output is missing,
    /// because its job did not succeed, is skipped for that reason.
    pub finally: Vec<PlannedJob>,
    /// What the run reports, by name; reads only inputs and jobs of `jobs`.
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
    List(Vec<Self>),
    /// A map with at least one member that is not a plain value.
    Map(BTreeMap<String, Self>),
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

/// Why a plan that was stored cannot be what was planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// `needs` names no job of the same list.
    #[error("the job `{job}` of the plan needs `{need}`, which is not in it; plan the run again")]
    UnknownNeed {
        /// The job.
        job: String,
        /// The name that is not a job.
        need: String,
    },
    /// The jobs need each other.
    #[error("the job `{job}` of the plan needs itself through others; plan the run again")]
    Cycle {
        /// One job of the circle.
        job: String,
    },
    /// A value that canonical JSON cannot carry.
    #[error("the plan has no canonical form; plan the run again")]
    NotCanonical(#[source] serde_json::Error),
}

impl Plan {
    /// Every job after those it needs, jobs of `finally` last; among jobs that could run at once,
    /// in the order of the definition.
    pub fn topological_order(&self) -> Result<Vec<&PlannedJob>, PlanError> {
        let mut order = order_of(&self.jobs)?;
        order.append(&mut order_of(&self.finally)?);
        Ok(order)
    }

    /// SHA-256 of the plan's canonical JSON (RFC 8785), lower-case hex: what a run is a run of.
    pub fn digest(&self) -> Result<String, PlanError> {
        let canonical = serde_json_canonicalizer::to_vec(self).map_err(PlanError::NotCanonical)?;
        Ok(hex::encode(digest::digest(&digest::SHA256, &canonical)))
    }
}

fn order_of(jobs: &[PlannedJob]) -> Result<Vec<&PlannedJob>, PlanError> {
    let index: BTreeMap<&str, usize> = jobs
        .iter()
        .enumerate()
        .map(|(at, job)| (job.name.as_str(), at))
        .collect();
    let mut waiting: Vec<(&PlannedJob, Vec<usize>)> = Vec::new();
    for job in jobs {
        let needs = job.needs.iter().map(|need| {
            index
                .get(need.as_str())
                .copied()
                .ok_or_else(|| PlanError::UnknownNeed {
                    job: job.name.clone(),
                    need: need.clone(),
                })
        });
        waiting.push((job, needs.collect::<Result<_, _>>()?));
    }
    let mut placed = vec![false; jobs.len()];
    let mut order = Vec::new();
    while order.len() < jobs.len() {
        let ready = (0..jobs.len())
            .find(|at| !placed[*at] && waiting[*at].1.iter().all(|need| placed[*need]));
        let Some(ready) = ready else {
            let stuck = (0..jobs.len()).find(|at| !placed[*at]).unwrap_or_default();
            return Err(PlanError::Cycle {
                job: jobs[stuck].name.clone(),
            });
        };
        placed[ready] = true;
        order.push(waiting[ready].0);
    }
    Ok(order)
}
