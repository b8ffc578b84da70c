//! `provision@1`: starts a confidential guest for a published version.
//!
//! Leaves a pod: its spec in the folder of pods and a guest that serves. The name follows from
//! run, model and version, so doing it twice finds the same pod. Undo ends the guest and removes
//! the spec.

use std::sync::Arc;

use schemars::JsonSchema;
use sealift_job::{Job, JobContext, JobError, UndoError};
use serde::{Deserialize, Serialize};

use crate::{Pod, PodError, Pods, Published};

/// Which version.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The version in the store.
    pub published: Published,
}

/// The pod.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The pod.
    pub pod: Pod,
}

/// `provision@1`.
pub struct Provision {
    pods: Arc<Pods>,
}

impl Provision {
    /// Provisions into `pods`.
    pub fn new(pods: Arc<Pods>) -> Self {
        Self { pods }
    }
}

impl Job for Provision {
    const KIND: &'static str = "provision@1";

    type Input = Input;
    type Output = Output;

    async fn run(&self, input: &Input, context: &JobContext) -> Result<Output, JobError> {
        context.stop_if_cancelled()?;
        let pod = Pod::of(context.run(), &input.published);
        self.pods
            .create(&pod)
            .map_err(|error| failure(&pod, error))?;
        let serving = tokio::select! {
            serving = self.pods.serving(&pod.name, context.now_unix()) => serving,
            () = context.cancellation().cancelled() => {
                let operation = format!("start pod `{}`", pod.name);
                return Err(JobError::transient(operation, "the attempt was asked to stop"));
            }
        };
        let serving = serving.map_err(|error| failure(&pod, error))?;
        context.log(format!("pod {} serves at {}", pod.name, serving.url));
        Ok(Output { pod })
    }

    async fn undo(
        &self,
        input: &Input,
        output: Option<&Output>,
        context: &JobContext,
    ) -> Result<(), UndoError> {
        let pod = output.map_or_else(
            || Pod::of(context.run(), &input.published),
            |output| output.pod.clone(),
        );
        let left = |error| UndoError::new(format!("pod `{}`", pod.name), error);
        self.pods.remove(&pod.name).await.map_err(left)
    }
}

fn failure(pod: &Pod, error: PodError) -> JobError {
    let operation = format!("start pod `{}`", pod.name);
    if error.is_transient() {
        JobError::transient(operation, error)
    } else {
        JobError::permanent(operation, error.remedy(), error)
    }
}
