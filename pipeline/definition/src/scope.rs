//! What names mean, and to whom they are visible.
//!
//! A job reads inputs, and outputs of jobs that it needs. A job of `finally` also reads outputs of
//! any job of `jobs` without needing it: those are settled when `finally` starts. Such an output is
//! missing if its job did not succeed, and then the reader is skipped. The definition's `outputs`
//! read jobs of `jobs` only.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authored::{Body, FanOut, Job, Section};
use crate::code::Code;
use crate::diagnostic::Mistake;
use crate::expression::Reference;
use crate::graph::Graph;
use crate::input::{Input, InputType, describe_json};
use crate::kinds::Kind;
use crate::schema::{Limit, Named, Range, Schema, Shape, TextShape};
use crate::source::{Quoted, Span};
use crate::suggestion;
use crate::template::{Form, Template};

/// Who reads, and what besides inputs and outputs.
pub(crate) struct Reader<'a> {
    pub(crate) place: Place,
    pub(crate) element: Element<'a>,
}

/// Where a reference stands.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// In a job, by its index in its section.
    Job(Section, usize),
    /// In the `outputs` of the definition.
    Outputs,
}

/// The element of `for-each` where a reference stands.
pub(crate) enum Element<'a> {
    No,
    /// `as` gives it a name; its type may be unknown.
    Named(&'a str, Option<Schema>),
    /// Whether there is one is unknown, because `strategy` is reported.
    Unknown,
}

