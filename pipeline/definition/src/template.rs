//! Values of an author that may hold references.

use serde_json::Value;

use crate::code::Code;
use crate::diagnostic::Mistake;
use crate::expression::{self, ExpressionFault, Reference};
use crate::reader::refuse_ambiguous;
use crate::scalar::{Meaning, Scalar};
use crate::source::{Quoted, Source, Span};
use crate::yaml::{Content, Key, Node};

/// A value with its place, whose scalars are plain values or references.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) span: Span,
    pub(crate) form: Form,
}

#[derive(Clone, Debug)]
pub(crate) enum Form {
    Plain {
        value: Value,
        /// An unquoted `yes`, `no`, `on`, … which YAML 1.1 reads as a boolean.
        old_boolean: bool,
    },
    Reference(Reference),
    List(Vec<Template>),
    Map(Vec<(Key, Template)>),
    /// Already reported; fits everywhere.
    Refused,
}

impl Template {
    /// Reads a value; `element` is what `as` names in the job around it.
    pub(crate) fn read(node: &Node, source: &Source, mistakes: &mut Vec<Mistake>) -> Self {
        let form = match &node.content {
            Content::Refused => Form::Refused,
            Content::List(items) => Form::List(
                items
                    .iter()
                    .map(|item| Self::read(item, source, mistakes))
                    .collect(),
            ),
            Content::Map(entries) => Form::Map(
                entries
                    .iter()
                    .map(|entry| {
                        (
                            entry.key.clone(),
                            Self::read(&entry.value, source, mistakes),
                        )
                    })
                    .collect(),
            ),
            Content::Scalar(scalar) => return read_scalar(scalar, node.span, source, mistakes),
        };
        Self {
            span: node.span,
            form,
        }
    }

    /// Every reference inside, with its place.
    pub(crate) fn references(&self) -> Vec<(&Reference, Span)> {
        let mut found = Vec::new();
        self.collect_references(&mut found);
        found
    }

    fn collect_references<'a>(&'a self, found: &mut Vec<(&'a Reference, Span)>) {
        match &self.form {
            Form::Plain { .. } | Form::Refused => {}
            Form::Reference(reference) => found.push((reference, self.span)),
            Form::List(items) => {
                for item in items {
                    item.collect_references(found);
                }
            }
            Form::Map(entries) => {
                for (_, value) in entries {
                    value.collect_references(found);
                }
            }
        }
    }
}

fn read_scalar(
    scalar: &Scalar,
    span: Span,
    source: &Source,
    mistakes: &mut Vec<Mistake>,
) -> Template {
    if expression::is_opened(&scalar.text) {
        return read_expression(&scalar.text, span, source, mistakes);
    }
    if !refuse_ambiguous(scalar, span, mistakes) {
        return Template {
            span,
            form: Form::Refused,
        };
    }
    let old_boolean = scalar.is_old_boolean();
    let form = Meaning::to_json(scalar.meaning())
        .map_or(Form::Refused, |value| Form::Plain { value, old_boolean });
    Template { span, form }
}

fn read_expression(
    text: &str,
    span: Span,
    source: &Source,
    mistakes: &mut Vec<Mistake>,
) -> Template {
    match expression::parse(text) {
        Ok(reference) => {
            let span = source.find_in(span, &reference.path());
            Template {
                span,
                form: Form::Reference(reference),
            }
        }
        Err(fault) => {
            mistakes.push(expression_mistake(text, &fault, span, source));
            Template {
                span,
                form: Form::Refused,
            }
        }
    }
}

const ACCEPTED_FORMS: &str = "write `${{ inputs.NAME }}` or `${{ jobs.NAME.outputs.NAME }}`, or in a job with `for-each` the name that `as` gives; let a job compute anything else";

fn expression_mistake(text: &str, fault: &ExpressionFault, span: Span, source: &Source) -> Mistake {
    match fault {
        ExpressionFault::Embedded => {
            let message = format!("{} is not one expression and nothing else", Quoted(text));
            let remedy = "make the whole value one reference, as in `${{ inputs.NAME }}`, or plain text without `${{`";
            Mistake::new(Code::EmbeddedExpression, span, message, remedy)
        }
        ExpressionFault::NotAReference(inner) => {
            let at = if inner.is_empty() {
                span
            } else {
                source.find_in(span, inner)
            };
            let message = format!("{} is not a reference", Quoted(inner));
            Mistake::new(Code::NotAReference, at, message, ACCEPTED_FORMS)
        }
    }
}
