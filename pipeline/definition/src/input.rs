//! Inputs: what a definition asks of whoever starts a run.

use std::path::{Component, Path, PathBuf};

use regex::Regex;
use serde_json::Value;

use crate::duration::{self, DurationFault};
use crate::file::MAX_FILE_BYTES;
use crate::scalar::{Meaning, Scalar, is_exact};
use crate::source::{Quoted, Source, list_names};
use crate::yaml::{self, Content, Key, Node};

/// Names of the types, as `type` takes them.
pub(crate) const TYPE_NAMES: [&str; 9] = [
    "string", "int", "float", "bool", "path", "enum", "list", "map", "duration",
];

/// An input as declared.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: Key,
    /// `None` if the declaration is reported as wrong; then nothing more is said about its values.
    pub(crate) kind: Option<InputType>,
    pub(crate) default: Option<Value>,
    pub(crate) description: Option<String>,
}

/// The type of an input with its constraints.
#[derive(Clone, Debug)]
pub(crate) enum InputType {
    Text {
        pattern: Option<Pattern>,
    },
    Int(Bounds<i64>),
    Float(Bounds<f64>),
    Bool,
    /// Text that names a file; becomes absolute when a run is planned.
    Path,
    Enum {
        values: Vec<String>,
    },
    List,
    Map,
    /// Written as `30s`; a whole number of milliseconds for the jobs that read it.
    Duration(Bounds<u64>),
}

/// Least and greatest value, both included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<T> {
    pub(crate) min: Option<T>,
    pub(crate) max: Option<T>,
}

impl<T: PartialOrd + Copy> Bounds<T> {
    fn contain(&self, value: T) -> bool {
        self.min.is_none_or(|min| min <= value) && self.max.is_none_or(|max| value <= max)
    }

    fn describe(&self, show: impl Fn(T) -> String) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("from {} to {}", show(min), show(max)),
            (Some(min), None) => format!("of at least {}", show(min)),
            (None, Some(max)) => format!("of at most {}", show(max)),
            (None, None) => "of any size".to_owned(),
        }
    }
}

/// A regular expression that has to match a whole text, not a part of it: what looks like a check
/// must not let text around a good part through.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    written: String,
    whole: Regex,
}

impl Pattern {
    /// Compiles a pattern of the syntax of the crate `regex`, which matches in linear time.
    pub(crate) fn new(written: &str) -> Result<Self, regex::Error> {
        // Alone first, so that `a)(b` cannot close the group that anchors it.
        Regex::new(written)?;
        let whole = Regex::new(&format!(r"\A(?:{written})\z"))?;
        Ok(Self {
            written: written.to_owned(),
            whole,
        })
    }
}

/// Why a value is not one of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueFault {
    /// Another type. `found` completes "`x` is …".
    Type { found: String, remedy: String },
    /// The right type, outside the declared constraints.
    Constraint { found: String, remedy: String },
}