/// Every name of a definition.
pub(crate) struct Scope<'a> {
    pub(crate) body: &'a Body,
    /// The kinds of the jobs whose kinds are known, by the job's name.
    pub(crate) kinds: &'a BTreeMap<String, Arc<Kind>>,
    pub(crate) jobs: Graph<'a>,
    pub(crate) finally: Graph<'a>,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(
        body: &'a Body,
        kinds: &'a BTreeMap<String, Arc<Kind>>,
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let mut jobs = Graph::new(&body.jobs, Section::Jobs);
        jobs.connect(&body.finally, body.jobs_known, mistakes);
        let mut finally = Graph::new(&body.finally, Section::Finally);
        finally.connect(&body.jobs, body.jobs_known, mistakes);
        Self {
            body,
            kinds,
            jobs,
            finally,
        }
    }

    pub(crate) fn job(&self, section: Section, index: usize) -> &'a Job {
        match section {
            Section::Jobs => &self.body.jobs[index],
            Section::Finally => &self.body.finally[index],
        }
    }

    /// The type of what a reference names. `None` if that is unknown, which is then reported here
    /// or has been where it is declared.
    pub(crate) fn look_up(
        &self,
        reference: &Reference,
        at: Span,
        reader: &Reader<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Schema> {
        match reference {
            Reference::Input(name) => self.look_up_input(name, at, mistakes),
            Reference::Output { job, output } => {
                let (section, index) = self.find_job(job, at, mistakes)?;
                self.check_visible((section, index), at, reader)
                    .map_err(|m| mistakes.push(m))
                    .ok()?;
                self.look_up_output(self.job(section, index), output, at, mistakes)
            }
            Reference::Element(name) => self.look_up_element(name, at, reader, mistakes),
        }
    }

    fn look_up_input(&self, name: &str, at: Span, mistakes: &mut Vec<Mistake>) -> Option<Schema> {
        let found = self
            .body
            .inputs
            .iter()
            .find(|input| input.name.text == name);
        if found.is_none() && self.body.inputs_known {
            let names = self
                .body
                .inputs
                .iter()
                .map(|input| input.name.text.as_str());
            let (remedy, nearest) =
                suggestion::remedy(name, names, "the inputs are", "declare it under `inputs`");
            let message = format!("there is no input {}", Quoted(name));
            let nearest = nearest.map(|name| format!("inputs.{name}"));
            mistakes.push(Mistake::new(Code::UnknownInput, at, message, remedy).suggest(nearest));
        }
        found?.kind.as_ref().map(schema_of)
    }

    fn find_job(
        &self,
        name: &str,
        at: Span,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<(Section, usize)> {
        let within = |jobs: &[Job]| jobs.iter().position(|job| job.name.text == name);
        let found = within(&self.body.jobs)
            .map(|index| (Section::Jobs, index))
            .or_else(|| within(&self.body.finally).map(|index| (Section::Finally, index)));
        if found.is_none() && self.body.jobs_known {
            let names = self.body.jobs.iter().map(|job| job.name.text.as_str());
            let (remedy, nearest) = suggestion::remedy(name, names, "the jobs are", "");
            let message = format!("there is no job {}", Quoted(name));
            mistakes.push(Mistake::new(Code::UnknownJob, at, message, remedy).suggest(nearest));
        }
        found
    }

    fn check_visible(
        &self,
        (section, target): (Section, usize),
        at: Span,
        reader: &Reader<'_>,
    ) -> Result<(), Mistake> {
        let name = &self.job(section, target).name;
        let graph = match (reader.place, section) {
            (Place::Job(Section::Finally, _) | Place::Outputs, Section::Jobs) => return Ok(()),
            (Place::Job(Section::Jobs, _) | Place::Outputs, Section::Finally) => {
                let message = format!(
                    "{} is a job of `finally`, which starts after every other job",
                    Quoted(&name.text)
                );
                let remedy = "read an output of a job of `jobs`, or move that job there";
                return Err(Mistake::new(Code::ReadsFinally, at, message, remedy));
            }
            (Place::Job(Section::Jobs, _), Section::Jobs) => &self.jobs,
            (Place::Job(Section::Finally, _), Section::Finally) => &self.finally,
        };
        let Place::Job(_, reading) = reader.place else {
            return Ok(());
        };
        if reading == target {
            let message = format!(
                "{} reads its own outputs, which it has not made yet",
                Quoted(&name.text)
            );
            let remedy = "read an output of a job that it needs, or an input";
            return Err(Mistake::new(Code::ReadsItself, at, message, remedy));
        }
        if graph.reaches(reading, target) || !graph.is_certain(reading) {
            return Ok(());
        }
        Err(self.not_needed(
            section,
            (reading, target),
            at,
            graph.reaches(target, reading),
        ))
    }

    fn not_needed(
        &self,
        section: Section,
        (reading, target): (usize, usize),
        at: Span,
        reversed: bool,
    ) -> Mistake {
        let (reading, target) = (self.job(section, reading), self.job(section, target));
        let (reader, read) = (Quoted(&reading.name.text), Quoted(&target.name.text));
        let message = format!("{reader} reads an output of {read} without needing it");
        let remedy = if reversed {
            format!(
                "{read} needs {reader}, so it cannot run first: turn that around, or read something else"
            )
        } else {
            let all = reading.needs.iter().map(|need| need.value.as_str());
            let all: Vec<&str> = all.chain([target.name.text.as_str()]).collect();
            format!("write `needs: [{}]` in {reader}", all.join(", "))
        };
        Mistake::new(Code::NotNeeded, at, message, remedy)
            .label(reading.name.span, "the reader is declared here")
    }

    fn look_up_output(
        &self,
        job: &Job,
        output: &str,
        at: Span,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Schema> {
        let kind = self.kinds.get(&job.name.text)?;
        let shape = match output_shape(&kind.output, output) {
            Ok(shape) => shape,
            Err(names) => {
                mistakes.push(unknown_output(&kind.name, output, &names, at));
                return None;
            }
        };
        match job.fan_out {
            FanOut::No => Some(kind.output.with(shape)),
            FanOut::Over(_) => Some(kind.output.with(Shape::list_of(shape))),
            FanOut::Refused => None,
        }
    }

    fn look_up_element(
        &self,
        name: &str,
        at: Span,
        reader: &Reader<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Schema> {
        match &reader.element {
            Element::Named(element, schema) if *element == name => schema.clone(),
            Element::Unknown => None,
            element => {
                mistakes.push(self.unknown_name(name, element, at));
                None
            }
        }
    }

    fn unknown_name(&self, name: &str, element: &Element<'_>, at: Span) -> Mistake {
        let message = format!("nothing is called {} here", Quoted(name));
        let is_input = self.body.inputs.iter().any(|input| input.name.text == name);
        let (remedy, nearest) = match element {
            _ if is_input => (
                format!("did you mean `inputs.{name}`?"),
                Some(format!("inputs.{name}")),
            ),
            Element::Named(element, _) => {
                let remedy = format!("the element of `for-each` is called {}", Quoted(element));
                (remedy, Some((*element).to_owned()))
            }
            _ => (NO_ELEMENT.to_owned(), None),
        };
        Mistake::new(Code::UnknownName, at, message, remedy).suggest(nearest)
    }

    /// The type of the elements of a list that `for-each` is given. `None` if it is unknown; what
    /// is not a list is reported.
    pub(crate) fn element_of(
        &self,
        list: &Template,
        reader: &Reader<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Schema> {
        let found = match &list.form {
            Form::Refused => return None,
            Form::List(items) => {
                for (reference, at) in list.references() {
                    self.look_up(reference, at, reader, mistakes);
                }
                return Some(Schema::alone(shape_of_items(items)));
            }
            Form::Plain { value, .. } => describe_json(value),
            Form::Map(_) => "a map".to_owned(),
            Form::Reference(reference) => {
                let schema = self.look_up(reference, list.span, reader, mistakes)?;
                if let Some(element) = schema.element() {
                    return Some(element);
                }
                schema.describe(&schema.shape)
            }
        };
        let message = format!("`for-each` takes a list, not {found}");
        let remedy = "name an output or an input that is a list";
        mistakes.push(Mistake::new(Code::NotAList, list.span, message, remedy));
        None
    }
}

const NO_ELEMENT: &str = "write `inputs.NAME` or `jobs.NAME.outputs.NAME`; only `with` of a job with `for-each` has an element";

/// What is known of the elements of a written list.
fn shape_of_items(items: &[Template]) -> Shape {
    let plain = items.iter().map(|item| match &item.form {
        Form::Plain { value, .. } => Some(value.clone()),
        _ => None,
    });
    plain
        .collect::<Option<Vec<_>>>()
        .map_or(Shape::Any, Shape::OneOf)
}

/// The shape of a member of a kind's output, or the members that it has.
fn output_shape(output: &Schema, name: &str) -> Result<Shape, Vec<String>> {
    if matches!(output.follow(&output.shape), Shape::Any) {
        return Ok(Shape::Any);
    }
    let Some(map) = output.members() else {
        return Err(Vec::new());
    };
    match map.named(name) {
        Named::Is(shape) => Ok(shape.clone()),
        Named::Unsaid | Named::Refused => Err(map.members.keys().cloned().collect()),
    }
}

fn unknown_output(kind: &str, output: &str, names: &[String], at: Span) -> Mistake {
    let names = names.iter().map(String::as_str);
    let what = format!("the outputs of `{kind}` are");
    let none = format!("`{kind}` has no outputs");
    let (remedy, nearest) = suggestion::remedy(output, names, &what, &none);
    let message = format!("`{kind}` has no output {}", Quoted(output));
    Mistake::new(Code::UnknownOutput, at, message, remedy).suggest(nearest)
}

/// What is known of an input's values before they are given.
fn schema_of(kind: &InputType) -> Schema {
    let limit = |at: Option<f64>| at.map(|at| Limit { at, included: true });
    Schema::alone(match kind {
        InputType::Text { .. } | InputType::Path => Shape::Text(TextShape::default()),
        InputType::Bool => Shape::Boolean,
        InputType::Enum { values } => {
            Shape::OneOf(values.iter().map(|value| value.as_str().into()).collect())
        }
        InputType::Int(bounds) => Shape::Integer(Range {
            min: limit(bounds.min.map(|n| n as f64)),
            max: limit(bounds.max.map(|n| n as f64)),
        }),
        InputType::Float(bounds) => Shape::Number(Range {
            min: limit(bounds.min),
            max: limit(bounds.max),
        }),
        InputType::Duration(bounds) => Shape::Integer(Range {
            min: limit(Some(bounds.min.unwrap_or_default() as f64)),
            max: limit(bounds.max.map(|ms| ms as f64)),
        }),
        InputType::List => Shape::list_of(Shape::Any),
        InputType::Map => Shape::any_map(),
    })
}

/// Inputs that no reference in `used` names.
pub(crate) fn unused<'a>(
    inputs: &'a [Input],
    used: &[(&Reference, Span)],
) -> impl Iterator<Item = &'a Input> {
    inputs.iter().filter(move |input| {
        !used.iter().any(|(reference, _)| matches!(reference, Reference::Input(name) if *name == input.name.text))
    })
}
