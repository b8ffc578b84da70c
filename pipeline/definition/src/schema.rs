//! The JSON Schemas of kinds, as far as a definition can be checked against them.
//!
//! Read is what `schemars` 1 writes for types of serde (JSON Schema 2020-12). A keyword that is not
//! decided here makes its part of the schema [`Shape::Undecidable`], which nothing fits: a check
//! that cannot be made is not passed.

mod admits;
mod covers;
mod reading;

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

use crate::source::list_names;

pub(crate) use admits::Mismatch;
pub use reading::SchemaFault;

/// Definitions that a schema refers to by name.
pub(crate) type Definitions = BTreeMap<String, Shape>;

/// A shape with the definitions that its references name; cheap to clone but for the shape.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) shape: Shape,
    definitions: Arc<Definitions>,
}

/// What values a schema accepts.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// `true` or `{}`.
    Any,
    /// `false`.
    Never,
    Null,
    Boolean,
    Integer(Range),
    Number(Range),
    Text(TextShape),
    /// `const` and `enum`.
    OneOf(Vec<Value>),
    List(Box<ListShape>),
    Map(Box<MapShape>),
    /// `anyOf`, `oneOf` and lists of types. That at most one of `oneOf` fits is not checked: the
    /// variants of an enum of serde exclude each other.
    Either(Vec<Self>),
    /// `allOf`, and several keywords in one schema.
    Both(Vec<Self>),
    /// `$ref` to one of the definitions, which exists.
    Reference(String),
    /// Uses the keyword, which is not decided here.
    Undecidable(String),
}

/// Least and greatest number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    pub(crate) min: Option<Limit>,
    pub(crate) max: Option<Limit>,
}

/// An end of a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) at: f64,
    pub(crate) included: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TextShape {
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    /// Has to match somewhere in the text, as JSON Schema says.
    pub(crate) pattern: Option<Regex>,
}

#[derive(Clone, Debug)]
pub(crate) struct ListShape {
    /// Of the first elements, one each.
    pub(crate) first: Vec<Shape>,
    /// Of all further elements.
    pub(crate) rest: Shape,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) unique: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct MapShape {
    pub(crate) members: BTreeMap<String, Member>,
    /// `patternProperties`: what members are whose names match. `schemars` writes it for maps whose
    /// keys are numbers or texts with a pattern.
    pub(crate) patterns: Vec<(Regex, Shape)>,
    /// What members of other names are.
    pub(crate) others: Others,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) shape: Shape,
    pub(crate) required: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Others {
    /// `additionalProperties: false`.
    Refused,
    /// Nothing is said: they are accepted, and a type that is written as this has none.
    Unsaid,
    /// `additionalProperties`: a map with free keys.
    Of(Shape),
}

/// What a map says of a member.
pub(crate) enum Named<'a> {
    /// It is one.
    Is(&'a Shape),
    /// Nothing; it would be accepted and ignored.
    Unsaid,
    Refused,
}

impl MapShape {
    /// What the map says of a member of this name.
    pub(crate) fn named(&self, name: &str) -> Named<'_> {
        if let Some(member) = self.members.get(name) {
            return Named::Is(&member.shape);
        }
        if let Some((_, shape)) = self
            .patterns
            .iter()
            .find(|(pattern, _)| pattern.is_match(name))
        {
            return Named::Is(shape);
        }
        match &self.others {
            Others::Of(shape) => Named::Is(shape),
            Others::Unsaid => Named::Unsaid,
            Others::Refused => Named::Refused,
        }
    }
}

impl Schema {
    /// The same definitions around another shape.
    pub(crate) fn with(&self, shape: Shape) -> Self {
        Self {
            shape,
            definitions: Arc::clone(&self.definitions),
        }
    }

    /// A schema without definitions.
    pub(crate) fn alone(shape: Shape) -> Self {
        Self {
            shape,
            definitions: Arc::default(),
        }
    }

    /// The shape that a reference stands for.
    pub(crate) fn follow<'a>(&'a self, mut shape: &'a Shape) -> &'a Shape {
        while let Shape::Reference(name) = shape {
            match self.definitions.get(name) {
                Some(named) => shape = named,
                None => return &Shape::Never,
            }
        }
        shape
    }

