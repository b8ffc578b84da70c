//! Jobs of any type behind one trait.

use futures::future::BoxFuture;
use schemars::schema_for;
use sealift_job::{Job, JobContext};
use sealift_run::{Failure, FailureClass, Outcome, message::KindDescription};
use serde_json::Value;

use crate::outcome;

/// A job whose types are hidden behind JSON.
pub(crate) trait Hosted: Send + Sync {
    fn describe(&self, zone: &str) -> KindDescription;
    fn run<'a>(&'a self, input: Value, context: &'a JobContext) -> BoxFuture<'a, Outcome>;
    fn undo<'a>(
        &'a self,
        input: Value,
        output: Option<Value>,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Outcome>;
}

/// A job with its types.
pub(crate) struct Typed<J>(pub(crate) J);

impl<J: Job> Hosted for Typed<J> {
    fn describe(&self, zone: &str) -> KindDescription {
        KindDescription {
            kind: J::KIND.to_owned(),
            zone: zone.to_owned(),
            effectful: J::EFFECTFUL,
            input: schema_for!(J::Input).to_value(),
            output: schema_for!(J::Output).to_value(),
        }
    }

    fn run<'a>(&'a self, input: Value, context: &'a JobContext) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let input: J::Input = match serde_json::from_value(input) {
                Ok(input) => input,
                Err(error) => return unreadable("read the job's input", &error),
            };
            match self.0.run(&input, context).await {
                Ok(output) => match serde_json::to_value(output) {
                    Ok(output) => Outcome::Succeeded { output },
                    Err(error) => unreadable("write the job's output", &error),
                },
                Err(error) => Outcome::Failed {
                    failure: outcome::failure(&error),
                },
            }
        })
    }

    fn undo<'a>(
        &'a self,
        input: Value,
        output: Option<Value>,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let read = || {
                let input: J::Input = serde_json::from_value(input)?;
                let output: Option<J::Output> = output.map(serde_json::from_value).transpose()?;
                Ok::<_, serde_json::Error>((input, output))
            };
            let (input, output) = match read() {
                Ok(read) => read,
                Err(error) => return outcome::undo_failed(context.job(), &error),
            };
            match self.0.undo(&input, output.as_ref(), context).await {
                Ok(()) => Outcome::Undone,
                Err(error) => Outcome::UndoFailed {
                    failure: outcome::undo_failure(&error),
                },
            }
        })
    }
}

fn unreadable(operation: &str, error: &serde_json::Error) -> Outcome {
    let failure = Failure {
        class: FailureClass::Permanent,
        fact: format!("could not {operation}"),
        remedy: Some("check the definition with `sealift validate`".to_owned()),
        causes: vec![error.to_string()],
    };
    Outcome::Failed { failure }
}