impl InputType {
    /// What a person is told to give.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool => "`true` or `false`",
            Self::Path => "a path",
            Self::Enum { .. } => "one of its values",
            Self::List => "a list, as in `[a, b]`",
            Self::Map => "a map, as in `{a: 1}`",
            Self::Duration(_) => "a duration, as in `250ms`, `30s`, `15m`, `2h`, `7d`",
        }
    }

    /// The name of the type, as `type` takes it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Text { .. } => "string",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Bool => "bool",
            Self::Path => "path",
            Self::Enum { .. } => "enum",
            Self::List => "list",
            Self::Map => "map",
            Self::Duration(_) => "duration",
        }
    }

    /// Reads the text that a command line gives for the input.
    pub(crate) fn read(&self, text: &str) -> Result<Value, ValueFault> {
        let value = match self {
            Self::Text { .. } | Self::Path | Self::Enum { .. } | Self::Duration(_) => {
                Value::String(text.to_owned())
            }
            Self::Int(_) | Self::Float(_) | Self::Bool => {
                let scalar = Scalar {
                    text: text.to_owned(),
                    plain: true,
                };
                scalar
                    .meaning()
                    .to_json()
                    .ok_or_else(|| self.type_fault(&Quoted(text).to_string()))?
            }
            Self::List | Self::Map => {
                read_collection(text).ok_or_else(|| self.type_fault(&Quoted(text).to_string()))?
            }
        };
        self.admit(value)
    }

    /// Takes a value as one of the input: its type, its constraints, its form for the jobs.
    pub(crate) fn admit(&self, value: Value) -> Result<Value, ValueFault> {
        if !is_exact_throughout(&value) {
            return Err(self.type_fault("a value with a number that JSON cannot carry exactly"));
        }
        match (self, &value) {
            (Self::Text { pattern }, Value::String(text)) => admit_text(pattern.as_ref(), text)?,
            (Self::Bool, Value::Bool(_))
            | (Self::List, Value::Array(_))
            | (Self::Map, Value::Object(_)) => {}
            (Self::Path, Value::String(text)) => admit_path(text)?,
            (Self::Enum { values }, Value::String(text)) => admit_enum(values, text)?,
            (Self::Int(bounds), Value::Number(number)) => {
                let integer = number
                    .as_i64()
                    .ok_or_else(|| self.type_fault(&number.to_string()))?;
                admit_bounds(bounds, integer, |n| n.to_string())?;
            }
            (Self::Float(bounds), Value::Number(number)) => {
                let float = number
                    .as_f64()
                    .ok_or_else(|| self.type_fault(&number.to_string()))?;
                admit_bounds(bounds, float, |n| n.to_string())?;
                return Ok(Value::from(float));
            }
            (Self::Duration(bounds), Value::String(text)) => {
                let ms =
                    duration::parse(text).map_err(|fault| self.duration_fault(text, &fault))?;
                admit_bounds(bounds, ms, duration::format)?;
                return Ok(Value::from(ms));
            }
            (_, other) => return Err(self.type_fault(&describe_json(other))),
        }
        Ok(value)
    }

    fn type_fault(&self, found: &str) -> ValueFault {
        ValueFault::Type {
            found: found.to_owned(),
            remedy: format!("give {}", self.describe()),
        }
    }

    fn duration_fault(&self, text: &str, fault: &DurationFault) -> ValueFault {
        let remedy = match fault {
            DurationFault::Iso {
                translation: Some(translation),
            } => format!("give `{translation}`"),
            _ => format!("give {}", self.describe()),
        };
        ValueFault::Type {
            found: format!("{}, which {fault}", Quoted(text)),
            remedy,
        }
    }
}

fn admit_text(pattern: Option<&Pattern>, text: &str) -> Result<(), ValueFault> {
    match pattern {
        Some(pattern) if !pattern.whole.is_match(text) => Err(ValueFault::Constraint {
            found: Quoted(text).to_string(),
            remedy: format!(
                "give text that matches {} from end to end",
                Quoted(&pattern.written)
            ),
        }),
        _ => Ok(()),
    }
}

fn admit_path(text: &str) -> Result<(), ValueFault> {
    if !text.is_empty() && !text.contains('\0') {
        return Ok(());
    }
    Err(ValueFault::Constraint {
        found: Quoted(text).to_string(),
        remedy: "give a path that is not empty and has no NUL".to_owned(),
    })
}

fn admit_enum(values: &[String], text: &str) -> Result<(), ValueFault> {
    if values.iter().any(|value| value == text) {
        return Ok(());
    }
    let nearest = crate::suggestion::nearest(text, values.iter().map(String::as_str));
    let remedy = match nearest {
        Some(value) => format!("did you mean {}?", Quoted(value)),
        None => format!(
            "give one of {}",
            list_names(values.iter().map(String::as_str))
        ),
    };
    Err(ValueFault::Constraint {
        found: Quoted(text).to_string(),
        remedy,
    })
}

fn admit_bounds<T: PartialOrd + Copy>(
    bounds: &Bounds<T>,
    value: T,
    show: impl Fn(T) -> String,
) -> Result<(), ValueFault> {
    if bounds.contain(value) {
        return Ok(());
    }
    let remedy = format!("give a value {}", bounds.describe(&show));
    Err(ValueFault::Constraint {
        found: show(value),
        remedy,
    })
}

/// A list or map in the YAML of definitions, of which JSON is a part.
fn read_collection(text: &str) -> Option<Value> {
    if text.len() > MAX_FILE_BYTES {
        return None;
    }
    let mut mistakes = Vec::new();
    let root = yaml::read(&Source::new("", text.to_owned()), &mut mistakes)?;
    if mistakes.is_empty() {
        to_json(&root)
    } else {
        None
    }
}

