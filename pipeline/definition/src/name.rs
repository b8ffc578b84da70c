//! Names that authors give: to jobs, inputs, outputs and elements.

use crate::code::Code;
use crate::diagnostic::Mistake;
use crate::source::Quoted;
use crate::yaml::Key;

/// Most characters of a name: one line of a terminal holds a few of them.
const MAX_NAME: usize = 64;

/// Reports a name that is not `[a-z][a-z0-9_]*`. It is used all the same: what refers to it is not
/// wrong for that.
pub(crate) fn check_name(key: &Key, what: &str, mistakes: &mut Vec<Mistake>) {
    if is_name(&key.text) {
        return;
    }
    let Key { text, span } = key;
    let message = format!("{} is not a name for {what}", Quoted(text));
    let repaired = repair_name(text);
    let remedy = match &repaired {
        Some(name) => format!("write `{name}`: names are a-z, 0-9 and _, and start with a letter"),
        None => {
            "write a name of a-z, 0-9 and _ that starts with a letter, at most 64 long".to_owned()
        }
    };
    mistakes.push(Mistake::new(Code::BadName, *span, message, remedy).suggest(repaired));
}

/// Whether a text is a name that an author may give.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The name with hyphens, blanks and capitals replaced, if that makes it one.
fn repair_name(text: &str) -> Option<String> {
    let replaced: String = text
        .chars()
        .map(|c| {
            if matches!(c, '-' | ' ' | '.') {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    is_name(&replaced).then_some(replaced)
}
