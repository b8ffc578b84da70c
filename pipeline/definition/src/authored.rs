//! First stage: a definition as its author wrote it.
//!
//! Every key is known and every value has the type its key takes. Whether names refer to anything
//! is the next stage's question.

mod input;
mod job;
mod retry;

use aws_lc_rs::digest;

use crate::code::Code;
use crate::diagnostic::{Diagnostics, Mistake, refuses};
use crate::file;
use crate::input::Input;
use crate::kinds::Kinds;
use crate::name::check_name;
use crate::reader::{Fields, Slot, Vocabulary};
use crate::resolved::Resolved;
use crate::source::{Quoted, Source, Span};
use crate::template::Template;
use crate::yaml::{self, Entry, Key, Node};

pub(crate) use job::{FanOut, Job, Section};
use retry::Timing;

/// The version of the language that this program reads.
const LANGUAGE_VERSION: i64 = 1;

/// Most jobs of one definition. Fan-out is how one job becomes many tasks.
pub const MAX_JOBS: usize = 500;

const DEFINITION: Vocabulary = Vocabulary {
    owner: "a definition",
    keys: &[
        "version",
        "name",
        "description",
        "inputs",
        "on",
        "defaults",
        "jobs",
        "finally",
        "outputs",
    ],
    later: &["concurrency", "priority", "on-failure"],
};

const ON: Vocabulary = Vocabulary {
    owner: "`on`",
    keys: &["manual"],
    later: &["schedule", "webhook", "api", "object"],
};

const MANUAL: Vocabulary = Vocabulary {
    owner: "`manual`",
    keys: &[],
    later: &[],
};

const DEFAULTS: Vocabulary = Vocabulary {
    owner: "`defaults`",
    keys: &["retry", "timeout"],
    later: &[],
};

/// The entry points of this crate, for callers that have the bytes of a file.
#[derive(Clone, Copy, Debug)]
pub struct Definition;

impl Definition {
    /// Reads a definition without knowing which kinds there are.
    ///
    /// `file` is only what diagnostics call the file.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Authored, Diagnostics> {
        let draft = Draft::read(file, bytes);
        if refuses(&draft.mistakes) {
            return Err(Diagnostics::new(&draft.source, draft.mistakes));
        }
        Ok(Authored(draft))
    }

    /// Reads and resolves a definition, and reports the mistakes of both stages at once.
    pub fn check(file: &str, bytes: &[u8], kinds: &Kinds) -> Result<Resolved, Diagnostics> {
        Resolved::from_draft(Draft::read(file, bytes), kinds)
    }
}

/// A definition in which every key and value is one of the language.
///
/// It has no other constructor than [`Definition::parse`].
#[derive(Clone, Debug)]
pub struct Authored(Draft);

impl Authored {
    /// The definition's name.
    pub fn name(&self) -> &str {
        self.0.body.name.as_ref().map_or("", |name| &name.text)
    }

    /// The kinds that the definition uses, in its order, repeated as there.
    pub fn uses(&self) -> impl Iterator<Item = &str> {
        let body = &self.0.body;
        body.jobs
            .iter()
            .chain(&body.finally)
            .filter_map(|job| job.uses.as_ref().map(|kind| &*kind.value))
    }

    /// Checks every name and every value against the kinds.
    pub fn resolve(self, kinds: &Kinds) -> Result<Resolved, Diagnostics> {
        Resolved::from_draft(self.0, kinds)
    }
}

/// A definition as far as it could be read, with what is wrong with it. What is wrong is left out
/// of `body` in a way that the next stage passes over, so that one run of both finds every mistake
/// once.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) source: Source,
    /// SHA-256 of the bytes, lower-case hex.
    pub(crate) sha256: String,
    pub(crate) body: Body,
    pub(crate) mistakes: Vec<Mistake>,
}

/// The readable part of a definition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) name: Option<Key>,
    pub(crate) description: Option<String>,
    pub(crate) inputs: Vec<Input>,
    /// False if there may be inputs that could not be read.
    pub(crate) inputs_known: bool,
    /// Where the section `inputs` is named, if there is one.
    pub(crate) inputs_at: Option<Span>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) finally: Vec<Job>,
    /// False if there may be jobs that could not be read.
    pub(crate) jobs_known: bool,
    pub(crate) outputs: Vec<(Key, Template)>,
}

impl Draft {
    fn read(file: &str, bytes: &[u8]) -> Self {
        let sha256 = hex::encode(digest::digest(&digest::SHA256, bytes));
        let mut mistakes = Vec::new();
        let source = file::decode(file, bytes, &mut mistakes);
        if refuses(&mistakes) {
            return Self {
                source,
                sha256,
                body: Body::default(),
                mistakes,
            };
        }
        let body = yaml::read(&source, &mut mistakes)
            .and_then(|root| read_body(&root, &source, &mut mistakes))
            .unwrap_or_default();
        Self {
            source,
            sha256,
            body,
            mistakes,
        }
    }
}

fn read_body(root: &Node, source: &Source, mistakes: &mut Vec<Mistake>) -> Option<Body> {
    let slot = Slot {
        name: "a definition",
        at: root.span,
        node: root,
    };
    let start = Span::new(root.span.offset, 0);
    let fields = Fields::read(slot, start, &DEFINITION, mistakes)?;
    read_version(&fields, mistakes);
    read_on(&fields, mistakes);
    let mut body = Body {
        name: read_definition_name(&fields, mistakes),
        description: fields
            .get("description")
            .and_then(|slot| slot.text(mistakes))
            .map(|text| text.value),
        ..Body::default()
    };
    read_inputs(&fields, &mut body, mistakes);
    let defaults = read_defaults(&fields, mistakes);
    let mut reading = Reading {
        defaults,
        source,
        mistakes,
    };
    reading.jobs(&fields, &mut body);
    if let Some(entries) = fields
        .get("outputs")
        .and_then(|slot| slot.map("a map", reading.mistakes))
    {
        body.outputs = entries.iter().map(|entry| reading.output(entry)).collect();
    }
    Some(body)
}

