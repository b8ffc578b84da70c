//! Whether every value of one schema is of the type that another accepts.
//!
//! This decides types: kinds of values, members, plain values. Limits (least and greatest number,
//! length, pattern) only have to leave room for a common value: that an output keeps within them
//! is known when the job has run, and that an input does is checked when a run is planned.

use serde_json::Value;

use crate::schema::{ListShape, MapShape, Named, Others, Schema, Shape};
use crate::source::Quoted;

/// Where and why one schema does not cover another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Where inside the value, as in `.layers[]`; empty for the value itself.
    pub(crate) path: String,
    /// What the value is there.
    pub(crate) given: String,
    /// What is accepted there.
    pub(crate) accepted: String,
    /// The keyword that keeps the question from being decided.
    pub(crate) undecidable: Option<String>,
}

/// Starts what a value may be but need not.
const POSSIBLY: &str = "possibly ";

impl Gap {
    /// The same of a value that is only sometimes so.
    fn possible(mut self) -> Self {
        if self.path.is_empty() && !self.given.starts_with(POSSIBLY) {
            self.given.insert_str(0, POSSIBLY);
        }
        self
    }
}

impl Schema {
    /// Whether every value of `given` is of a type that this schema's part `target` accepts.
    pub(crate) fn covers(&self, target: &Shape, given: &Self) -> Result<(), Gap> {
        Comparison {
            target: self,
            given,
            assumed: Vec::new(),
        }
        .check(target, &given.shape)
    }
}

struct Comparison<'a> {
    target: &'a Schema,
    given: &'a Schema,
    /// Pairs of collections that are being compared further out: a type may contain itself.
    assumed: Vec<(&'a Shape, &'a Shape)>,
}

impl<'a> Comparison<'a> {
    fn check(&mut self, target: &'a Shape, given: &'a Shape) -> Result<(), Gap> {
        let (target, given) = (self.target.follow(target), self.given.follow(given));
        match (target, given) {
            (Shape::Undecidable(keyword), given) if !matches!(given, Shape::Never) => {
                Err(self.undecided(keyword, target, given))
            }
            (Shape::Any, _)
            | (_, Shape::Any | Shape::Never)
            | (Shape::Null, Shape::Null)
            | (Shape::Boolean, Shape::Boolean)
            | (Shape::Text(_), Shape::Text(_)) => Ok(()),
            (_, Shape::Undecidable(keyword)) => Err(self.undecided(keyword, target, given)),
            (_, Shape::Either(shapes)) => {
                let mut all = shapes.iter();
                all.try_for_each(|shape| self.check(target, shape))
                    .map_err(Gap::possible)
            }
            (_, Shape::OneOf(values)) => self.check_values(target, values),
            (Shape::Both(shapes), _) => {
                shapes.iter().try_for_each(|shape| self.check(shape, given))
            }
            (_, Shape::Both(shapes)) => self.check_any(shapes.iter().map(|one| (target, one))),
            (Shape::Either(shapes), _) => self.check_any(shapes.iter().map(|one| (one, given))),
            (Shape::Integer(wide), Shape::Integer(narrow))
            | (Shape::Number(wide), Shape::Integer(narrow) | Shape::Number(narrow))
                if wide.meets(narrow) =>
            {
                Ok(())
            }
            (Shape::List(_) | Shape::Map(_), Shape::List(_) | Shape::Map(_)) => {
                self.check_collections(target, given)
            }
            _ => Err(self.gap(target, given)),
        }
    }

    /// One answer that is good, or the last one with the widest view.
    fn check_any(
        &mut self,
        pairs: impl Iterator<Item = (&'a Shape, &'a Shape)> + Clone,
    ) -> Result<(), Gap> {
        let mut gaps = Vec::new();
        for (target, given) in pairs {
            match self.check(target, given) {
                Ok(()) => return Ok(()),
                Err(gap) => gaps.push(gap),
            }
        }
        let accepted: Vec<String> = gaps.iter().map(|gap| gap.accepted.clone()).collect();
        let all_outside = gaps.iter().all(|gap| gap.path.is_empty());
        let mut chosen = gaps.into_iter().max_by_key(|gap| gap.path.len());
        if let Some(gap) = chosen.as_mut().filter(|_| all_outside) {
            let mut accepted = accepted;
            accepted.dedup();
            gap.accepted = accepted.join(" or ");
        }
        chosen.map_or(Ok(()), Err)
    }

    fn check_values(&self, target: &Shape, values: &[Value]) -> Result<(), Gap> {
        for value in values {
            if let Err(mismatch) = self.target.admits_as(target, value) {
                return Err(Gap {
                    path: mismatch.path,
                    given: format!("{POSSIBLY}{}", mismatch.found),
                    accepted: mismatch.expected,
                    undecidable: None,
                });
            }
        }
        Ok(())
    }

