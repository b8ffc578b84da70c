//! Reading a job.

use crate::authored::retry::{self, Timing};
use crate::code::Code;
use crate::diagnostic::Mistake;
use crate::name::check_name;
use crate::plan::Retry;
use crate::reader::{Fields, Slot, Vocabulary};
use crate::source::{Quoted, Source, Span, Spanned};
use crate::template::Template;
use crate::yaml::{Content, Entry, Key, Node};

/// A job as written.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) name: Key,
    /// The kind with its version; `None` if missing or reported.
    pub(crate) uses: Option<Spanned<String>>,
    /// Where a member that is missing from `with` is reported.
    pub(crate) with_at: Span,
    /// `None` if reported as a whole.
    pub(crate) with: Option<Vec<(Key, Template)>>,
    pub(crate) needs: Vec<Spanned<String>>,
    /// False if part of `needs` is reported, so that it says little about order.
    pub(crate) needs_known: bool,
    pub(crate) fan_out: FanOut,
    pub(crate) retry: Retry,
    pub(crate) timeout_ms: u64,
    pub(crate) compensate: bool,
    /// Where `compensate` stands, if it is written.
    pub(crate) compensate_at: Option<Span>,
}

/// Whether a job runs once or once per element.
#[derive(Clone, Debug)]
pub(crate) enum FanOut {
    No,
    Over(Strategy),
    /// Reported; whether there is an element is unknown.
    Refused,
}

/// Once per element of a list.
#[derive(Clone, Debug)]
pub(crate) struct Strategy {
    pub(crate) list: Template,
    /// The name of the element inside `with`.
    pub(crate) element: Key,
    pub(crate) max_parallel: u32,
}

const JOB_KEYS: [&str; 7] = [
    "uses",
    "with",
    "needs",
    "strategy",
    "retry",
    "timeout",
    "compensate",
];
const LATER_JOB_KEYS: [&str; 10] = [
    "if",
    "on-failure",
    "secrets",
    "cache",
    "concurrency",
    "runs-on",
    "deadline",
    "heartbeat",
    "continue-on-error",
    "priority",
];

const JOB: Vocabulary = Vocabulary {
    owner: "a job",
    keys: &JOB_KEYS,
    later: &LATER_JOB_KEYS,
};

/// Nothing runs after `finally`, so there is nothing that would undo one of its jobs.
const FINALLY_JOB: Vocabulary = Vocabulary {
    owner: "a job of `finally`",
    keys: JOB_KEYS.split_at(JOB_KEYS.len() - 1).0,
    later: &LATER_JOB_KEYS,
};

const STRATEGY: Vocabulary = Vocabulary {
    owner: "`strategy`",
    keys: &["for-each", "as", "max-parallel"],
    later: &["matrix", "key", "fail-fast", "tolerate"],
};

/// Tasks of one job at once, if the author does not say.
const DEFAULT_MAX_PARALLEL: u32 = 8;

/// More tasks of one job at once than any worker pool here takes.
const MAX_MAX_PARALLEL: i64 = 1024;

/// Which section a job stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Jobs,
    Finally,
}

/// Reads one entry of `jobs` or `finally`. A job is returned even if nothing in it is readable, so
/// that references to it are not reported as well.
pub(crate) fn read(
    entry: &Entry,
    section: Section,
    defaults: &Timing,
    source: &Source,
    mistakes: &mut Vec<Mistake>,
) -> Job {
    check_name(&entry.key, "a job", mistakes);
    let mut job = unreadable(&entry.key, defaults);
    let vocabulary = if section == Section::Jobs {
        &JOB
    } else {
        &FINALLY_JOB
    };
    let Some(fields) = Fields::read(Slot::of(entry), entry.key.span, vocabulary, mistakes) else {
        return job;
    };
    job.uses = fields
        .require("uses", "uses: KIND@VERSION", mistakes)
        .and_then(|slot| slot.text(mistakes));
    read_with(&fields, &mut job, source, mistakes);
    read_needs(&fields, &mut job, mistakes);
    let timing = retry::read(&fields, defaults, mistakes);
    (job.retry, job.timeout_ms) = (timing.retry, timing.timeout_ms);
    job.fan_out = match fields.get("strategy") {
        None => FanOut::No,
        Some(slot) => read_strategy(slot, source, mistakes).map_or(FanOut::Refused, FanOut::Over),
    };
    if section == Section::Jobs {
        read_compensate(&fields, &mut job, mistakes);
    }
    job
}

