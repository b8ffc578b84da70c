//! Whether a value is one that a schema accepts.

use serde_json::Value;

use crate::input::describe_json;
use crate::schema::{ListShape, MapShape, Named, Schema, Shape, TextShape};
use crate::source::Quoted;
use crate::suggestion;

/// Why a value is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Where inside the value, as in `.layers[2]`; empty for the value itself.
    pub(crate) path: String,
    /// What is accepted there.
    pub(crate) expected: String,
    /// What is there.
    pub(crate) found: String,
    /// The accepted value that was probably meant.
    pub(crate) nearest: Option<String>,
}

impl Mismatch {
    fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self {
            path: String::new(),
            expected,
            found,
            nearest: None,
        }
    }

    fn inside(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }
}

impl Schema {
    /// Whether `value` is accepted by a part of this schema.
    pub(crate) fn admits_as(&self, shape: &Shape, value: &Value) -> Result<(), Mismatch> {
        let refused = || Err(Mismatch::new(self.describe(shape), describe_json(value)));
        match (self.follow(shape), value) {
            (Shape::Any, _) | (Shape::Null, Value::Null) | (Shape::Boolean, Value::Bool(_)) => {
                Ok(())
            }
            (Shape::Integer(range), Value::Number(number)) if is_whole(number) => {
                if number.as_f64().is_some_and(|n| range.contains(n)) {
                    Ok(())
                } else {
                    refused()
                }
            }
            (Shape::Number(range), Value::Number(number)) => {
                if number.as_f64().is_some_and(|n| range.contains(n)) {
                    Ok(())
                } else {
                    refused()
                }
            }
            (Shape::Text(rule), Value::String(text)) => admits_text(rule, text),
            (Shape::OneOf(values), _) => admits_one_of(values, value).or_else(|nearest| {
                refused().map_err(|mismatch| Mismatch {
                    nearest,
                    ..mismatch
                })
            }),
            (Shape::List(rule), Value::Array(items)) => self.admits_list(rule, items),
            (Shape::Map(rule), Value::Object(members)) => self.admits_map(rule, members),
            (Shape::Either(shapes), _) => self.admits_either(shapes, value).unwrap_or_else(refused),
            (Shape::Both(shapes), _) => shapes
                .iter()
                .try_for_each(|shape| self.admits_as(shape, value)),
            _ => refused(),
        }
    }

    /// The answer of the one shape that could fit, or nothing if it is not clear which that is.
    fn admits_either(&self, shapes: &[Shape], value: &Value) -> Option<Result<(), Mismatch>> {
        let answers: Vec<_> = shapes
            .iter()
            .map(|shape| self.admits_as(shape, value))
            .collect();
        if answers.iter().any(Result::is_ok) {
            return Some(Ok(()));
        }
        let mut inner = answers.into_iter().filter(|answer| {
            answer
                .as_ref()
                .is_err_and(|mismatch| !mismatch.path.is_empty() || mismatch.nearest.is_some())
        });
        let only = inner.next();
        if inner.next().is_some() { None } else { only }
    }

    fn admits_list(&self, rule: &ListShape, items: &[Value]) -> Result<(), Mismatch> {
        let count = items.len() as u64;
        let too_few = rule.min_items.filter(|min| count < *min);
        let too_many = rule.max_items.filter(|max| count > *max);
        let found = format!("a list of {count}");
        if let Some(min) = too_few {
            return Err(Mismatch::new(format!("a list of at least {min}"), found));
        }
        if let Some(max) = too_many {
            return Err(Mismatch::new(format!("a list of at most {max}"), found));
        }
        for (index, item) in items.iter().enumerate() {
            let shape = rule.first.get(index).unwrap_or(&rule.rest);
            let step = format!("[{index}]");
            self.admits_as(shape, item)
                .map_err(|mismatch| mismatch.inside(&step))?;
            if rule.unique && items[..index].contains(item) {
                let twice = format!("{} again", describe_json(item));
                return Err(Mismatch::new("no element twice", twice).inside(&step));
            }
        }
        Ok(())
    }

    fn admits_map(
        &self,
        rule: &MapShape,
        members: &serde_json::Map<String, Value>,
    ) -> Result<(), Mismatch> {
        for (name, value) in members {
            let step = format!(".{name}");
            let shape = match rule.named(name) {
                Named::Is(shape) => shape,
                Named::Unsaid => continue,
                Named::Refused => {
                    let known = rule.members.keys().map(String::as_str);
                    let nearest = suggestion::nearest(name, known).map(str::to_owned);
                    let mismatch = Mismatch::new("no such member", describe_json(value));
                    return Err(Mismatch {
                        nearest,
                        ..mismatch
                    }
                    .inside(&step));
                }
            };
            self.admits_as(shape, value)
                .map_err(|mismatch| mismatch.inside(&step))?;
        }
        let required = rule.members.iter().filter(|(_, member)| member.required);
        match required
            .map(|(name, _)| name)
            .find(|name| !members.contains_key(*name))
        {
            Some(name) => Err(Mismatch::new(
                format!("a member {}", Quoted(name)),
                "a map without it",
            )),
            None => Ok(()),
        }
    }
}

/// JSON Schema counts `1.0` as an integer; a deserializer of serde does not.
fn is_whole(number: &serde_json::Number) -> bool {
    number.is_i64() || number.is_u64()
}

fn admits_text(rule: &TextShape, text: &str) -> Result<(), Mismatch> {
    let length = text.chars().count() as u64;
    let expected = if let Some(min) = rule.min_length.filter(|min| length < *min) {
        format!("text of at least {min} characters")
    } else if let Some(max) = rule.max_length.filter(|max| length > *max) {
        format!("text of at most {max} characters")
    } else if let Some(pattern) = rule
        .pattern
        .as_ref()
        .filter(|pattern| !pattern.is_match(text))
    {
        format!("text that matches {}", Quoted(pattern.as_str()))
    } else {
        return Ok(());
    };
    Err(Mismatch::new(
        expected,
        format!("the text {}", Quoted(text)),
    ))
}

/// `Err` is the accepted text nearest to the value.
fn admits_one_of(values: &[Value], value: &Value) -> Result<(), Option<String>> {
    if values.contains(value) {
        return Ok(());
    }
    let texts = values.iter().filter_map(Value::as_str);
    Err(value
        .as_str()
        .and_then(|text| suggestion::nearest(text, texts))
        .map(str::to_owned))
}
