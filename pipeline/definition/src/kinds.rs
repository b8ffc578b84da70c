//! The kinds of jobs that workers offer, as data.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::schema::{Schema, SchemaFault, Shape};

/// Where the worker of a kind runs, and so what it may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zone {
    /// With the owner of the model: sees plain weights.
    Owner,
    /// With the operator of the machines: sees only what is sealed.
    Operator,
}

impl Zone {
    /// The name of the zone in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One kind of work.
#[derive(Clone, Debug)]
pub struct Kind {
    pub(crate) name: String,
    pub(crate) zone: Zone,
    pub(crate) effectful: bool,
    pub(crate) input: Schema,
    pub(crate) output: Schema,
}

impl Kind {
    /// The name with its version, as in `seal@1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its worker runs.
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// Whether a run of it leaves something in the world that `undo` takes back.
    pub fn is_effectful(&self) -> bool {
        self.effectful
    }
}

/// Every kind that a definition may use.
#[derive(Clone, Debug, Default)]
pub struct Kinds(BTreeMap<String, Arc<Kind>>);

/// Why a list of kinds cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KindsError {
    /// Not a JSON list of kinds.
    #[error("the list of kinds is malformed; print it again with the worker's `kinds --json`")]
    Malformed(#[source] serde_json::Error),
    /// Not `name@version`.
    #[error("`{name}` is not the name of a kind; it has the form `seal@1`")]
    Name {
        /// The name as written.
        name: String,
    },
    /// Two kinds have one name.
    #[error("the kind `{name}` is listed twice; list the kinds of each worker once")]
    Twice {
        /// The name of both.
        name: String,
    },
    /// A schema cannot be read.
    #[error("the {side} schema of the kind `{name}` cannot be read")]
    Schema {
        /// The kind.
        name: String,
        /// `input` or `output`.
        side: &'static str,
        /// What is wrong with it.
        source: SchemaFault,
    },
    /// The input is not a map, so `with` could not be it.
    #[error("the input of the kind `{name}` is not a map; make it a struct")]
    InputNotAMap {
        /// The kind.
        name: String,
    },
}

/// A kind as `kinds --json` prints it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed {
    kind: String,
    zone: Zone,
    effectful: bool,
    input: Value,
    output: Value,
}

impl Kinds {
    /// Reads what the workers print: a JSON list of
    /// `{"kind": "seal@1", "zone": "owner", "effectful": true, "input": …, "output": …}`, where the
    /// last two are JSON Schemas.
    pub fn from_json(json: &[u8]) -> Result<Self, KindsError> {
        let printed: Vec<Printed> = serde_json::from_slice(json).map_err(KindsError::Malformed)?;
        let mut kinds = BTreeMap::new();
        for printed in printed {
            let kind = read_kind(printed)?;
            if let Some(first) = kinds.insert(kind.name.clone(), Arc::new(kind)) {
                return Err(KindsError::Twice {
                    name: first.name.clone(),
                });
            }
        }
        Ok(Self(kinds))
    }

    /// The kind of a name, as in `seal@1`.
    pub fn get(&self, name: &str) -> Option<&Kind> {
        self.0.get(name).map(Arc::as_ref)
    }

    /// Every kind, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Kind> {
        self.0.values().map(Arc::as_ref)
    }

    pub(crate) fn shared(&self, name: &str) -> Option<Arc<Kind>> {
        self.0.get(name).cloned()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.keys().map(String::as_str)
    }
}

fn read_kind(printed: Printed) -> Result<Kind, KindsError> {
    let Printed {
        kind: name,
        zone,
        effectful,
        input,
        output,
    } = printed;
    if !is_kind_name(&name) {
        return Err(KindsError::Name { name });
    }
    let read = |side, json: &Value| {
        Schema::read(json).map_err(|source| KindsError::Schema {
            name: name.clone(),
            side,
            source,
        })
    };
    let (input, output) = (read("input", &input)?, read("output", &output)?);
    let may_be_map = !matches!(
        input.follow(&input.shape),
        Shape::Never
            | Shape::Null
            | Shape::Boolean
            | Shape::Integer(_)
            | Shape::Number(_)
            | Shape::Text(_)
            | Shape::OneOf(_)
            | Shape::List(_)
    );
    if !may_be_map {
        return Err(KindsError::InputNotAMap { name });
    }
    Ok(Kind {
        name,
        zone,
        effectful,
        input,
        output,
    })
}

/// `[a-z][a-z0-9-]*@[1-9][0-9]*`.
fn is_kind_name(text: &str) -> bool {
    let Some((name, version)) = text.split_once('@') else {
        return false;
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let is_version = !version.is_empty()
        && !version.starts_with('0')
        && version.bytes().all(|b| b.is_ascii_digit());
    is_name && is_version
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(kind: &str, input: &str, output: &str) -> Result<Kinds, KindsError> {
        let json = format!(
            r#"[{{"kind":"{kind}","zone":"owner","effectful":true,"input":{input},"output":{output}}}]"#
        );
        Kinds::from_json(json.as_bytes())
    }

    #[test]
    fn a_printed_list_is_read() {
        let kinds = listed("seal@1", r#"{"type":"object"}"#, r#"{"type":"null"}"#).unwrap();
        let kind = kinds.get("seal@1").unwrap();
        assert_eq!(
            (kind.name(), kind.zone(), kind.is_effectful()),
            ("seal@1", Zone::Owner, true)
        );
    }

    #[test]
    fn a_list_with_one_thing_spoiled_is_refused_for_that_thing() {
        let object = r#"{"type":"object"}"#;
        let name = |kind| matches!(listed(kind, object, object), Err(KindsError::Name { .. }));
        for spoiled in [
            "seal", "seal@", "seal@0", "seal@01", "Seal@1", "@1", "seal@1@2",
        ] {
            assert!(name(spoiled), "{spoiled}");
        }
        let schema = |json| matches!(listed("a@1", json, object), Err(KindsError::Schema { .. }));
        for spoiled in [
            "3",
            r##"{"$ref":"#/$defs/gone"}"##,
            r#"{"$ref":"https://elsewhere"}"#,
            r##"{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"}]}}}"##,
            r#"{"type":"thing"}"#,
            r#"{"type":"object","properties":3}"#,
            r#"{"type":"string","minLength":"x"}"#,
        ] {
            assert!(schema(spoiled), "{spoiled}");
        }
        assert!(matches!(
            listed("a@1", r#"{"type":"null"}"#, object),
            Err(KindsError::InputNotAMap { .. })
        ));
        let one = r#"{"kind":"a@1","zone":"owner","effectful":false,"input":true,"output":true}"#;
        let two = format!("[{one},{one}]");
        assert!(matches!(
            Kinds::from_json(two.as_bytes()),
            Err(KindsError::Twice { .. })
        ));
        assert!(matches!(
            Kinds::from_json(b"{}"),
            Err(KindsError::Malformed(_))
        ));
    }
}
