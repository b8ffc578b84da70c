//! Reading the declaration of an input.

use serde_json::Value;

use crate::code::Code;
use crate::diagnostic::Mistake;
use crate::expression;
use crate::input::{Bounds, Input, InputType, Pattern, TYPE_NAMES, ValueFault, to_json};
use crate::name::check_name;
use crate::reader::{Fields, Slot, Vocabulary, refuse_ambiguous};
use crate::scalar::MAX_INTEGER;
use crate::source::{Quoted, Span};
use crate::suggestion;
use crate::yaml::{Content, Entry, Node};

const INPUT: Vocabulary = Vocabulary {
    owner: "an input",
    keys: &[
        "type",
        "default",
        "description",
        "pattern",
        "values",
        "min",
        "max",
    ],
    later: &[],
};

/// Which constraints a type takes, besides `default` and `description`.
fn constraints_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "string" => &["pattern"],
        "int" | "float" | "duration" => &["min", "max"],
        "enum" => &["values"],
        _ => &[],
    }
}

/// Reads one entry of `inputs`. An input is returned even if its declaration is wrong, so that a
/// reference to it is not reported as well.
pub(crate) fn read(entry: &Entry, mistakes: &mut Vec<Mistake>) -> Input {
    check_name(&entry.key, "an input", mistakes);
    let mut input = Input {
        name: entry.key.clone(),
        kind: None,
        default: None,
        description: None,
    };
    let Some(fields) = Fields::read(Slot::of(entry), entry.key.span, &INPUT, mistakes) else {
        return input;
    };
    input.description = fields
        .get("description")
        .and_then(|slot| slot.text(mistakes))
        .map(|text| text.value);
    let before = mistakes.len();
    let kind = read_type(&fields, mistakes);
    if mistakes.len() > before {
        return input;
    }
    if let (Some(kind), Some(slot)) = (&kind, fields.get("default")) {
        input.default = read_default(kind, slot, mistakes);
        if input.default.is_none() {
            return input;
        }
    }
    input.kind = kind;
    input
}

fn read_type(fields: &Fields<'_>, mistakes: &mut Vec<Mistake>) -> Option<InputType> {
    let name = fields
        .require("type", "type: string", mistakes)?
        .text(mistakes)?;
    let kind = name.value.as_str();
    if !TYPE_NAMES.contains(&kind) {
        let message = format!("{} is not a type of inputs", Quoted(kind));
        let (remedy, nearest) =
            suggestion::remedy(kind, TYPE_NAMES.into_iter(), "the types are", "");
        let mistake = Mistake::new(Code::UnknownInputType, name.span, message, remedy);
        mistakes.push(mistake.suggest(nearest));
        return None;
    }
    refuse_misplaced(fields, kind, mistakes);
    Some(match kind {
        "string" => InputType::Text {
            pattern: read_pattern(fields, mistakes),
        },
        "int" => InputType::Int(read_bounds(fields, mistakes, |slot, mistakes| {
            slot.integer(-MAX_INTEGER..=MAX_INTEGER, mistakes)
        })),
        "float" => InputType::Float(read_bounds(fields, mistakes, |slot, mistakes| {
            slot.number(f64::MIN..=f64::MAX, mistakes)
        })),
        "duration" => InputType::Duration(read_bounds(fields, mistakes, Slot::duration)),
        "bool" => InputType::Bool,
        "path" => InputType::Path,
        "enum" => InputType::Enum {
            values: read_values(fields, mistakes)?,
        },
        "list" => InputType::List,
        _ => InputType::Map,
    })
}

fn refuse_misplaced(fields: &Fields<'_>, kind: &str, mistakes: &mut Vec<Mistake>) {
    for constraint in ["pattern", "values", "min", "max"] {
        let Some(slot) = fields.get(constraint) else {
            continue;
        };
        if constraints_of(kind).contains(&constraint) {
            continue;
        }
        let takers: Vec<String> = TYPE_NAMES
            .iter()
            .filter(|name| constraints_of(name).contains(&constraint))
            .map(|name| format!("`{name}`"))
            .collect();
        let message = format!("`{constraint}` means nothing for the type `{kind}`");
        let remedy = format!("remove it, or change `type` to {}", takers.join(" or "));
        mistakes.push(Mistake::new(
            Code::MisplacedConstraint,
            slot.at,
            message,
            remedy,
        ));
    }
}

