//! Whether `with` is what a kind takes.

use crate::code::Code;
use crate::diagnostic::Mistake;
use crate::expression::Reference;
use crate::kinds::Kind;
use crate::schema::{MapShape, Mismatch, Named, Schema, Shape};
use crate::source::{Quoted, Span};
use crate::suggestion;
use crate::template::{Form, Template};
use crate::yaml::Key;
use serde_json::Value;

/// What a reference stands for at the time of the check.
pub(crate) enum Known {
    /// Nothing more can be said about it.
    Nothing,
    /// Its type, before a run is planned.
    Type(Schema),
    /// Its value, when a run is planned, with where the input is declared.
    Value(Value, Span),
}

/// One check of one job's `with`.
pub(crate) struct Check<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) known: &'a dyn Fn(&Reference, Span) -> Known,
}

/// A part of `with`, as messages name it.
#[derive(Clone)]
struct Place {
    /// As in `layers[2].name`; empty for `with` itself.
    path: String,
    /// Where to report what is missing in it.
    at: Span,
}

impl Place {
    fn member(&self, key: &Key) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self {
            path: format!("{}{dot}{}", self.path, key.text),
            at: key.span,
        }
    }

    fn element(&self, index: usize, at: Span) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            at,
        }
    }

    fn name(&self) -> String {
        if self.path.is_empty() {
            "`with`".to_owned()
        } else {
            Quoted(&self.path).to_string()
        }
    }
}

