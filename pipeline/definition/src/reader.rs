//! Reading typed values out of the tree, with one mistake for each that is of another type.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::code::Code;
use crate::diagnostic::Mistake;
use crate::duration::{self, DurationFault};
use crate::expression;
use crate::scalar::{Meaning, Scalar};
use crate::source::{Quoted, Span, Spanned};
use crate::suggestion;
use crate::yaml::{Content, Entry, Node};

/// The keys that a map of the language may have.
pub(crate) struct Vocabulary {
    /// What the map is, as in "a job".
    pub(crate) owner: &'static str,
    pub(crate) keys: &'static [&'static str],
    /// Keys of the language that this version does not carry out.
    pub(crate) later: &'static [&'static str],
}

/// A map whose keys are all known.
pub(crate) struct Fields<'a> {
    owner: &'static str,
    at: Span,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// Takes `slot` as a map and reports the keys that `vocabulary` does not have. A missing key
    /// will be reported at `at`.
    pub(crate) fn read(
        slot: Slot<'a>,
        at: Span,
        vocabulary: &Vocabulary,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Self> {
        let entries = slot.map("a map", mistakes)?;
        for Entry { key, .. } in entries {
            let known = vocabulary.keys.iter().copied();
            if vocabulary.later.contains(&key.text.as_str()) {
                let message = format!("`{}` is not supported in this version", key.text);
                let remedy = "remove the key: this version could only ignore it";
                mistakes.push(Mistake::new(
                    Code::UnsupportedKey,
                    key.span,
                    message,
                    remedy,
                ));
            } else if !vocabulary.keys.contains(&key.text.as_str()) {
                let message = format!("{} has no key {}", vocabulary.owner, Quoted(&key.text));
                let what = format!("the keys of {} are", vocabulary.owner);
                let (remedy, nearest) = suggestion::remedy(&key.text, known, &what, "remove it");
                let mistake = Mistake::new(Code::UnknownKey, key.span, message, remedy);
                mistakes.push(mistake.suggest(nearest));
            }
        }
        Some(Self {
            owner: vocabulary.owner,
            at,
            entries,
        })
    }

    /// The value of an optional key.
    pub(crate) fn get(&self, key: &str) -> Option<Slot<'a>> {
        self.entries
            .iter()
            .find(|entry| entry.key.text == key)
            .map(Slot::of)
    }

    /// The value of a required key; `example` says how one looks.
    pub(crate) fn require(
        &self,
        key: &str,
        example: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Slot<'a>> {
        let found = self.get(key);
        if found.is_none() {
            let message = format!("{} lacks the key `{key}`", self.owner);
            let remedy = format!("add `{example}`");
            mistakes.push(Mistake::new(Code::MissingKey, self.at, message, remedy));
        }
        found
    }
}

/// A value together with what messages call it.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) name: &'a str,
    /// Where the name stands; the value's own place if it has no name.
    pub(crate) at: Span,
    pub(crate) node: &'a Node,
}

impl<'a> Slot<'a> {
    pub(crate) fn of(entry: &'a Entry) -> Self {
        Self {
            name: &entry.key.text,
            at: entry.key.span,
            node: &entry.value,
        }
    }

    /// An element of the list that `self` is.
    pub(crate) fn element(self, node: &'a Node) -> Self {
        Self {
            name: self.name,
            at: node.span,
            node,
        }
    }

    /// Text; a number or boolean has to be quoted.
    pub(crate) fn text(self, mistakes: &mut Vec<Mistake>) -> Option<Spanned<String>> {
        let scalar = self.scalar("text", "write it as text", mistakes)?;
        if let Meaning::Text(text) = scalar.meaning() {
            return Some(Spanned {
                value: text.to_owned(),
                span: self.node.span,
            });
        }
        let remedy = if self.is_missing() {
            "write a value"
        } else {
            "put it in quotes to make it text"
        };
        self.wrong_type("text", remedy, mistakes);
        None
    }

    /// `true` or `false`.
    pub(crate) fn boolean(self, mistakes: &mut Vec<Mistake>) -> Option<bool> {
        let remedy = "write `true` or `false`";
        let scalar = self.scalar("a boolean", remedy, mistakes)?;
        match scalar.meaning() {
            Meaning::Bool(value) => return Some(value),
            Meaning::Text(word) if scalar.is_old_boolean() => {
                let word = Quoted(word);
                let message = format!("{word} is a boolean in YAML 1.1 only and text in YAML 1.2");
                mistakes.push(Mistake::new(
                    Code::OldBoolean,
                    self.node.span,
                    message,
                    remedy,
                ));
            }
            _ => self.wrong_type("a boolean", remedy, mistakes),
        }
        None
    }

