//! From the JSON of a schema to a shape.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::{Map, Value};

use crate::schema::{
    Definitions, Limit, ListShape, MapShape, Member, Others, Range, Schema, Shape, TextShape,
};

/// Why a schema cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaFault {
    /// Not an object, `true` or `false`, or a keyword has a value of the wrong type.
    #[error("the schema is malformed at `{at}`; print it again with the worker's `kinds --json`")]
    Malformed {
        /// The keyword, or the schema's own place in it.
        at: String,
    },
    /// A `$ref` names nothing under `$defs`.
    #[error("the schema refers to `{reference}`, which it does not define")]
    Dangling {
        /// The reference as written.
        reference: String,
    },
    /// A definition is only a reference to itself.
    #[error("the definition `{name}` of the schema is only a reference to itself")]
    Endless {
        /// The definition's name.
        name: String,
    },
}

/// Keywords that say nothing about which values are accepted.
const ANNOTATIONS: [&str; 14] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "contentEncoding",
    "contentMediaType",
];

/// Keywords that belong to one type and are read together with `type`.
const TYPED: [&str; 17] = [
    "type",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
];

const ALL_TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

impl Schema {
    /// Reads a schema as `schemars` writes it.
    pub(crate) fn read(json: &Value) -> Result<Self, SchemaFault> {
        let mut definitions = Definitions::new();
        if let Some(named) = json.get("$defs") {
            let named = named.as_object().ok_or_else(|| malformed("$defs"))?;
            for (name, schema) in named {
                definitions.insert(name.clone(), read_shape(schema)?);
            }
        }
        let shape = read_shape(json)?;
        for part in definitions.values().chain(std::iter::once(&shape)) {
            refuse_dangling(part, &definitions)?;
        }
        for name in definitions.keys() {
            refuse_endless(name, &definitions)?;
        }
        Ok(Self {
            shape,
            definitions: Arc::new(definitions),
        })
    }
}

fn read_shape(json: &Value) -> Result<Shape, SchemaFault> {
    let schema = match json {
        Value::Bool(true) => return Ok(Shape::Any),
        Value::Bool(false) => return Ok(Shape::Never),
        Value::Object(schema) => schema,
        other => return Err(malformed(&other.to_string())),
    };
    let mut parts = Vec::new();
    for (keyword, value) in schema {
        match keyword.as_str() {
            "$ref" => parts.push(read_reference(value)?),
            "const" => parts.push(Shape::OneOf(vec![value.clone()])),
            "enum" => parts.push(Shape::OneOf(array(value, keyword)?.clone())),
            "anyOf" | "oneOf" => parts.push(either(read_shapes(value, keyword)?)),
            "allOf" => parts.push(both(read_shapes(value, keyword)?)),
            known if ANNOTATIONS.contains(&known) || TYPED.contains(&known) => {}
            other => parts.push(Shape::Undecidable(other.to_owned())),
        }
    }
    if TYPED.iter().any(|keyword| schema.contains_key(*keyword)) {
        parts.push(read_typed(schema)?);
    }
    Ok(both(parts))
}

fn read_typed(schema: &Map<String, Value>) -> Result<Shape, SchemaFault> {
    let types: Vec<&str> = match schema.get("type") {
        None => ALL_TYPES.to_vec(),
        Some(Value::String(one)) => vec![one],
        Some(several) => array(several, "type")?
            .iter()
            .map(|one| one.as_str().ok_or_else(|| malformed("type")))
            .collect::<Result<_, _>>()?,
    };
    let shapes: Result<Vec<Shape>, SchemaFault> = types
        .into_iter()
        .map(|name| read_type(name, schema))
        .collect();
    Ok(either(shapes?))
}

fn read_type(name: &str, schema: &Map<String, Value>) -> Result<Shape, SchemaFault> {
    Ok(match name {
        "null" => Shape::Null,
        "boolean" => Shape::Boolean,
        "integer" => Shape::Integer(read_range(schema)?),
        "number" => Shape::Number(read_range(schema)?),
        "string" => read_text(schema)?,
        "array" => read_list(schema)?,
        "object" => read_map(schema)?,
        _ => return Err(malformed("type")),
    })
}