    /// What a type contains of itself fits if the rest does.
    fn check_collections(&mut self, target: &'a Shape, given: &'a Shape) -> Result<(), Gap> {
        let is_assumed = self
            .assumed
            .iter()
            .any(|pair| std::ptr::eq(pair.0, target) && std::ptr::eq(pair.1, given));
        if is_assumed {
            return Ok(());
        }
        self.assumed.push((target, given));
        let answer = match (target, given) {
            (Shape::List(target), Shape::List(given)) => self.check_list(target, given),
            (Shape::Map(target), Shape::Map(given)) => self.check_map(target, given),
            _ => Err(self.gap(target, given)),
        };
        self.assumed.pop();
        answer
    }

    fn check_list(&mut self, target: &'a ListShape, given: &'a ListShape) -> Result<(), Gap> {
        let length = target.first.len().max(given.first.len());
        for index in 0..length {
            let accepted = target.first.get(index).unwrap_or(&target.rest);
            let value = given.first.get(index).unwrap_or(&given.rest);
            self.check(accepted, value)
                .map_err(|gap| inside(gap, &format!("[{index}]")))?;
        }
        self.check(&target.rest, &given.rest)
            .map_err(|gap| inside(gap, "[]"))
    }

    fn check_map(&mut self, target: &'a MapShape, given: &'a MapShape) -> Result<(), Gap> {
        for (name, member) in &given.members {
            let accepted = match target.named(name) {
                Named::Is(shape) => shape,
                Named::Unsaid => continue,
                Named::Refused => {
                    return Err(Gap {
                        path: String::new(),
                        given: format!("a map with the member {}", Quoted(name)),
                        accepted: "a map without it".to_owned(),
                        undecidable: None,
                    });
                }
            };
            self.check(accepted, &member.shape)
                .map_err(|gap| inside(gap, &format!(".{name}")))?;
        }
        self.check_missing(target, given)?;
        self.check_free_members(target, given)
    }

    /// Members whose names are free: those of a pattern fit the same pattern, and all fit what is
    /// said of other names.
    fn check_free_members(&mut self, target: &'a MapShape, given: &'a MapShape) -> Result<(), Gap> {
        for (pattern, value) in &given.patterns {
            let same = target
                .patterns
                .iter()
                .find(|(other, _)| other.as_str() == pattern.as_str());
            let accepted = match (same, &target.others) {
                (Some((_, shape)), _) | (None, Others::Of(shape)) => shape,
                (None, Others::Unsaid) => continue,
                (None, Others::Refused) => {
                    return Err(Gap {
                        path: String::new(),
                        given: format!(
                            "a map with members named like {}",
                            Quoted(pattern.as_str())
                        ),
                        accepted: "a map without such".to_owned(),
                        undecidable: None,
                    });
                }
            };
            self.check(accepted, value)
                .map_err(|gap| inside(gap, ".*"))?;
        }
        match (&target.others, &given.others) {
            (Others::Of(accepted), Others::Of(value)) => {
                self.check(accepted, value).map_err(|gap| inside(gap, ".*"))
            }
            _ => Ok(()),
        }
    }

    /// A member that is required has to be there; that of a map with free keys may be, which is
    /// known at run time only if its type fits.
    fn check_missing(&mut self, target: &'a MapShape, given: &'a MapShape) -> Result<(), Gap> {
        for (name, member) in &target.members {
            if given.members.contains_key(name) {
                continue;
            }
            if let Others::Of(value) = &given.others {
                self.check(&member.shape, value)
                    .map_err(|gap| inside(gap, &format!(".{name}")))?;
            } else if member.required {
                return Err(Gap {
                    path: String::new(),
                    given: format!("a map without the member {}", Quoted(name)),
                    accepted: "a map with it".to_owned(),
                    undecidable: None,
                });
            }
        }
        Ok(())
    }

    fn undecided(&self, keyword: &str, target: &Shape, given: &Shape) -> Gap {
        Gap {
            undecidable: Some(keyword.to_owned()),
            ..self.gap(target, given)
        }
    }

    fn gap(&self, target: &Shape, given: &Shape) -> Gap {
        Gap {
            path: String::new(),
            given: self.given.describe(given),
            accepted: self.target.describe(target),
            undecidable: None,
        }
    }
}