    /// A whole number within bounds.
    pub(crate) fn integer(
        self,
        bounds: RangeInclusive<i64>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<i64> {
        let remedy = "write a whole number without quotes";
        let scalar = self.scalar("a whole number", remedy, mistakes)?;
        if let Meaning::Int(value) = scalar.meaning() {
            return self.within(value, bounds, mistakes);
        }
        self.wrong_type("a whole number", remedy, mistakes);
        None
    }

    /// A number within bounds.
    pub(crate) fn number(
        self,
        bounds: RangeInclusive<f64>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<f64> {
        let remedy = "write a number without quotes";
        match self.scalar("a number", remedy, mistakes)?.meaning() {
            Meaning::Int(value) => self.within(value as f64, bounds, mistakes),
            Meaning::Float(value) => self.within(value, bounds, mistakes),
            _ => {
                self.wrong_type("a number", remedy, mistakes);
                None
            }
        }
    }

    fn within<T: PartialOrd + Display>(
        self,
        value: T,
        bounds: RangeInclusive<T>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<T> {
        if bounds.contains(&value) {
            return Some(value);
        }
        let message = format!("`{}` is {value}", self.name);
        let remedy = format!("write a number from {} to {}", bounds.start(), bounds.end());
        mistakes.push(Mistake::new(
            Code::OutOfBounds,
            self.node.span,
            message,
            remedy,
        ));
        None
    }

    /// A duration, in milliseconds.
    pub(crate) fn duration(self, mistakes: &mut Vec<Mistake>) -> Option<u64> {
        let scalar = self.scalar("a duration", DURATION_FORM, mistakes)?;
        match scalar.meaning() {
            Meaning::Text(text) => match duration::parse(text) {
                Ok(ms) => Some(ms),
                Err(fault) => {
                    mistakes.push(duration_mistake(text, &fault, self.node.span));
                    None
                }
            },
            Meaning::Int(number) => {
                let message = format!("`{}` has no unit", self.name);
                let remedy = format!("write `{number}s` for seconds or `{number}m` for minutes");
                mistakes.push(Mistake::new(
                    Code::NotADuration,
                    self.node.span,
                    message,
                    remedy,
                ));
                None
            }
            _ => {
                self.wrong_type("a duration", DURATION_FORM, mistakes);
                None
            }
        }
    }

    /// The elements of a list.
    pub(crate) fn list(self, mistakes: &mut Vec<Mistake>) -> Option<&'a [Node]> {
        match &self.node.content {
            Content::List(items) => Some(items),
            Content::Refused => None,
            Content::Scalar(_) | Content::Map(_) => {
                self.wrong_type("a list", "write a list, as in `[a, b]`", mistakes);
                None
            }
        }
    }

    /// The entries of a map; `what` says what the map is.
    pub(crate) fn map(self, what: &str, mistakes: &mut Vec<Mistake>) -> Option<&'a [Entry]> {
        match &self.node.content {
            Content::Map(entries) => Some(entries),
            Content::Refused => None,
            Content::Scalar(_) | Content::List(_) => {
                self.wrong_type(what, "write a map of `key: value`", mistakes);
                None
            }
        }
    }

    /// A scalar that is no expression and that every reader reads alike.
    fn scalar(self, takes: &str, remedy: &str, mistakes: &mut Vec<Mistake>) -> Option<&'a Scalar> {
        let scalar = match &self.node.content {
            Content::Scalar(scalar) => scalar,
            Content::Refused => return None,
            Content::List(_) | Content::Map(_) => {
                self.wrong_type(takes, remedy, mistakes);
                return None;
            }
        };
        if expression::is_opened(&scalar.text) {
            let message = format!("`{}` takes no expression", self.name);
            let remedy = "write the value itself; references are accepted in `with`, `for-each` and `outputs`";
            mistakes.push(Mistake::new(
                Code::MisplacedExpression,
                self.node.span,
                message,
                remedy,
            ));
            return None;
        }
        refuse_ambiguous(scalar, self.node.span, mistakes).then_some(scalar)
    }

    fn is_missing(self) -> bool {
        matches!(&self.node.content, Content::Scalar(scalar) if scalar.meaning() == Meaning::Null)
    }

    fn wrong_type(self, takes: &str, remedy: &str, mistakes: &mut Vec<Mistake>) {
        let found = describe(self.node);
        let message = format!("{} takes {takes}, not {found}", Quoted(self.name));
        mistakes.push(Mistake::new(Code::WrongType, self.place(), message, remedy));
    }

    /// Where to point at the value: at its name if the value is not written.
    fn place(self) -> Span {
        if self.node.span.len == 0 {
            self.at
        } else {
            self.node.span
        }
    }
}

/// Reports an unquoted scalar that readers read differently.
pub(crate) fn refuse_ambiguous(scalar: &Scalar, span: Span, mistakes: &mut Vec<Mistake>) -> bool {
    let Meaning::Ambiguous(ambiguity) = scalar.meaning() else {
        return true;
    };
    let message = format!("{} is {}", Quoted(&scalar.text), ambiguity.fact());
    mistakes.push(Mistake::new(
        Code::AmbiguousScalar,
        span,
        message,
        ambiguity.remedy(),
    ));
    false
}

const DURATION_FORM: &str =
    "write a whole number and a unit, as in `250ms`, `30s`, `15m`, `2h`, `7d`";

fn duration_mistake(text: &str, fault: &DurationFault, span: Span) -> Mistake {
    let message = format!("{} {fault}", Quoted(text));
    match fault {
        DurationFault::Form => Mistake::new(Code::NotADuration, span, message, DURATION_FORM),
        DurationFault::Iso {
            translation: Some(translation),
        } => {
            let remedy = format!("write `{translation}`");
            Mistake::new(Code::IsoDuration, span, message, remedy).suggest(Some(translation))
        }
        DurationFault::Iso { translation: None } => {
            Mistake::new(Code::IsoDuration, span, message, DURATION_FORM)
        }
        DurationFault::TooLong => Mistake::new(
            Code::OutOfBounds,
            span,
            message,
            "write a duration of at most `365d`",
        ),
    }
}

/// What a value is, as a message says it.
pub(crate) fn describe(node: &Node) -> String {
    match &node.content {
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "a map".to_owned(),
        Content::Refused => "something refused".to_owned(),
        Content::Scalar(scalar) => match scalar.meaning() {
            Meaning::Null => "nothing".to_owned(),
            Meaning::Bool(value) => format!("the boolean `{value}`"),
            Meaning::Int(_) | Meaning::Float(_) => format!("the number {}", Quoted(&scalar.text)),
            Meaning::Text(text) => format!("the text {}", Quoted(text)),
            Meaning::Ambiguous(ambiguity) => ambiguity.fact().to_owned(),
        },
    }
}