fn read_range(schema: &Map<String, Value>) -> Result<Range, SchemaFault> {
    let limit = |inclusive: &str, exclusive: &str| -> Result<Option<Limit>, SchemaFault> {
        for (keyword, included) in [(exclusive, false), (inclusive, true)] {
            if let Some(value) = schema.get(keyword) {
                let at = value.as_f64().ok_or_else(|| malformed(keyword))?;
                return Ok(Some(Limit { at, included }));
            }
        }
        Ok(None)
    };
    let format = schema.get("format").and_then(Value::as_str);
    let (least, greatest) = format.map_or((None, None), range_of_format);
    let included = |at| Limit { at, included: true };
    Ok(Range {
        min: limit("minimum", "exclusiveMinimum")?.or_else(|| least.map(included)),
        max: limit("maximum", "exclusiveMaximum")?.or_else(|| greatest.map(included)),
    })
}

/// What `schemars` says of 32 bits by format only. No number of a definition is beyond 64 bits.
fn range_of_format(format: &str) -> (Option<f64>, Option<f64>) {
    match format {
        "int32" => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        "uint32" => (Some(0.0), Some(f64::from(u32::MAX))),
        "uint" | "uint64" => (Some(0.0), None),
        _ => (None, None),
    }
}

fn read_text(schema: &Map<String, Value>) -> Result<Shape, SchemaFault> {
    let pattern = match schema.get("pattern") {
        None => None,
        Some(Value::String(pattern)) => match Regex::new(pattern) {
            Ok(pattern) => Some(pattern),
            // ECMA 262 has look-around and back references, which Rust's `regex` has not.
            Err(_) => return Ok(Shape::Undecidable("pattern".to_owned())),
        },
        Some(_) => return Err(malformed("pattern")),
    };
    Ok(Shape::Text(TextShape {
        min_length: count(schema, "minLength")?,
        max_length: count(schema, "maxLength")?,
        pattern,
    }))
}

fn read_list(schema: &Map<String, Value>) -> Result<Shape, SchemaFault> {
    let first = schema
        .get("prefixItems")
        .map(|value| read_shapes(value, "prefixItems"));
    let rest = schema.get("items").map(read_shape);
    Ok(Shape::List(Box::new(ListShape {
        first: first.transpose()?.unwrap_or_default(),
        rest: rest.transpose()?.unwrap_or(Shape::Any),
        min_items: count(schema, "minItems")?,
        max_items: count(schema, "maxItems")?,
        unique: schema
            .get("uniqueItems")
            .and_then(Value::as_bool)
            .unwrap_or_default(),
    })))
}

fn read_map(schema: &Map<String, Value>) -> Result<Shape, SchemaFault> {
    let mut members = BTreeMap::new();
    if let Some(properties) = schema.get("properties") {
        for (name, value) in properties
            .as_object()
            .ok_or_else(|| malformed("properties"))?
        {
            members.insert(
                name.clone(),
                Member {
                    shape: read_shape(value)?,
                    required: false,
                },
            );
        }
    }
    if let Some(required) = schema.get("required") {
        for name in array(required, "required")? {
            let name = name.as_str().ok_or_else(|| malformed("required"))?;
            let unsaid = Member {
                shape: Shape::Any,
                required: true,
            };
            members.entry(name.to_owned()).or_insert(unsaid).required = true;
        }
    }
    let mut patterns = Vec::new();
    if let Some(named) = schema.get("patternProperties") {
        for (pattern, value) in named
            .as_object()
            .ok_or_else(|| malformed("patternProperties"))?
        {
            let Ok(pattern) = Regex::new(pattern) else {
                return Ok(Shape::Undecidable("patternProperties".to_owned()));
            };
            patterns.push((pattern, read_shape(value)?));
        }
    }
    let others = match schema
        .get("additionalProperties")
        .map(read_shape)
        .transpose()?
    {
        None => Others::Unsaid,
        Some(Shape::Never) => Others::Refused,
        Some(shape) => Others::Of(shape),
    };
    Ok(Shape::Map(Box::new(MapShape {
        members,
        patterns,
        others,
    })))
}

