//! `deprovision@1`: ends a pod's guest and removes its spec.
//!
//! Leaves nothing; finding nothing is success. There is nothing to undo.

use std::sync::Arc;

use schemars::JsonSchema;
use sealift_job::{Job, JobContext, JobError, UndoError};
use serde::{Deserialize, Serialize};

use crate::{Pod, Pods};

/// Which pod.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The pod.
    pub pod: Pod,
}

/// Nothing.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {}

/// `deprovision@1`.
pub struct Deprovision {
    pods: Arc<Pods>,
}

impl Deprovision {
    /// Removes from `pods`.
    pub fn new(pods: Arc<Pods>) -> Self {
        Self { pods }
    }
}

impl Job for Deprovision {
    const KIND: &'static str = "deprovision@1";

    type Input = Input;
    type Output = Output;

    async fn run(&self, input: &Input, context: &JobContext) -> Result<Output, JobError> {
        let name = &input.pod.name;
        let failed = |error| JobError::transient(format!("remove pod `{name}`"), error);
        self.pods.remove(name).await.map_err(failed)?;
        context.log(format!("pod {name} is gone"));
        Ok(Output {})
    }

    async fn undo(
        &self,
        _input: &Input,
        _output: Option<&Output>,
        _context: &JobContext,
    ) -> Result<(), UndoError> {
        Ok(())
    }
}
