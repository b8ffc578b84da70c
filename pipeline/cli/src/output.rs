//! Where commands speak: lines for people, one JSON document or JSON lines for programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// How to speak, decided once from the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether progress bars make sense: a person is watching standard error.
    pub(crate) fn has_bars(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// A line for people; silent for programs.
    pub(crate) fn line(self, text: impl AsRef<str>) {
        if !self.json {
            // A closed pipe (`sealift runs | head`) is not an error of ours.
            drop(writeln!(anstream::stdout(), "{}", text.as_ref()));
        }
    }

    /// A remark that is no result: to standard error, so that pipes stay clean.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.json {
            drop(writeln!(anstream::stderr(), "{}", text.as_ref()));
        }
    }

    /// One JSON document on one line; silent for people.
    pub(crate) fn document<T: Serialize>(self, value: &T) {
        if self.json
            && let Ok(text) = serde_json::to_string(value)
        {
            drop(writeln!(io::stdout(), "{text}"));
        }
    }

    /// The one failure of a command, to standard error in either form.
    pub(crate) fn failure(self, failure: &crate::failure::Failure) {
        let text = if self.json {
            failure.to_json().to_string()
        } else {
            failure.to_string()
        };
        drop(writeln!(anstream::stderr(), "{text}"));
    }
}

/// Left-aligned columns, two spaces apart.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_space() {
        let rows = [
            vec!["job".into(), "state".into()],
            vec!["publish".into(), "ok".into()],
        ];
        assert_eq!(table(&rows), "job      state\npublish  ok\n");
    }
}
