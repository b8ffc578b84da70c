//! What a plan must hold before a run of it may exist.

use std::collections::BTreeMap;

use sealift_definition::plan::{Plan, PlannedJob};

use crate::state::JobState;

/// Most jobs in one plan: what a person can still read as one pipeline.
pub const MAX_JOBS: usize = 1_000;

/// Why a plan cannot be run. A plan made from a checked definition has none of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// It has no jobs.
    #[error("the plan has no jobs; name at least one under `jobs`")]
    Empty,
    /// It has more than [`MAX_JOBS`].
    #[error("the plan has {0} jobs; split it, the most is {MAX_JOBS}")]
    TooManyJobs(usize),
    /// Two jobs have one name.
    #[error("two jobs are named `{0}`; rename one")]
    DuplicateName(String),
    /// A job needs one that is not in its list.
    #[error("job `{job}` needs `{needed}`, which is not a job of the same list")]
    UnknownNeed {
        /// The job.
        job: String,
        /// What it needs.
        needed: String,
    },
    /// Jobs need each other.
    #[error("the jobs {} need each other in a circle; remove one `needs`", .0.join(", "))]
    Cycle(Vec<String>),
    /// A job may never be tried or run.
    #[error("job `{0}` allows no attempt; `max-attempts` and `max-parallel` are at least 1")]
    NoAttempt(String),
}

/// The graph of a plan that has none of the faults.
pub(crate) struct CheckedGraph {
    pub(crate) jobs: Vec<JobState>,
    pub(crate) by_name: BTreeMap<String, usize>,
    /// The jobs of `jobs`, each after what it needs.
    pub(crate) order: Vec<usize>,
}

/// Checks a plan and counts what each job waits for.
pub(crate) fn check(plan: &Plan) -> Result<CheckedGraph, PlanFault> {
    let main = plan.jobs.len();
    let count = main + plan.finally.len();
    if main == 0 {
        return Err(PlanFault::Empty);
    }
    if count > MAX_JOBS {
        return Err(PlanFault::TooManyJobs(count));
    }
    let all: Vec<&PlannedJob> = plan.jobs.iter().chain(&plan.finally).collect();
    let mut by_name = BTreeMap::new();
    for (index, job) in all.iter().enumerate() {
        let no_parallel = job.for_each.as_ref().is_some_and(|f| f.max_parallel == 0);
        if job.retry.max_attempts == 0 || no_parallel {
            return Err(PlanFault::NoAttempt(job.name.clone()));
        }
        if by_name.insert(job.name.clone(), index).is_some() {
            return Err(PlanFault::DuplicateName(job.name.clone()));
        }
    }
    let mut jobs: Vec<JobState> = all.iter().map(|_| JobState::default()).collect();
    for (index, job) in all.iter().enumerate() {
        let mut needs: Vec<&String> = job.needs.iter().collect();
        needs.sort();
        needs.dedup();
        for needed in needs {
            match by_name.get(needed) {
                Some(&before) if (before < main) == (index < main) => {
                    jobs[before].dependents.push(index);
                    jobs[index].remaining += 1;
                }
                _ => {
                    let (job, needed) = (job.name.clone(), needed.clone());
                    return Err(PlanFault::UnknownNeed { job, needed });
                }
            }
        }
    }
    let order = topological(&jobs);
    if order.len() < count {
        let circle = (0..count).filter(|i| !order.contains(i));
        return Err(PlanFault::Cycle(
            circle.map(|i| all[i].name.clone()).collect(),
        ));
    }
    Ok(CheckedGraph {
        jobs,
        by_name,
        order: order.into_iter().filter(|&i| i < main).collect(),
    })
}

/// Each job after what it needs; jobs on a circle are left out.
fn topological(jobs: &[JobState]) -> Vec<usize> {
    let mut remaining: Vec<u32> = jobs.iter().map(|j| j.remaining).collect();
    let mut order: Vec<usize> = (0..jobs.len()).filter(|&i| remaining[i] == 0).collect();
    let mut at = 0;
    while let Some(&job) = order.get(at) {
        at += 1;
        for &dependent in &jobs[job].dependents {
            remaining[dependent] -= 1;
            if remaining[dependent] == 0 {
                order.push(dependent);
            }
        }
    }
    order
}
