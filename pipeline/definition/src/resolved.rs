//! Second stage: a definition in which every name means something and every type fits.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::arguments::{Check, Known};
use crate::authored::{Body, Draft, FanOut, Job, Section};
use crate::code::Code;
use crate::diagnostic::{Diagnostics, Mistake, is_enough, refuses};
use crate::expression::Reference;
use crate::kinds::{Kind, Kinds};
use crate::schema::Schema;
use crate::scope::{Element, Place, Reader, Scope, unused};
use crate::source::{Quoted, Source, Span};
use crate::suggestion;
use crate::template::{Form, Template};

/// A definition that can be planned once its inputs are given.
///
/// It has no other constructors than [`Authored::resolve`](crate::Authored::resolve) and
/// [`Definition::check`](crate::Definition::check).
#[derive(Clone, Debug)]
pub struct Resolved {
    pub(crate) source: Source,
    pub(crate) sha256: String,
    pub(crate) body: Body,
    /// The kind of each job, by the job's name.
    pub(crate) kinds: BTreeMap<String, Arc<Kind>>,
    warnings: Diagnostics,
}

/// What a definition says about one of its inputs.
#[derive(Clone, Copy, Debug)]
pub struct DeclaredInput<'a> {
    /// The name to give a value under.
    pub name: &'a str,
    /// The name of its type, as in `enum`.
    pub kind: &'a str,
    /// What it is for, in the author's words.
    pub description: Option<&'a str>,
    /// The value it has if none is given.
    pub default: Option<&'a serde_json::Value>,
}

impl Resolved {
    pub(crate) fn from_draft(draft: Draft, kinds: &Kinds) -> Result<Self, Diagnostics> {
        let Draft {
            source,
            sha256,
            body,
            mut mistakes,
        } = draft;
        let kinds = kinds_of_jobs(&body, kinds, &mut mistakes);
        let scope = Scope::new(&body, &kinds, &mut mistakes);
        let sections = [
            (Section::Jobs, &body.jobs),
            (Section::Finally, &body.finally),
        ];
        for (section, jobs) in sections {
            for index in 0..jobs.len() {
                check_job(&scope, section, index, &mut mistakes);
            }
        }
        let outputs = Reader {
            place: Place::Outputs,
            element: Element::No,
        };
        for (_, value) in &body.outputs {
            look_up_all(&scope, value, &outputs, &mut mistakes);
        }
        if refuses(&mistakes) {
            return Err(Diagnostics::new(&source, mistakes));
        }
        // Only now: what is unused in a definition with errors may be used where the errors are.
        report_unused(&body, &mut mistakes);
        report_nothing_to_undo(&body, &kinds, &mut mistakes);
        let warnings = Diagnostics::new(&source, mistakes);
        Ok(Self {
            source,
            sha256,
            body,
            kinds,
            warnings,
        })
    }

    /// The definition's name.
    pub fn name(&self) -> &str {
        self.body.name.as_ref().map_or("", |name| &name.text)
    }

    /// What the definition is for, in its author's words.
    pub fn description(&self) -> Option<&str> {
        self.body.description.as_deref()
    }

    /// SHA-256 of the definition's bytes, lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The inputs, in the order of the definition.
    pub fn inputs(&self) -> impl Iterator<Item = DeclaredInput<'_>> {
        self.body.inputs.iter().map(|input| DeclaredInput {
            name: &input.name.text,
            kind: input.kind.as_ref().map_or("", |kind| kind.name()),
            description: input.description.as_deref(),
            default: input.default.as_ref(),
        })
    }

    /// What the author probably did not mean, although it works.
    pub fn warnings(&self) -> &Diagnostics {
        &self.warnings
    }
}

