//! The text of a definition and positions in it.

use std::fmt;
use std::sync::Arc;

/// A stretch of a definition's text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl Span {
    pub(crate) fn new(offset: usize, len: usize) -> Self {
        Self { offset, len }
    }
}

/// Something read from a definition, with its place.
#[derive(Clone, Debug)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// A definition's file name and text; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: String,
    text: String,
    /// Byte offset of the first character of each line; never empty.
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(file: &str, text: String) -> Self {
        let after_breaks = text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(i, _)| i + 1);
        let lines = std::iter::once(0).chain(after_breaks).collect();
        Self(Arc::new(Inner {
            file: file.to_owned(),
            text,
            lines,
        }))
    }

    pub(crate) fn file(&self) -> &str {
        &self.0.file
    }

    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self
            .0
            .lines
            .partition_point(|start| *start <= offset)
            .max(1);
        let start = self.0.lines[line - 1];
        let end = offset.min(self.0.text.len());
        let column = self
            .0
            .text
            .get(start..end)
            .map_or(0, |before| before.chars().count())
            + 1;
        (line, column)
    }

    /// The text of a line, counted from 1, without its line break.
    pub(crate) fn line(&self, line: usize) -> &str {
        let start = self
            .0
            .lines
            .get(line - 1)
            .copied()
            .unwrap_or(self.0.text.len());
        let end = self.0.lines.get(line).copied().unwrap_or(self.0.text.len());
        self.0
            .text
            .get(start..end)
            .unwrap_or_default()
            .trim_end_matches(['\n', '\r'])
    }

    /// The place of `part` as written inside `span`, or all of `span` if it is not written so.
    pub(crate) fn find_in(&self, span: Span, part: &str) -> Span {
        self.0
            .text
            .get(span.offset..span.offset + span.len)
            .and_then(|written| written.find(part))
            .map_or(span, |at| Span::new(span.offset + at, part.len()))
    }
}

/// Most characters of an author's text that a message repeats.
const MAX_QUOTED: usize = 60;

/// Text of an author inside a message: marked, cut to a bearable length, and unable to move a
/// terminal's cursor or reorder the message.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        for character in self.0.chars().take(MAX_QUOTED) {
            if is_safe_to_print(character) {
                write!(f, "{character}")?;
            } else {
                write!(f, "{}", character.escape_unicode())?;
            }
        }
        f.write_str(if self.0.chars().nth(MAX_QUOTED).is_some() {
            "…`"
        } else {
            "`"
        })
    }
}

/// Names as a message lists them: the first few, quoted, with commas.
pub(crate) fn list_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    /// More names than this no longer help to find the right one.
    const MAX_LISTED: usize = 12;
    let mut names = names.into_iter();
    let mut listed: Vec<String> = names
        .by_ref()
        .take(MAX_LISTED)
        .map(|name| Quoted(name).to_string())
        .collect();
    if names.next().is_some() {
        listed.push("…".to_owned());
    }
    listed.join(", ")
}

/// Whether a character shows as itself: neither a control character nor one that is invisible or
/// reorders what stands around it (Unicode Technical Standard 55, section 3).
pub(crate) fn is_safe_to_print(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{061C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{2069}' | '\u{FEFF}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let source = Source::new("f", "aé\nß: x".to_owned());
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(3), (1, 3));
        assert_eq!(source.position(4), (2, 1));
        assert_eq!(source.position(6), (2, 2));
        assert_eq!(source.position(99), (2, 5));
    }

    #[test]
    fn a_line_is_without_its_break() {
        let source = Source::new("f", "one\r\ntwo\n".to_owned());
        assert_eq!(
            (source.line(1), source.line(2), source.line(3)),
            ("one", "two", "")
        );
    }

    #[test]
    fn quoted_text_is_cut_and_cannot_control_a_terminal() {
        assert_eq!(Quoted("a\u{1b}[2Jb").to_string(), "`a\\u{1b}[2Jb`");
        assert_eq!(Quoted("\u{202e}x").to_string(), "`\\u{202e}x`");
        assert_eq!(
            Quoted(&"x".repeat(61)).to_string(),
            format!("`{}…`", "x".repeat(60))
        );
    }
}
