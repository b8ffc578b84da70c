//! From a plan's arguments to the values a task is told, once the jobs before it are done.

use sealift_definition::plan::{Argument, ForEach};
use serde_json::{Map, Value};

use crate::RunState;

/// Most tasks of one job: what one event can hold and one person can look through.
pub const MAX_TASKS: usize = 100_000;

/// Why an argument has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The job it reads did not succeed.
    #[error("job `{0}` left no output")]
    NoOutput(String),
    /// The job it reads succeeded without that member.
    #[error("the output of job `{job}` has no `{output}`")]
    NoMember {
        /// The job.
        job: String,
        /// The member.
        output: String,
    },
    /// It asks for the element of a fan-out where there is none.
    #[error("there is no `for-each` whose element could be used")]
    NoElement,
    /// What a fan-out goes over is not a list.
    #[error("what `for-each` goes over is not a list")]
    NotAList,
    /// A fan-out has more than [`MAX_TASKS`] elements.
    #[error("`for-each` goes over {0} elements; the most is {MAX_TASKS}")]
    TooManyElements(usize),
}

impl RunState {
    /// What the task at `index` of the job at `job` is told.
    ///
    /// # Errors
    /// Which argument has no value, and why.
    pub fn input(&self, job: usize, index: u32) -> Result<Value, Unresolved> {
        let Some(planned) = self.planned_at(job) else {
            return Err(Unresolved::NoElement);
        };
        let element = self.jobs[job]
            .elements
            .as_ref()
            .and_then(|all| all.get(index as usize));
        let mut input = Map::new();
        for (member, argument) in &planned.with {
            input.insert(member.clone(), self.resolve(argument, element)?);
        }
        Ok(Value::Object(input))
    }

    pub(crate) fn elements(&self, for_each: &ForEach) -> Result<Vec<Value>, Unresolved> {
        match self.resolve(&for_each.list, None)? {
            Value::Array(list) if list.len() > MAX_TASKS => {
                Err(Unresolved::TooManyElements(list.len()))
            }
            Value::Array(list) => Ok(list),
            _ => Err(Unresolved::NotAList),
        }
    }

    pub(crate) fn resolve(
        &self,
        argument: &Argument,
        element: Option<&Value>,
    ) -> Result<Value, Unresolved> {
        match argument {
            Argument::Value(value) => Ok(value.clone()),
            Argument::Output { job, output } => self.output(job, output),
            Argument::Element => element.cloned().ok_or(Unresolved::NoElement),
            Argument::List(list) => list
                .iter()
                .map(|item| self.resolve(item, element))
                .collect(),
            Argument::Map(map) => {
                let members = map.iter();
                members
                    .map(|(k, v)| Ok((k.clone(), self.resolve(v, element)?)))
                    .collect()
            }
        }
    }

    fn output(&self, job: &str, output: &str) -> Result<Value, Unresolved> {
        let no_output = || Unresolved::NoOutput(job.to_owned());
        let index = self.index_of(job).ok_or_else(no_output)?;
        let state = &self.jobs[index];
        if !state.has_outputs {
            return Err(no_output());
        }
        let member = |value: &Value| match value.get(output) {
            Some(found) => Ok(found.clone()),
            None => Err(Unresolved::NoMember {
                job: job.to_owned(),
                output: output.to_owned(),
            }),
        };
        let outputs = || {
            state
                .tasks
                .iter()
                .map(|task| task.output.as_ref().ok_or_else(no_output))
        };
        if state.elements.is_some() {
            return outputs().map(|found| member(found?)).collect();
        }
        member(outputs().next().ok_or_else(no_output)??)
    }
}