fn read_version(fields: &Fields<'_>, mistakes: &mut Vec<Mistake>) {
    let Some(slot) = fields.require("version", "version: 1", mistakes) else {
        return;
    };
    let Some(version) = slot.integer(0..=i64::MAX, mistakes) else {
        return;
    };
    if version != LANGUAGE_VERSION {
        let message = format!("this program reads version 1 of the language, not {version}");
        let remedy = "write `version: 1`, or use a program of the definition's version";
        mistakes.push(Mistake::new(
            Code::UnknownVersion,
            slot.node.span,
            message,
            remedy,
        ));
    }
}

/// The name of a definition never stands in an expression, so it may have hyphens.
fn read_definition_name(fields: &Fields<'_>, mistakes: &mut Vec<Mistake>) -> Option<Key> {
    let name = fields
        .require("name", "name: my-pipeline", mistakes)?
        .text(mistakes)?;
    let key = Key {
        text: name.value,
        span: name.span,
    };
    let without_hyphens = Key {
        text: key.text.replace('-', "_"),
        span: key.span,
    };
    let before = mistakes.len();
    check_name(&without_hyphens, "a definition", mistakes);
    if mistakes.len() > before {
        mistakes.truncate(before);
        let message = format!("{} is not a name for a definition", Quoted(&key.text));
        let remedy = "write a name of a-z, 0-9, - and _ that starts with a letter, at most 64 long";
        mistakes.push(Mistake::new(Code::BadName, key.span, message, remedy));
    }
    Some(key)
}

fn read_on(fields: &Fields<'_>, mistakes: &mut Vec<Mistake>) {
    let Some(slot) = fields.get("on") else { return };
    let Some(on) = Fields::read(slot, slot.at, &ON, mistakes) else {
        return;
    };
    if let Some(manual) = on.get("manual") {
        Fields::read(manual, manual.at, &MANUAL, mistakes);
    }
}

fn read_inputs(fields: &Fields<'_>, body: &mut Body, mistakes: &mut Vec<Mistake>) {
    body.inputs_known = true;
    let Some(slot) = fields.get("inputs") else {
        return;
    };
    body.inputs_at = Some(slot.at);
    match slot.map("a map", mistakes) {
        Some(entries) => {
            body.inputs = entries
                .iter()
                .map(|entry| input::read(entry, mistakes))
                .collect();
        }
        None => body.inputs_known = false,
    }
}

fn read_defaults(fields: &Fields<'_>, mistakes: &mut Vec<Mistake>) -> Timing {
    let built_in = Timing::built_in();
    let defaults = fields.get("defaults");
    match defaults.and_then(|slot| Fields::read(slot, slot.at, &DEFAULTS, mistakes)) {
        Some(defaults) => retry::read(&defaults, &built_in, mistakes),
        None => built_in,
    }
}

/// What reading the jobs takes along.
struct Reading<'a> {
    defaults: Timing,
    source: &'a Source,
    mistakes: &'a mut Vec<Mistake>,
}

impl Reading<'_> {
    fn jobs(&mut self, fields: &Fields<'_>, body: &mut Body) {
        let jobs = fields
            .require(
                "jobs",
                "jobs: { NAME: { uses: KIND@VERSION } }",
                self.mistakes,
            )
            .and_then(|slot| self.section(slot, Section::Jobs));
        let finally = match fields.get("finally") {
            None => Some(Vec::new()),
            Some(slot) => self.section(slot, Section::Finally),
        };
        body.jobs_known = jobs.is_some() && finally.is_some();
        body.jobs = jobs.unwrap_or_default();
        body.finally = finally.unwrap_or_default();
        for job in &body.finally {
            if let Some(first) = body
                .jobs
                .iter()
                .find(|other| other.name.text == job.name.text)
            {
                let message = format!("{} is also a job of `jobs`", Quoted(&job.name.text));
                let remedy = "give one of the two another name";
                let mistake = Mistake::new(Code::DuplicateJob, job.name.span, message, remedy);
                self.mistakes
                    .push(mistake.label(first.name.span, "the other one"));
            }
        }
    }

    fn section(&mut self, slot: Slot<'_>, section: Section) -> Option<Vec<Job>> {
        let entries = slot.map("a map of jobs", self.mistakes)?;
        if entries.is_empty() && section == Section::Jobs {
            let remedy = "add a job, as in `NAME: { uses: KIND@VERSION }`";
            self.mistakes.push(Mistake::new(
                Code::OutOfBounds,
                slot.at,
                "`jobs` is empty",
                remedy,
            ));
        }
        if entries.len() > MAX_JOBS {
            let message = format!(
                "`{}` has {} jobs, more than {MAX_JOBS}",
                slot.name,
                entries.len()
            );
            let remedy = "use `strategy.for-each` for jobs that differ only in their data";
            self.mistakes
                .push(Mistake::new(Code::OutOfBounds, slot.at, message, remedy));
            return None;
        }
        let read = |entry| job::read(entry, section, &self.defaults, self.source, self.mistakes);
        Some(entries.iter().map(read).collect())
    }

    fn output(&mut self, entry: &Entry) -> (Key, Template) {
        check_name(&entry.key, "an output", self.mistakes);
        (
            entry.key.clone(),
            Template::read(&entry.value, self.source, self.mistakes),
        )
    }
}
