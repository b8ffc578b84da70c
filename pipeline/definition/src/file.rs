//! The bytes of a definition file: how many, in which encoding, and which characters.

use crate::code::Code;
use crate::diagnostic::Mistake;
use crate::source::{Source, Span, is_safe_to_print};

/// Largest file read: a thousand jobs with long descriptions fit.
pub const MAX_FILE_BYTES: usize = 256 * 1024;

/// Decodes a file. What is reported leaves as much text as a message can quote.
pub(crate) fn decode(file: &str, bytes: &[u8], mistakes: &mut Vec<Mistake>) -> Source {
    if bytes.len() > MAX_FILE_BYTES {
        let message = format!(
            "the file has {} bytes, more than {MAX_FILE_BYTES}",
            bytes.len()
        );
        let remedy = "move data out of the definition and give its path as an input";
        mistakes.push(Mistake::new(
            Code::FileTooLarge,
            Span::default(),
            message,
            remedy,
        ));
        return Source::new(file, String::new());
    }
    match str::from_utf8(bytes) {
        Ok(text) => Source::new(file, text.to_owned()),
        Err(error) => {
            let (message, remedy) = ("the file is not UTF-8", "save the file as UTF-8");
            let at = Span::new(error.valid_up_to(), 0);
            mistakes.push(Mistake::new(Code::NotUtf8, at, message, remedy));
            let readable = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            Source::new(file, readable.into_owned())
        }
    }
}

/// Reports characters that make a file show as something else than it is. Lone carriage returns
/// count: YAML reads them as line breaks, most tools do not.
pub(crate) fn report_forbidden_characters(source: &Source, mistakes: &mut Vec<Mistake>) -> bool {
    let text = source.text();
    let before = mistakes.len();
    for (offset, character) in text.char_indices() {
        let allowed = match character {
            '\n' | '\t' => true,
            '\r' => text[offset + 1..].starts_with('\n'),
            '\u{FEFF}' => offset == 0,
            other => is_safe_to_print(other),
        };
        if !allowed {
            let message = format!(
                "the character U+{:04X} is invisible or reorders text",
                character as u32
            );
            let remedy = "remove it, or write it as an escape in double quotes, as in \"\\u200B\"";
            let span = Span::new(offset, character.len_utf8());
            mistakes.push(Mistake::new(
                Code::ForbiddenCharacter,
                span,
                message,
                remedy,
            ));
        }
    }
    mistakes.len() > before
}

/// Reports the first tab of each line.
pub(crate) fn report_tabs(source: &Source, mistakes: &mut Vec<Mistake>) -> bool {
    let before = mistakes.len();
    let mut line_start = 0;
    for line in source.text().split_inclusive('\n') {
        if let Some(at) = line.find('\t') {
            let length = line[at..].len() - line[at..].trim_start_matches('\t').len();
            mistakes.push(Mistake::new(
                Code::Tab,
                Span::new(line_start + at, length),
                "a tab stands here, which editors show at different widths",
                "indent with spaces; inside double quotes write \\t",
            ));
        }
        line_start += line.len();
    }
    mistakes.len() > before
}
