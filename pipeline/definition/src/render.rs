//! Mistakes as people read them: place, fact, the line with a caret, remedy.

use std::fmt;

use crate::code::Severity;
use crate::diagnostic::{Diagnostic, Label};
use crate::source::{Source, is_safe_to_print};

/// Writes one mistake as a block of lines that ends with a line break.
pub(crate) fn block(
    f: &mut fmt::Formatter<'_>,
    found: &Diagnostic,
    source: &Source,
) -> fmt::Result {
    let severity = match found.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let Diagnostic {
        file,
        line,
        column,
        code,
        message,
        ..
    } = found;
    writeln!(f, "{file}:{line}:{column}: {severity}[{code}]: {message}")?;
    let gutter = gutter_width(found);
    writeln!(f, "{:gutter$} |", "")?;
    snippet(f, source, &Marked::primary(found), gutter)?;
    for label in &found.labels {
        snippet(f, source, &Marked::secondary(label), gutter)?;
    }
    writeln!(f, "{:gutter$} = help: {}", "", found.remedy)
}

/// Room for the largest line number of the block.
fn gutter_width(found: &Diagnostic) -> usize {
    let largest = found
        .labels
        .iter()
        .map(|label| label.line)
        .fold(found.line, usize::max);
    largest.to_string().len()
}

/// A stretch of one line and how it is underlined.
struct Marked<'a> {
    line: usize,
    column: usize,
    offset: usize,
    length: usize,
    underline: char,
    note: &'a str,
}

impl<'a> Marked<'a> {
    fn primary(found: &Diagnostic) -> Self {
        let Diagnostic {
            line,
            column,
            offset,
            length,
            ..
        } = *found;
        Self {
            line,
            column,
            offset,
            length,
            underline: '^',
            note: "",
        }
    }

    fn secondary(label: &'a Label) -> Self {
        let Label {
            line,
            column,
            offset,
            length,
            ..
        } = *label;
        Self {
            line,
            column,
            offset,
            length,
            underline: '-',
            note: &label.message,
        }
    }
}

fn snippet(
    f: &mut fmt::Formatter<'_>,
    source: &Source,
    marked: &Marked<'_>,
    gutter: usize,
) -> fmt::Result {
    let line = source.line(marked.line);
    let printable: String = line
        .chars()
        .map(|c| if is_safe_to_print(c) { c } else { '\u{FFFD}' })
        .collect();
    writeln!(f, "{:>gutter$} | {printable}", marked.line)?;
    let rest_of_line = line.chars().count().saturating_sub(marked.column - 1);
    let end = marked.offset + marked.length;
    let length = source
        .text()
        .get(marked.offset..end)
        .map_or(0, |text| text.chars().count());
    let carets: String =
        std::iter::repeat_n(marked.underline, length.min(rest_of_line).max(1)).collect();
    let line = format!(
        "{:gutter$} | {:indent$}{carets} {}",
        "",
        "",
        marked.note,
        indent = marked.column - 1
    );
    writeln!(f, "{}", line.trim_end())
}