/// A value without references; none if something in it is refused or ambiguous.
pub(crate) fn to_json(node: &Node) -> Option<Value> {
    match &node.content {
        Content::Refused => None,
        Content::Scalar(scalar) => Meaning::to_json(scalar.meaning()),
        Content::List(items) => items
            .iter()
            .map(to_json)
            .collect::<Option<_>>()
            .map(Value::Array),
        Content::Map(entries) => entries
            .iter()
            .map(|entry| Some((entry.key.text.clone(), to_json(&entry.value)?)))
            .collect::<Option<_>>()
            .map(Value::Object),
    }
}

fn is_exact_throughout(value: &Value) -> bool {
    match value {
        Value::Number(number) => is_exact(number),
        Value::Array(items) => items.iter().all(is_exact_throughout),
        Value::Object(members) => members.values().all(is_exact_throughout),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// What a JSON value is, as a message says it.
pub(crate) fn describe_json(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("the boolean `{value}`"),
        Value::Number(number) => format!("the number `{number}`"),
        Value::String(text) => format!("the text {}", Quoted(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

/// Makes a path absolute. `.` is dropped; `..` stays, because what it means depends on links.
pub(crate) fn absolute(folder: &Path, path: &str) -> PathBuf {
    folder
        .join(path)
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn int(min: i64, max: i64) -> InputType {
        InputType::Int(Bounds {
            min: Some(min),
            max: Some(max),
        })
    }

    #[test]
    fn each_type_reads_its_text() {
        let any = Bounds {
            min: None,
            max: None,
        };
        let cases = [
            (InputType::Text { pattern: None }, "017", json!("017")),
            (int(0, 9), "7", json!(7)),
            (
                InputType::Float(Bounds {
                    min: None,
                    max: None,
                }),
                "1",
                json!(1.0),
            ),
            (InputType::Bool, "true", json!(true)),
            (InputType::Path, "./a", json!("./a")),
            (
                InputType::Enum {
                    values: vec!["yes".to_owned()],
                },
                "yes",
                json!("yes"),
            ),
            (
                InputType::List,
                "[1, two, {a: true}]",
                json!([1, "two", {"a": true}]),
            ),
            (InputType::Map, r#"{"a": [1.5]}"#, json!({"a": [1.5]})),
            (InputType::Duration(any), "2h", json!(7_200_000)),
        ];
        for (kind, text, expected) in cases {
            assert_eq!(kind.read(text), Ok(expected), "{}", kind.name());
        }
    }

    #[test]
    fn text_of_another_type_is_refused() {
        let any = Bounds {
            min: None,
            max: None,
        };
        let cases = [
            (int(0, 9), "seven"),
            (int(0, 9), "1.5"),
            (int(0, 9), "007"),
            (
                InputType::Float(Bounds {
                    min: None,
                    max: None,
                }),
                ".inf",
            ),
            (InputType::Bool, "yes"),
            (InputType::Bool, "True"),
            (InputType::List, "{a: 1}"),
            (InputType::List, "[1,"),
            (InputType::Map, "{a: 1, a: 2}"),
            (InputType::Map, "{a: &x 1}"),
            (InputType::Map, "{a: 9007199254740993}"),
            (InputType::Duration(any), "30"),
        ];
        for (kind, text) in cases {
            assert!(
                matches!(kind.read(text), Err(ValueFault::Type { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_pattern_has_to_match_the_whole_text() {
        let kind = InputType::Text {
            pattern: Some(Pattern::new("[0-9a-f]{4}|x").unwrap()),
        };
        assert_eq!(kind.read("00ff"), Ok(json!("00ff")));
        for text in ["00ff\n", " 00ff", "00ff; rm", "xx"] {
            assert!(
                matches!(kind.read(text), Err(ValueFault::Constraint { .. })),
                "{text:?}"
            );
        }
        assert!(Pattern::new("a)(b").is_err());
    }

    #[test]
    fn a_relative_path_is_taken_from_the_folder() {
        assert_eq!(
            absolute(Path::new("/d"), "./m/../x"),
            Path::new("/d/m/../x")
        );
        assert_eq!(absolute(Path::new("/d"), "/m"), Path::new("/m"));
    }
}