fn read_pattern(fields: &Fields<'_>, mistakes: &mut Vec<Mistake>) -> Option<Pattern> {
    let written = fields.get("pattern")?.text(mistakes)?;
    let pattern = Pattern::new(&written.value).ok();
    if pattern.is_none() {
        let message = format!("{} is not a regular expression", Quoted(&written.value));
        let remedy = "write one of the syntax of Rust's crate `regex`; in YAML, single quotes keep backslashes";
        mistakes.push(Mistake::new(
            Code::BadPattern,
            written.span,
            message,
            remedy,
        ));
    }
    pattern
}

fn read_bounds<'a, T: PartialOrd + Copy>(
    fields: &Fields<'a>,
    mistakes: &mut Vec<Mistake>,
    read: impl Fn(Slot<'a>, &mut Vec<Mistake>) -> Option<T>,
) -> Bounds<T> {
    let (low, high) = (fields.get("min"), fields.get("max"));
    let min = low.and_then(|slot| read(slot, mistakes));
    let max = high.and_then(|slot| read(slot, mistakes));
    if let (Some(least), Some(greatest), Some(slot), Some(other)) = (min, max, low, high)
        && least > greatest
    {
        let mistake = Mistake::new(
            Code::OutOfBounds,
            slot.node.span,
            "`min` is greater than `max`, so no value is accepted",
            "exchange the two",
        );
        mistakes.push(mistake.label(other.node.span, "`max` is here"));
    }
    Bounds { min, max }
}

fn read_values(fields: &Fields<'_>, mistakes: &mut Vec<Mistake>) -> Option<Vec<String>> {
    let slot = fields.require("values", "values: [a, b]", mistakes)?;
    let items = slot.list(mistakes)?;
    if items.is_empty() {
        let remedy = "list at least one value";
        mistakes.push(Mistake::new(
            Code::OutOfBounds,
            slot.node.span,
            "`values` is empty",
            remedy,
        ));
    }
    let mut values: Vec<(String, Span)> = Vec::new();
    for item in items {
        let Some(text) = slot.element(item).text(mistakes) else {
            continue;
        };
        if let Some((_, first)) = values.iter().find(|(known, _)| *known == text.value) {
            let message = format!("`values` lists {} twice", Quoted(&text.value));
            let mistake = Mistake::new(
                Code::OutOfBounds,
                text.span,
                message,
                "remove one of the two",
            );
            mistakes.push(mistake.label(*first, "first listed here"));
            continue;
        }
        values.push((text.value, text.span));
    }
    Some(values.into_iter().map(|(value, _)| value).collect())
}

fn read_default(kind: &InputType, slot: Slot<'_>, mistakes: &mut Vec<Mistake>) -> Option<Value> {
    let before = mistakes.len();
    refuse_indirect(slot.node, mistakes);
    if mistakes.len() > before {
        return None;
    }
    let fault = match kind.admit(to_json(slot.node)?) {
        Ok(value) => return Some(value),
        Err(fault) => fault,
    };
    let (message, remedy) = match fault {
        ValueFault::Type { found, remedy } => (
            format!(
                "the default is {found}, which is not of the type `{}`",
                kind.name()
            ),
            remedy,
        ),
        ValueFault::Constraint { found, remedy } => (
            format!("the default is {found}, which the input's own constraints refuse"),
            remedy,
        ),
    };
    let at = if slot.node.span.len == 0 {
        slot.at
    } else {
        slot.node.span
    };
    mistakes.push(Mistake::new(Code::BadDefault, at, message, remedy));
    None
}

/// A default is known before any reference is, and reads the same everywhere.
fn refuse_indirect(node: &Node, mistakes: &mut Vec<Mistake>) {
    match &node.content {
        Content::Refused => {}
        Content::Scalar(scalar) if expression::is_opened(&scalar.text) => {
            let remedy = "write the value itself, or read the other input where this one is used";
            let message = "a default takes no expression";
            mistakes.push(Mistake::new(
                Code::MisplacedExpression,
                node.span,
                message,
                remedy,
            ));
        }
        Content::Scalar(scalar) => {
            refuse_ambiguous(scalar, node.span, mistakes);
        }
        Content::List(items) => {
            for item in items {
                refuse_indirect(item, mistakes);
            }
        }
        Content::Map(entries) => {
            for entry in entries {
                refuse_indirect(&entry.value, mistakes);
            }
        }
    }
}