impl Check<'_> {
    /// Checks `with` as a whole; what is missing from it is reported at `at`.
    pub(crate) fn with(&self, with: &Template, at: Span, mistakes: &mut Vec<Mistake>) {
        let place = Place {
            path: String::new(),
            at,
        };
        self.value(&self.kind.input.shape, with, &place, mistakes);
    }

    fn value(&self, shape: &Shape, value: &Template, place: &Place, mistakes: &mut Vec<Mistake>) {
        let schema = &self.kind.input;
        match (schema.follow(shape), &value.form) {
            (Shape::Any, _) | (_, Form::Refused) => {}
            (_, Form::Reference(reference)) => {
                mistakes.extend(self.reference(shape, reference, value.span, place));
            }
            (Shape::Undecidable(keyword), _) => {
                mistakes.push(self.undecidable(keyword, value.span, place));
            }
            (Shape::Either(shapes), _) => self.either(shapes, value, place, mistakes),
            (Shape::Both(shapes), _) => {
                for shape in shapes {
                    self.value(shape, value, place, mistakes);
                }
            }
            (
                _,
                Form::Plain {
                    value: plain,
                    old_boolean,
                },
            ) => {
                if let Err(mismatch) = schema.admits_as(shape, plain) {
                    mistakes.push(self.wrong_plain(shape, &mismatch, *old_boolean, value, place));
                }
            }
            (Shape::List(list), Form::List(items)) => {
                mistakes.extend(self.wrong_count(
                    list.min_items,
                    list.max_items,
                    items.len(),
                    value.span,
                    place,
                ));
                for (index, item) in items.iter().enumerate() {
                    let shape = list.first.get(index).unwrap_or(&list.rest);
                    self.value(shape, item, &place.element(index, item.span), mistakes);
                }
            }
            (Shape::Map(map), Form::Map(entries)) => self.map(map, entries, place, mistakes),
            (_, Form::List(_)) => mistakes.push(self.wrong(shape, "a list", value.span, place)),
            (_, Form::Map(_)) => mistakes.push(self.wrong(shape, "a map", value.span, place)),
        }
    }

    fn map(
        &self,
        map: &MapShape,
        entries: &[(Key, Template)],
        place: &Place,
        mistakes: &mut Vec<Mistake>,
    ) {
        for (key, value) in entries {
            match map.named(&key.text) {
                Named::Is(shape) => self.value(shape, value, &place.member(key), mistakes),
                // A kind ignores what it does not know; an author who writes it expects otherwise.
                Named::Unsaid | Named::Refused => {
                    mistakes.push(self.unknown_member(map, key, place));
                }
            }
        }
        for (name, member) in &map.members {
            if member.required && !entries.iter().any(|(key, _)| key.text == *name) {
                let message = format!(
                    "{} lacks {}, which `{}` requires",
                    place.name(),
                    Quoted(name),
                    self.kind.name
                );
                let remedy = format!("add `{name}`: {}", self.kind.input.describe(&member.shape));
                mistakes.push(Mistake::new(Code::MissingMember, place.at, message, remedy));
            }
        }
    }

    fn unknown_member(&self, map: &MapShape, key: &Key, place: &Place) -> Mistake {
        let message = format!(
            "{} of `{}` has no member {}",
            place.name(),
            self.kind.name,
            Quoted(&key.text)
        );
        let names = map.members.keys().map(String::as_str);
        let (remedy, nearest) =
            suggestion::remedy(&key.text, names, "the members are", "remove it");
        Mistake::new(Code::UnknownMember, key.span, message, remedy).suggest(nearest)
    }

    /// Reports nothing if one of the shapes fits; else what is wrong with the one that was meant,
    /// or that none fits if it is not clear which was.
    fn either(
        &self,
        shapes: &[Shape],
        value: &Template,
        place: &Place,
        mistakes: &mut Vec<Mistake>,
    ) {
        let mut attempts: Vec<Vec<Mistake>> = Vec::new();
        for shape in shapes
            .iter()
            .filter(|shape| self.has_form(shape, &value.form))
        {
            let mut attempt = Vec::new();
            self.value(shape, value, place, &mut attempt);
            if attempt.is_empty() {
                return;
            }
            attempts.push(attempt);
        }
        attempts.sort_by_key(Vec::len);
        let closest_is_unique = match attempts.as_slice() {
            [] => false,
            [_] => true,
            [first, second, ..] => first.len() < second.len(),
        };
        if closest_is_unique {
            mistakes.append(&mut attempts[0]);
            return;
        }
        let whole = Shape::Either(shapes.to_vec());
        if let Form::Plain {
            value: plain,
            old_boolean,
        } = &value.form
            && let Err(mismatch) = self.kind.input.admits_as(&whole, plain)
        {
            mistakes.push(self.wrong_plain(&whole, &mismatch, *old_boolean, value, place));
            return;
        }
        let found = match value.form {
            Form::List(_) => "this list",
            _ => "this map",
        };
        mistakes.push(self.wrong(&whole, found, value.span, place));
    }

    /// Whether a shape is of lists for a list, of maps for a map, and so on; only such a shape can
    /// have been meant.
    fn has_form(&self, shape: &Shape, form: &Form) -> bool {
        match (self.kind.input.follow(shape), form) {
            (Shape::List(_), form) => matches!(form, Form::List(_)),
            (Shape::Map(_), form) => matches!(form, Form::Map(_)),
            (Shape::Either(shapes), form) => shapes.iter().any(|shape| self.has_form(shape, form)),
            (Shape::Both(shapes), form) => shapes.iter().all(|shape| self.has_form(shape, form)),
            (Shape::Any | Shape::Undecidable(_), _) | (Shape::OneOf(_), Form::Plain { .. }) => true,
            (Shape::Null, Form::Plain { value, .. }) => value.is_null(),
            (Shape::Boolean, Form::Plain { value, .. }) => value.is_boolean(),
            (Shape::Integer(_) | Shape::Number(_), Form::Plain { value, .. }) => value.is_number(),
            (Shape::Text(_), Form::Plain { value, .. }) => value.is_string(),
            _ => false,
        }
    }

    fn reference(
        &self,
        shape: &Shape,
        reference: &Reference,
        at: Span,
        place: &Place,
    ) -> Option<Mistake> {
        let path = reference.path();
        match (self.known)(reference, at) {
            Known::Nothing => None,
            Known::Type(given) => {
                let gap = self.kind.input.covers(shape, &given).err()?;
                if let Some(keyword) = gap.undecidable {
                    return Some(self.undecidable(&keyword, at, place));
                }
                let inside = if gap.path.is_empty() {
                    String::new()
                } else {
                    format!(" at `{}`", gap.path)
                };
                let message = format!(
                    "`{path}` is {}{inside}, and {} of `{}` takes {}",
                    gap.given,
                    place.name(),
                    self.kind.name,
                    gap.accepted,
                );
                let remedy = match reference {
                    Reference::Input(_) => "change the type of the input, or read something else",
                    _ => "read an output of the right type",
                };
                Some(Mistake::new(Code::WrongReference, at, message, remedy))
            }
            Known::Value(value, declared) => {
                let mismatch = self.kind.input.admits_as(shape, &value).err()?;
                let message = format!(
                    "`{path}` is {}{}, and {} of `{}` takes {}",
                    mismatch.found,
                    inside_of(&mismatch),
                    place.name(),
                    self.kind.name,
                    mismatch.expected,
                );
                let remedy = format!("give the input {}", mismatch.expected);
                let mistake = Mistake::new(Code::GivenNotAccepted, at, message, remedy);
                Some(mistake.label(declared, "the input is declared here"))
            }
        }
    }

    fn wrong_plain(
        &self,
        shape: &Shape,
        mismatch: &Mismatch,
        old_boolean: bool,
        value: &Template,
        place: &Place,
    ) -> Mistake {
        let at = if value.span.len == 0 {
            place.at
        } else {
            value.span
        };
        if old_boolean && matches!(self.kind.input.follow(shape), Shape::Boolean) {
            let message = format!(
                "{} is {}, and a boolean in YAML 1.1 only",
                place.name(),
                mismatch.found
            );
            return Mistake::new(Code::OldBoolean, at, message, "write `true` or `false`");
        }
        let message = format!(
            "{} of `{}` takes {}, not {}{}",
            place.name(),
            self.kind.name,
            mismatch.expected,
            mismatch.found,
            inside_of(mismatch),
        );
        let remedy = match &mismatch.nearest {
            Some(nearest) => format!("did you mean {}?", Quoted(nearest)),
            None => format!("write {}", mismatch.expected),
        };
        Mistake::new(Code::WrongMember, at, message, remedy).suggest(mismatch.nearest.as_deref())
    }

    fn wrong(&self, shape: &Shape, found: &str, at: Span, place: &Place) -> Mistake {
        let expected = self.kind.input.describe(shape);
        let message = format!(
            "{} of `{}` takes {expected}, not {found}",
            place.name(),
            self.kind.name
        );
        Mistake::new(Code::WrongMember, at, message, format!("write {expected}"))
    }

    fn wrong_count(
        &self,
        min: Option<u64>,
        max: Option<u64>,
        count: usize,
        at: Span,
        place: &Place,
    ) -> Option<Mistake> {
        let count = count as u64;
        let expected = match (
            min.filter(|min| count < *min),
            max.filter(|max| count > *max),
        ) {
            (Some(min), _) => format!("a list of at least {min}"),
            (None, Some(max)) => format!("a list of at most {max}"),
            (None, None) => return None,
        };
        let message = format!(
            "{} of `{}` takes {expected}, not one of {count}",
            place.name(),
            self.kind.name
        );
        Some(Mistake::new(
            Code::WrongMember,
            at,
            message,
            format!("write {expected}"),
        ))
    }

    fn undecidable(&self, keyword: &str, at: Span, place: &Place) -> Mistake {
        let message = format!(
            "{} cannot be checked: the schema of `{}` or of what it reads uses `{keyword}`",
            place.name(),
            self.kind.name,
        );
        let remedy = "describe the kind's types without that keyword, and print its kinds again";
        Mistake::new(Code::UndecidableMember, at, message, remedy)
    }
}

fn inside_of(mismatch: &Mismatch) -> String {
    if mismatch.path.is_empty() {
        String::new()
    } else {
        format!(" at {}", Quoted(&mismatch.path))
    }
}