fn inside(mut gap: Gap, step: &str) -> Gap {
    gap.path.insert_str(0, step);
    gap
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gap(target: &Value, given: &Value) -> Option<(String, String, String)> {
        let (target, given) = (Schema::read(target).unwrap(), Schema::read(given).unwrap());
        let gap = target.covers(&target.shape, &given).err()?;
        Some((gap.path, gap.given, gap.accepted))
    }

    /// A list whose elements hold such a list.
    fn tree(name: &str, leaf: &str) -> Value {
        let node = json!({"type": "object", "required": ["leaf"], "properties": {
            "leaf": {"type": leaf},
            "below": {"type": "array", "items": {"$ref": format!("#/$defs/{name}")}},
        }});
        json!({"$ref": format!("#/$defs/{name}"), "$defs": {name: node}})
    }

    #[test]
    fn what_is_the_same_or_narrower_is_covered() {
        let closed = json!({"type": "object", "additionalProperties": false, "required": ["a"],
            "properties": {"a": {"type": "number"}, "b": {"type": ["string", "null"]}}});
        let rows = [
            (json!(true), json!({"type": "string"})),
            (json!({}), json!({"not": {}})),
            (json!({"type": "string"}), json!(true)),
            (json!({"type": "number"}), json!({"type": "integer"})),
            (
                json!({"type": "integer", "minimum": 0}),
                json!({"type": "integer"}),
            ),
            (
                json!({"type": ["string", "null"]}),
                json!({"type": "string", "pattern": "a"}),
            ),
            (
                json!({"type": "string", "maxLength": 3}),
                json!({"type": "string"}),
            ),
            (json!({"enum": ["a", "b"]}), json!({"const": "a"})),
            (
                json!({"type": "string", "pattern": "^[ab]$"}),
                json!({"enum": ["a", "b"]}),
            ),
            (
                closed.clone(),
                json!({"type": "object", "properties": {"a": {"type": "integer"}}}),
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "number"}}),
                json!({"type": "object", "properties": {"a": {"type": "integer"}}}),
            ),
            (
                closed,
                json!({"type": "object", "additionalProperties": {"type": "null"}, "properties": {"a": {"type": "integer"}}}),
            ),
            (
                json!({"type": "array", "items": {"type": "string"}}),
                json!({"type": "array", "prefixItems": [{"type": "string"}, {"const": "x"}], "items": false}),
            ),
            (
                json!({"allOf": [{"type": "object", "required": ["a"]}, {"type": "object"}]}),
                json!({"type": "object", "properties": {"a": {"type": "null"}}}),
            ),
            (
                json!({"type": "object", "patternProperties": {"^[0-9]+$": {"type": "number"}}, "additionalProperties": false}),
                json!({"type": "object", "patternProperties": {"^[0-9]+$": {"type": "integer"}}, "additionalProperties": false}),
            ),
            (tree("here", "number"), tree("there", "integer")),
        ];
        for (target, given) in rows {
            assert_eq!(gap(&target, &given), None, "{target} {given}");
        }
    }

    #[test]
    fn what_is_wider_or_other_is_not_covered() {
        let path = |target: Value, given: Value| gap(&target, &given).map(|(path, ..)| path);
        let at = |path: &str| Some(path.to_owned());
        let text = json!({"type": "string"});
        let closed = json!({"type": "object", "additionalProperties": false});
        let with_a =
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}});
        let digits = json!({"type": "object", "patternProperties": {"^[0-9]+$": {"type": "null"}}});
        assert_eq!(
            path(json!({"type": "integer"}), json!({"type": "number"})),
            at("")
        );
        assert_eq!(
            path(
                json!({"type": "integer", "minimum": 5}),
                json!({"type": "integer", "maximum": 4})
            ),
            at("")
        );
        assert_eq!(
            path(text.clone(), json!({"type": ["string", "null"]})),
            at("")
        );
        assert_eq!(path(json!({"enum": ["a"]}), text.clone()), at(""));
        assert_eq!(
            path(json!({"enum": ["a"]}), json!({"enum": ["a", "b"]})),
            at("")
        );
        assert_eq!(path(json!({"not": {}}), text.clone()), at(""));
        assert_eq!(path(json!({"not": {}}), json!(true)), at(""));
        assert_eq!(path(text.clone(), json!({"not": {}})), at(""));
        assert_eq!(path(json!(false), text), at(""));
        assert_eq!(path(closed.clone(), with_a.clone()), at(""));
        assert_eq!(path(closed, digits), at(""));
        assert_eq!(path(with_a.clone(), json!({"type": "object"})), at(""));
        assert_eq!(
            path(
                with_a,
                json!({"type": "object", "additionalProperties": {"type": "null"}})
            ),
            at(".a")
        );
        let list = |items: Value| json!({"type": "array", "items": items});
        assert_eq!(
            path(
                list(json!({"type": "string"})),
                list(json!({"type": "null"}))
            ),
            at("[]")
        );
        assert_eq!(
            path(tree("here", "integer"), tree("there", "string")),
            at(".leaf")
        );
    }

    #[test]
    fn what_is_only_sometimes_wrong_is_said_to_be_possible() {
        let found = gap(
            &json!({"type": "string"}),
            &json!({"type": ["string", "null"]}),
        )
        .unwrap();
        assert_eq!(found.1, "possibly nothing");
        let found = gap(&json!({"enum": ["a"]}), &json!({"enum": ["a", "b"]})).unwrap();
        assert_eq!(found.1, "possibly the text `b`");
    }
}
