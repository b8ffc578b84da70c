//! What is wrong with a definition, where, and what to do about it.

use std::fmt;

use serde::Serialize;

use crate::code::{Code, Severity};
use crate::render;
use crate::source::{Source, Span};

/// Most findings kept; a definition with more is better read again from the top.
pub const MAX_DIAGNOSTICS: usize = 100;

/// One mistake in a definition.
///
/// Lines and columns count from 1, columns in characters; offsets and lengths are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnostic {
    /// What kind of mistake it is.
    pub code: Code,
    /// Whether it refuses the definition.
    pub severity: Severity,
    /// The file as the caller named it.
    pub file: String,
    /// Line of the mistake's first character.
    pub line: usize,
    /// Column of the mistake's first character.
    pub column: usize,
    /// Where the mistake starts in the file.
    pub offset: usize,
    /// How much of the file the mistake is; 0 if something is missing there.
    pub length: usize,
    /// What is the case.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// What to write instead at that place, if one replacement is likely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Other places that belong to the mistake.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
}

/// A second place that explains a mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Label {
    /// Line of the first character, from 1.
    pub line: usize,
    /// Column of the first character, from 1.
    pub column: usize,
    /// Where it starts in the file, in bytes.
    pub offset: usize,
    /// How long it is, in bytes.
    pub length: usize,
    /// What that place has to do with the mistake.
    pub message: String,
}

/// Every mistake found in one pass over one definition, in the order of the file.
///
/// `Display` is the form for people: one block per mistake with the line it stands in.
/// `Serialize` is the form for programs: `{"diagnostics": […], "omitted": n}`.
#[derive(Clone, Debug, Serialize, thiserror::Error)]
pub struct Diagnostics {
    #[serde(rename = "diagnostics")]
    kept: Vec<Diagnostic>,
    /// How many more there are than [`MAX_DIAGNOSTICS`].
    omitted: usize,
    #[serde(skip)]
    quoted: Source,
}

impl Diagnostics {
    pub(crate) fn new(source: &Source, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| (mistake.span.offset, mistake.code));
        let omitted = mistakes.len().saturating_sub(MAX_DIAGNOSTICS);
        mistakes.truncate(MAX_DIAGNOSTICS);
        let kept = mistakes
            .into_iter()
            .map(|mistake| mistake.place(source))
            .collect();
        Self {
            kept,
            omitted,
            quoted: source.clone(),
        }
    }

    /// The mistakes, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.kept.iter()
    }

    /// How many mistakes are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many mistakes were found beyond the [`MAX_DIAGNOSTICS`] that are kept. There may be
    /// more: with too many, not everything is looked at.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Whether the definition is refused.
    pub fn has_errors(&self) -> bool {
        self.kept
            .iter()
            .any(|found| found.severity == Severity::Error)
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.kept.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            render::block(f, diagnostic, &self.quoted)?;
        }
        if self.omitted > 0 {
            writeln!(f, "\n… and {} more", self.omitted)?;
        }
        Ok(())
    }
}

/// A mistake as the checks find it, before lines and columns are counted.
#[derive(Clone, Debug)]
pub(crate) struct Mistake {
    pub(crate) code: Code,
    span: Span,
    message: String,
    remedy: String,
    suggestion: Option<String>,
    labels: Vec<(Span, String)>,
}

impl Mistake {
    pub(crate) fn new(
        code: Code,
        span: Span,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            span,
            message: message.into(),
            remedy: remedy.into(),
            suggestion: None,
            labels: Vec::new(),
        }
    }

    pub(crate) fn suggest(mut self, replacement: Option<impl Into<String>>) -> Self {
        self.suggestion = replacement.map(Into::into);
        self
    }

    pub(crate) fn label(mut self, span: Span, message: impl Into<String>) -> Self {
        self.labels.push((span, message.into()));
        self
    }

    fn place(self, source: &Source) -> Diagnostic {
        let (line, column) = source.position(self.span.offset);
        Diagnostic {
            code: self.code,
            severity: self.code.severity(),
            file: source.file().to_owned(),
            line,
            column,
            offset: self.span.offset,
            length: self.span.len,
            message: self.message,
            remedy: self.remedy,
            suggestion: self.suggestion,
            labels: self
                .labels
                .into_iter()
                .map(|label| place_label(label, source))
                .collect(),
        }
    }
}

fn place_label((span, message): (Span, String), source: &Source) -> Label {
    let (line, column) = source.position(span.offset);
    Label {
        line,
        column,
        offset: span.offset,
        length: span.len,
        message,
    }
}

/// Whether any of the mistakes refuses the definition.
pub(crate) fn refuses(mistakes: &[Mistake]) -> bool {
    mistakes
        .iter()
        .any(|mistake| mistake.code.severity() == Severity::Error)
}

/// Whether so many mistakes are found that looking for more would only cost time: a suggestion
/// compares a name with every other one.
pub(crate) fn is_enough(mistakes: &[Mistake]) -> bool {
    mistakes.len() >= 2 * MAX_DIAGNOSTICS
}