fn unreadable(name: &Key, defaults: &Timing) -> Job {
    Job {
        name: name.clone(),
        uses: None,
        with_at: name.span,
        with: None,
        needs: Vec::new(),
        needs_known: false,
        fan_out: FanOut::Refused,
        retry: defaults.retry.clone(),
        timeout_ms: defaults.timeout_ms,
        compensate: false,
        compensate_at: None,
    }
}

fn read_with(fields: &Fields<'_>, job: &mut Job, source: &Source, mistakes: &mut Vec<Mistake>) {
    let Some(slot) = fields.get("with") else {
        job.with = Some(Vec::new());
        return;
    };
    job.with_at = slot.at;
    job.with = slot.map("a map", mistakes).map(|entries| {
        entries
            .iter()
            .map(|entry| {
                (
                    entry.key.clone(),
                    Template::read(&entry.value, source, mistakes),
                )
            })
            .collect()
    });
}

fn read_needs(fields: &Fields<'_>, job: &mut Job, mistakes: &mut Vec<Mistake>) {
    job.needs_known = true;
    let Some(slot) = fields.get("needs") else {
        return;
    };
    let Some(items) = slot.list(mistakes) else {
        job.needs_known = false;
        return;
    };
    for item in items {
        let Some(need) = slot.element(item).text(mistakes) else {
            job.needs_known = false;
            continue;
        };
        if let Some(first) = job.needs.iter().find(|known| known.value == need.value) {
            let message = format!("`needs` names {} twice", Quoted(&need.value));
            let mistake = Mistake::new(
                Code::NeededTwice,
                need.span,
                message,
                "remove one of the two",
            );
            mistakes.push(mistake.label(first.span, "first named here"));
            continue;
        }
        job.needs.push(need);
    }
}

fn read_strategy(slot: Slot<'_>, source: &Source, mistakes: &mut Vec<Mistake>) -> Option<Strategy> {
    let fields = Fields::read(slot, slot.at, &STRATEGY, mistakes)?;
    let list = fields
        .require(
            "for-each",
            "for-each: ${{ jobs.NAME.outputs.NAME }}",
            mistakes,
        )
        .map(|slot| Template::read(slot.node, source, mistakes));
    let element = fields
        .require("as", "as: element", mistakes)
        .and_then(|slot| slot.text(mistakes))
        .map(|text| Key {
            text: text.value,
            span: text.span,
        });
    let max_parallel = match fields.get("max-parallel") {
        None => DEFAULT_MAX_PARALLEL,
        Some(slot) => slot
            .integer(1..=MAX_MAX_PARALLEL, mistakes)
            .map_or(1, |n| n as u32),
    };
    let element = element?;
    check_element_name(&element, mistakes);
    Some(Strategy {
        list: list?,
        element,
        max_parallel,
    })
}

/// `${{ inputs }}` and `${{ jobs }}` have to stay free for what they are the beginning of.
fn check_element_name(element: &Key, mistakes: &mut Vec<Mistake>) {
    if matches!(element.text.as_str(), "inputs" | "jobs") {
        let message = format!("`{}` is the name of a section", element.text);
        let remedy = "give the element another name";
        mistakes.push(Mistake::new(Code::BadName, element.span, message, remedy));
    } else {
        check_name(element, "an element", mistakes);
    }
}

fn read_compensate(fields: &Fields<'_>, job: &mut Job, mistakes: &mut Vec<Mistake>) {
    let Some(slot) = fields.get("compensate") else {
        return;
    };
    if let Node {
        content: Content::Map(_),
        span,
    } = slot.node
    {
        let message = "a job as `compensate` is not supported in this version";
        let remedy = "write `compensate: true` to run the kind's own undo";
        mistakes.push(Mistake::new(Code::UnsupportedKey, *span, message, remedy));
        return;
    }
    job.compensate = slot.boolean(mistakes).unwrap_or_default();
    job.compensate_at = Some(slot.at);
}