fn read_reference(value: &Value) -> Result<Shape, SchemaFault> {
    let reference = value.as_str().ok_or_else(|| malformed("$ref"))?;
    let name = reference
        .strip_prefix("#/$defs/")
        .ok_or_else(|| SchemaFault::Dangling {
            reference: reference.to_owned(),
        })?;
    // JSON Pointer escapes (RFC 6901, section 4).
    Ok(Shape::Reference(name.replace("~1", "/").replace("~0", "~")))
}

fn read_shapes(value: &Value, keyword: &str) -> Result<Vec<Shape>, SchemaFault> {
    array(value, keyword)?.iter().map(read_shape).collect()
}

/// One shape for several of which one has to fit. Plain values are joined, so that messages can
/// list them.
fn either(mut shapes: Vec<Shape>) -> Shape {
    if shapes.len() == 1 {
        return shapes.remove(0);
    }
    if shapes.iter().all(|shape| matches!(shape, Shape::OneOf(_))) && !shapes.is_empty() {
        let values = shapes.into_iter().flat_map(|shape| match shape {
            Shape::OneOf(values) => values,
            _ => Vec::new(),
        });
        return Shape::OneOf(values.collect());
    }
    Shape::Either(shapes)
}

/// One shape for several that all have to fit. A value next to its type says all there is.
fn both(mut shapes: Vec<Shape>) -> Shape {
    if shapes.iter().any(|shape| matches!(shape, Shape::OneOf(_))) {
        shapes.retain(|shape| !matches!(shape, Shape::Null | Shape::Boolean | Shape::Text(_)));
    }
    match shapes.len() {
        0 => Shape::Any,
        1 => shapes.remove(0),
        _ => Shape::Both(shapes),
    }
}

fn refuse_dangling(shape: &Shape, definitions: &Definitions) -> Result<(), SchemaFault> {
    if let Shape::Reference(name) = shape
        && !definitions.contains_key(name)
    {
        return Err(SchemaFault::Dangling {
            reference: name.clone(),
        });
    }
    parts_of(shape)
        .into_iter()
        .try_for_each(|part| refuse_dangling(part, definitions))
}

fn parts_of(shape: &Shape) -> Vec<&Shape> {
    match shape {
        Shape::Either(shapes) | Shape::Both(shapes) => shapes.iter().collect(),
        Shape::List(list) => list
            .first
            .iter()
            .chain(std::iter::once(&list.rest))
            .collect(),
        Shape::Map(map) => {
            let others = match &map.others {
                Others::Of(shape) => Some(shape),
                Others::Refused | Others::Unsaid => None,
            };
            map.members
                .values()
                .map(|member| &member.shape)
                .chain(map.patterns.iter().map(|(_, shape)| shape))
                .chain(others)
                .collect()
        }
        _ => Vec::new(),
    }
}

/// A definition that reaches itself without a list or map in between describes no value, and
/// following it would never end.
fn refuse_endless(name: &str, definitions: &Definitions) -> Result<(), SchemaFault> {
    let mut seen = vec![name];
    let mut next: Vec<&Shape> = definitions.get(name).into_iter().collect();
    while let Some(shape) = next.pop() {
        match shape {
            Shape::Either(shapes) | Shape::Both(shapes) => next.extend(shapes),
            Shape::Reference(other) if other == name => {
                return Err(SchemaFault::Endless {
                    name: name.to_owned(),
                });
            }
            Shape::Reference(other) if !seen.contains(&other.as_str()) => {
                seen.push(other);
                next.extend(definitions.get(other));
            }
            _ => {}
        }
    }
    Ok(())
}

fn array<'a>(value: &'a Value, keyword: &str) -> Result<&'a Vec<Value>, SchemaFault> {
    value.as_array().ok_or_else(|| malformed(keyword))
}

fn count(schema: &Map<String, Value>, keyword: &str) -> Result<Option<u64>, SchemaFault> {
    match schema.get(keyword) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| malformed(keyword)),
    }
}

fn malformed(at: &str) -> SchemaFault {
    SchemaFault::Malformed { at: at.to_owned() }
}
