//! Plans to start from.

use std::collections::BTreeMap;

use sealift_definition::plan::{Plan, PlannedJob, Retry};
use sealift_run::{Failure, FailureClass};

pub(crate) fn failure(class: FailureClass) -> Failure {
    Failure {
        class,
        fact: "could not do it".into(),
        remedy: None,
        causes: vec!["why".into()],
    }
}

pub(crate) fn job(name: &str, needs: &[&str]) -> PlannedJob {
    PlannedJob {
        name: name.into(),
        kind: "step@1".into(),
        zone: "owner".into(),
        needs: needs.iter().map(|&need| need.into()).collect(),
        with: BTreeMap::new(),
        for_each: None,
        retry: Retry {
            max_attempts: 1,
            initial_ms: 100,
            factor: 2.0,
            max_ms: 1_000,
        },
        timeout_ms: 1_000,
        compensate: false,
    }
}

pub(crate) fn plan(jobs: Vec<PlannedJob>, finally: Vec<PlannedJob>) -> Plan {
    Plan {
        definition: "test".into(),
        definition_sha256: "0".repeat(64),
        inputs: BTreeMap::new(),
        jobs,
        finally,
        outputs: BTreeMap::new(),
    }
}