fn kinds_of_jobs(
    body: &Body,
    kinds: &Kinds,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, Arc<Kind>> {
    let mut found = BTreeMap::new();
    for job in body.jobs.iter().chain(&body.finally) {
        let Some(uses) = &job.uses else { continue };
        if let Some(kind) = kinds.shared(&uses.value) {
            found.insert(job.name.text.clone(), kind);
            continue;
        }
        let none = "no worker offers any kind; print them with a worker's `kinds --json`";
        let (remedy, nearest) =
            suggestion::remedy(&uses.value, kinds.names(), "the kinds are", none);
        let message = format!("no worker offers the kind {}", Quoted(&uses.value));
        mistakes.push(Mistake::new(Code::UnknownKind, uses.span, message, remedy).suggest(nearest));
    }
    found
}

fn check_job(scope: &Scope<'_>, section: Section, index: usize, mistakes: &mut Vec<Mistake>) {
    let job = scope.job(section, index);
    let place = Place::Job(section, index);
    let element = match &job.fan_out {
        FanOut::No => Element::No,
        FanOut::Refused => Element::Unknown,
        FanOut::Over(strategy) => {
            let outside = Reader {
                place,
                element: Element::No,
            };
            let schema = scope.element_of(&strategy.list, &outside, mistakes);
            Element::Named(&strategy.element.text, schema)
        }
    };
    let Some(with) = with_as_map(job) else { return };
    let types = look_up_all(scope, &with, &Reader { place, element }, mistakes);
    if let Some(kind) = scope.kinds.get(&job.name.text) {
        let known = |_: &Reference, at: Span| {
            types
                .get(&at)
                .cloned()
                .flatten()
                .map_or(Known::Nothing, Known::Type)
        };
        Check {
            kind,
            known: &known,
        }
        .with(&with, job.with_at, mistakes);
    }
}

/// All of `with` as one value; none if it could not be read.
pub(crate) fn with_as_map(job: &Job) -> Option<Template> {
    let form = Form::Map(job.with.clone()?);
    Some(Template {
        span: job.with_at,
        form,
    })
}

/// The type of what each reference inside `value` names, by the place of the reference.
fn look_up_all(
    scope: &Scope<'_>,
    value: &Template,
    reader: &Reader<'_>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<Span, Option<Schema>> {
    let mut types = BTreeMap::new();
    for (reference, at) in value.references() {
        if is_enough(mistakes) {
            break;
        }
        types.insert(at, scope.look_up(reference, at, reader, mistakes));
    }
    types
}

fn references_of(job: &Job) -> Vec<(&Reference, Span)> {
    let with = job.with.iter().flatten().map(|(_, value)| value);
    let list = match &job.fan_out {
        FanOut::Over(strategy) => Some(&strategy.list),
        FanOut::No | FanOut::Refused => None,
    };
    with.chain(list).flat_map(Template::references).collect()
}

fn report_unused(body: &Body, mistakes: &mut Vec<Mistake>) {
    let jobs = || body.jobs.iter().chain(&body.finally);
    let outputs = body
        .outputs
        .iter()
        .flat_map(|(_, value)| value.references());
    let used: Vec<_> = jobs().flat_map(references_of).chain(outputs).collect();
    for input in unused(&body.inputs, &used) {
        let message = format!("the input {} is never read", Quoted(&input.name.text));
        let remedy = format!(
            "remove it, or read it as `${{{{ inputs.{} }}}}`",
            input.name.text
        );
        mistakes.push(Mistake::new(
            Code::UnusedInput,
            input.name.span,
            message,
            remedy,
        ));
    }
    for job in jobs() {
        let FanOut::Over(strategy) = &job.fan_out else {
            continue;
        };
        let reads_element =
            |(reference, _): &(&Reference, Span)| matches!(reference, Reference::Element(_));
        if !references_of(job).iter().any(reads_element) {
            let name = Quoted(&strategy.element.text);
            let message = format!("{name} is never read, so every task does the same");
            let remedy = format!(
                "read it as `${{{{ {} }}}}` in `with`",
                strategy.element.text
            );
            mistakes.push(Mistake::new(
                Code::UnusedElement,
                strategy.element.span,
                message,
                remedy,
            ));
        }
    }
}

fn report_nothing_to_undo(
    body: &Body,
    kinds: &BTreeMap<String, Arc<Kind>>,
    mistakes: &mut Vec<Mistake>,
) {
    for job in body.jobs.iter().filter(|job| job.compensate) {
        let (Some(at), Some(kind)) = (job.compensate_at, kinds.get(&job.name.text)) else {
            continue;
        };
        if !kind.effectful {
            let message = format!(
                "`{}` has no effects, so there is nothing to undo",
                kind.name
            );
            let remedy = "remove `compensate`";
            mistakes.push(Mistake::new(Code::NothingToUndo, at, message, remedy));
        }
    }
}
