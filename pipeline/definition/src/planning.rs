//! Third stage: a definition together with the inputs of one run.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::arguments::{Check, Known};
use crate::authored::{FanOut, Job};
use crate::code::Code;
use crate::diagnostic::{Diagnostics, Mistake};
use crate::expression::Reference;
use crate::input::{Input, InputType, ValueFault, absolute};
use crate::plan::{Argument, ForEach, Plan, PlannedJob};
use crate::resolved::{Resolved, with_as_map};
use crate::source::{Quoted, Span};
use crate::suggestion;
use crate::template::{Form, Template};

/// A value that someone gives for an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// As typed, as in `rows=200`; read by the input's type.
    Text(String),
    /// Already typed. A duration is text here too, as in `"30s"`.
    Value(Value),
}

impl From<&str> for Given {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Given {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for Given {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// Where relative paths start. Both are absolute.
#[derive(Clone, Copy, Debug)]
pub struct Folders<'a> {
    /// The folder of the definition file, for defaults.
    pub definition: &'a Path,
    /// The folder of whoever gives inputs, for what they give.
    pub given: &'a Path,
}

impl<'a> Folders<'a> {
    /// One folder for both.
    pub fn both(folder: &'a Path) -> Self {
        Self {
            definition: folder,
            given: folder,
        }
    }
}

impl Resolved {
    /// Plans a run with the given inputs.
    ///
    /// Every mistake names the input and points at its declaration.
    pub fn plan(
        &self,
        given: BTreeMap<String, Given>,
        folders: Folders<'_>,
    ) -> Result<Plan, Diagnostics> {
        let mut mistakes = Vec::new();
        let inputs = self.take_inputs(given, folders, &mut mistakes);
        if mistakes.is_empty() {
            self.check_values(&inputs, &mut mistakes);
        }
        if !mistakes.is_empty() {
            return Err(Diagnostics::new(&self.source, mistakes));
        }
        let planned = |jobs: &[Job]| jobs.iter().map(|job| self.plan_job(job, &inputs)).collect();
        let outputs = self.body.outputs.iter();
        Ok(Plan {
            definition: self.name().to_owned(),
            definition_sha256: self.sha256.clone(),
            jobs: planned(&self.body.jobs),
            finally: planned(&self.body.finally),
            outputs: outputs
                .map(|(key, value)| (key.text.clone(), argument(value, &inputs)))
                .collect(),
            inputs,
        })
    }