    /// What the schema accepts, as a message says it.
    pub(crate) fn describe(&self, shape: &Shape) -> String {
        match self.follow(shape) {
            Shape::Any => "anything".to_owned(),
            Shape::Never | Shape::Reference(_) => "nothing at all".to_owned(),
            Shape::Null => "nothing".to_owned(),
            Shape::Boolean => "a boolean".to_owned(),
            Shape::Integer(range) => format!("a whole number{}", range.describe()),
            Shape::Number(range) => format!("a number{}", range.describe()),
            Shape::Text(_) => "text".to_owned(),
            Shape::OneOf(values) => describe_values(values),
            Shape::List(_) => "a list".to_owned(),
            Shape::Map(_) => "a map".to_owned(),
            Shape::Either(shapes) => {
                let mut all: Vec<String> = shapes.iter().map(|one| self.describe(one)).collect();
                all.dedup();
                all.join(" or ")
            }
            Shape::Both(shapes) => shapes
                .iter()
                .map(|shape| self.follow(shape))
                .find(|shape| !matches!(shape, Shape::Any))
                .map_or_else(|| "anything".to_owned(), |shape| self.describe(shape)),
            Shape::Undecidable(keyword) => format!("what `{keyword}` describes"),
        }
    }

    /// The members of a map, if the schema is of a map and of nothing else.
    pub(crate) fn members(&self) -> Option<&MapShape> {
        match self.follow(&self.shape) {
            Shape::Map(map) => Some(map),
            _ => None,
        }
    }

    /// What the elements of a list are, if the schema is of lists only.
    pub(crate) fn element(&self) -> Option<Self> {
        match self.follow(&self.shape) {
            Shape::Any => Some(self.with(Shape::Any)),
            Shape::List(list) if list.first.is_empty() => Some(self.with(list.rest.clone())),
            Shape::List(list) => {
                let all = list
                    .first
                    .iter()
                    .chain(std::iter::once(&list.rest))
                    .cloned();
                Some(self.with(Shape::Either(all.collect())))
            }
            _ => None,
        }
    }
}

impl Shape {
    /// A list of which only the elements are known.
    pub(crate) fn list_of(rest: Self) -> Self {
        let list = ListShape {
            first: Vec::new(),
            rest,
            min_items: None,
            max_items: None,
            unique: false,
        };
        Self::List(Box::new(list))
    }

    /// A map of which nothing is known.
    pub(crate) fn any_map() -> Self {
        Self::Map(Box::new(MapShape {
            members: BTreeMap::new(),
            patterns: Vec::new(),
            others: Others::Of(Self::Any),
        }))
    }
}

impl Range {
    pub(crate) fn contains(&self, number: f64) -> bool {
        let above = self
            .min
            .is_none_or(|min| min.at < number || (min.included && min.at <= number));
        let below = self
            .max
            .is_none_or(|max| number < max.at || (max.included && number <= max.at));
        above && below
    }

    /// Whether some number is in both. Touching ends count, which errs towards the run-time check.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let ordered = |low: Option<Limit>, high: Option<Limit>| match (low, high) {
            (Some(low), Some(high)) => low.at <= high.at,
            _ => true,
        };
        ordered(self.min, other.max) && ordered(other.min, self.max)
    }

    fn describe(&self) -> String {
        let min = self.min.map(|limit| {
            if limit.included {
                "of at least"
            } else {
                "above"
            }
            .to_owned()
                + &format!(" {}", limit.at)
        });
        let max = self.max.map(|limit| {
            if limit.included { "at most" } else { "below" }.to_owned() + &format!(" {}", limit.at)
        });
        match (min, max) {
            (None, None) => String::new(),
            (Some(min), None) => format!(" {min}"),
            (None, Some(max)) => format!(" of {max}"),
            (Some(min), Some(max)) => format!(" {min} and {max}"),
        }
    }
}

fn describe_values(values: &[Value]) -> String {
    let written: Vec<String> = values.iter().map(plain_text).collect();
    let listed = list_names(written.iter().map(String::as_str));
    if values.len() == 1 {
        listed
    } else {
        format!("one of {listed}")
    }
}

fn plain_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