    fn take_inputs(
        &self,
        mut given: BTreeMap<String, Given>,
        folders: Folders<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> BTreeMap<String, Value> {
        let mut inputs = BTreeMap::new();
        for input in &self.body.inputs {
            let Some(kind) = &input.kind else { continue };
            let value = match (given.remove(&input.name.text), &input.default) {
                (Some(given), _) => take_given(input, kind, given)
                    .and_then(|value| place_path(input, kind, value, folders.given)),
                (None, Some(default)) => {
                    place_path(input, kind, default.clone(), folders.definition)
                }
                (None, None) => Err(missing(input, kind)),
            };
            match value {
                Ok(value) => {
                    inputs.insert(input.name.text.clone(), value);
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        for name in given.keys() {
            mistakes.push(self.unknown_given(name));
        }
        inputs
    }

    fn unknown_given(&self, name: &str) -> Mistake {
        let names = self
            .body
            .inputs
            .iter()
            .map(|input| input.name.text.as_str());
        let none = "the definition takes no inputs; give none";
        let (remedy, nearest) = suggestion::remedy(name, names, "the inputs are", none);
        let at = self.body.inputs_at.unwrap_or_default();
        let message = format!(
            "a value is given for {}, which is not an input",
            Quoted(name)
        );
        Mistake::new(Code::UnknownGiven, at, message, remedy).suggest(nearest)
    }

    /// Checks `with` again now that the inputs have values: limits of a kind are about values.
    fn check_values(&self, inputs: &BTreeMap<String, Value>, mistakes: &mut Vec<Mistake>) {
        let known = |reference: &Reference, _: Span| match reference {
            Reference::Input(name) => self.value_of(name, inputs),
            Reference::Output { .. } | Reference::Element(_) => Known::Nothing,
        };
        for job in self.body.jobs.iter().chain(&self.body.finally) {
            if let (Some(kind), Some(with)) = (self.kinds.get(&job.name.text), with_as_map(job)) {
                Check {
                    kind,
                    known: &known,
                }
                .with(&with, job.with_at, mistakes);
            }
        }
    }

    fn value_of(&self, name: &str, inputs: &BTreeMap<String, Value>) -> Known {
        let declared = self
            .body
            .inputs
            .iter()
            .find(|input| input.name.text == name);
        match (inputs.get(name), declared) {
            (Some(value), Some(input)) => Known::Value(value.clone(), input.name.span),
            _ => Known::Nothing,
        }
    }

    fn plan_job(&self, job: &Job, inputs: &BTreeMap<String, Value>) -> PlannedJob {
        let kind = self.kinds.get(&job.name.text);
        let with = job.with.iter().flatten();
        PlannedJob {
            name: job.name.text.clone(),
            kind: kind.map(|kind| kind.name.clone()).unwrap_or_default(),
            zone: kind.map(|kind| kind.zone.to_string()).unwrap_or_default(),
            needs: job.needs.iter().map(|need| need.value.clone()).collect(),
            with: with
                .map(|(key, value)| (key.text.clone(), argument(value, inputs)))
                .collect(),
            for_each: match &job.fan_out {
                FanOut::Over(strategy) => Some(ForEach {
                    list: argument(&strategy.list, inputs),
                    max_parallel: strategy.max_parallel,
                }),
                FanOut::No | FanOut::Refused => None,
            },
            retry: job.retry.clone(),
            timeout_ms: job.timeout_ms,
            compensate: job.compensate,
        }
    }
}

fn take_given(input: &Input, kind: &InputType, given: Given) -> Result<Value, Mistake> {
    let read = match given {
        Given::Text(text) => kind.read(&text),
        Given::Value(value) => kind.admit(value),
    };
    read.map_err(|fault| {
        let name = Quoted(&input.name.text);
        let (code, message, remedy) = match fault {
            ValueFault::Type { found, remedy } => {
                let message = format!(
                    "the input {name} is of the type `{}` and is given {found}",
                    kind.name()
                );
                (Code::WrongGiven, message, remedy)
            }
            ValueFault::Constraint { found, remedy } => {
                let message = format!("the input {name} is given {found}, which it does not allow");
                (Code::GivenOutOfBounds, message, remedy)
            }
        };
        Mistake::new(code, input.name.span, message, remedy)
    })
}

fn missing(input: &Input, kind: &InputType) -> Mistake {
    let name = &input.name.text;
    let message = format!("the input {} has no default and is not given", Quoted(name));
    let remedy = format!("give {} for it, as `{name}=…`", kind.describe());
    Mistake::new(Code::MissingInput, input.name.span, message, remedy)
}

fn place_path(
    input: &Input,
    kind: &InputType,
    value: Value,
    folder: &Path,
) -> Result<Value, Mistake> {
    let (InputType::Path, Value::String(path)) = (kind, &value) else {
        return Ok(value);
    };
    let refused = |fact: &str, remedy: &str| {
        let message = format!("the path for the input {} {fact}", Quoted(&input.name.text));
        Mistake::new(Code::GivenOutOfBounds, input.name.span, message, remedy)
    };
    let path = absolute(folder, path);
    if !path.is_absolute() {
        return Err(refused("starts nowhere", "give an absolute path"));
    }
    // A plan is JSON, and JSON has no bytes that are not Unicode.
    path.into_os_string()
        .into_string()
        .map(Value::String)
        .map_err(|_| {
            refused(
                "is not Unicode",
                "give an absolute path, or start from a folder whose name is UTF-8",
            )
        })
}

/// A value of the definition with the inputs in it; plain as far as nothing else is in it.
fn argument(template: &Template, inputs: &BTreeMap<String, Value>) -> Argument {
    match &template.form {
        Form::Refused => Argument::Value(Value::Null),
        Form::Plain { value, .. } => Argument::Value(value.clone()),
        Form::Reference(Reference::Input(name)) => {
            Argument::Value(inputs.get(name).cloned().unwrap_or_default())
        }
        Form::Reference(Reference::Output { job, output }) => Argument::Output {
            job: job.clone(),
            output: output.clone(),
        },
        Form::Reference(Reference::Element(_)) => Argument::Element,
        Form::List(items) => {
            list_argument(items.iter().map(|item| argument(item, inputs)).collect())
        }
        Form::Map(entries) => {
            let members = entries.iter();
            map_argument(
                members
                    .map(|(key, value)| (key.text.clone(), argument(value, inputs)))
                    .collect(),
            )
        }
    }
}

fn list_argument(items: Vec<Argument>) -> Argument {
    let plain: Option<Vec<Value>> = items.iter().map(plain_value).collect();
    plain.map_or(Argument::List(items), |values| {
        Argument::Value(Value::Array(values))
    })
}

fn map_argument(members: BTreeMap<String, Argument>) -> Argument {
    let plain: Option<serde_json::Map<String, Value>> = members
        .iter()
        .map(|(name, value)| Some((name.clone(), plain_value(value)?)))
        .collect();
    plain.map_or(Argument::Map(members), |values| {
        Argument::Value(Value::Object(values))
    })
}

fn plain_value(argument: &Argument) -> Option<Value> {
    match argument {
        Argument::Value(value) => Some(value.clone()),
        _ => None,
    }
}
