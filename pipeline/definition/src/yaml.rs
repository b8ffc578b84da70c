//! The tree of a definition file: YAML 1.2 without the parts that hide what a file says.
//!
//! Refused are anchors, aliases, merge keys, tags, directives, tabs, keys that are not text,
//! duplicate keys, several documents, and anything beyond the limits below.

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError};

use crate::code::Code;
use crate::diagnostic::Mistake;
use crate::file::{report_forbidden_characters, report_tabs};
use crate::scalar::Scalar;
use crate::source::{Quoted, Source, Span};

/// Deepest nesting of maps and lists: the language itself needs 5, values of `with` a few more.
pub const MAX_DEPTH: usize = 32;

/// Most scalars, lists and maps in one file.
pub const MAX_NODES: usize = 20_000;

/// A value of the file with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Already reported; checks pass over it.
    Refused,
}

/// One key of a map with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Node,
}

/// A key as written, or a name taken from one.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// Reads the one document of a file. `None` means that nothing could be read, and why is reported.
pub(crate) fn read(source: &Source, mistakes: &mut Vec<Mistake>) -> Option<Node> {
    if report_forbidden_characters(source, mistakes) {
        return None;
    }
    let has_tabs = report_tabs(source, mistakes);
    // One blank for one tab keeps every position, so the rest of the file can be checked too.
    let text = if has_tabs {
        source.text().replace('\t', " ")
    } else {
        source.text().to_owned()
    };
    let mut tree = Tree::new(mistakes);
    match tree.build(&text) {
        Ok(root) => root,
        Err(Stop::Reported) => None,
        // With tabs for indentation, the syntax error says the same in a less helpful way.
        Err(Stop::Syntax(_)) if has_tabs => None,
        Err(Stop::Syntax(error)) => {
            mistakes.push(syntax_mistake(source, &error));
            None
        }
    }
}

enum Stop {
    /// The reason is among the mistakes.
    Reported,
    Syntax(ScanError),
}

/// A list or map whose end has not come yet.
struct Open {
    start: usize,
    /// The collection stands where a key is expected, which is already reported.
    is_key: bool,
    collected: Collected,
}

enum Collected {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<PendingKey>,
    },
}

/// A key whose value has not come yet.
enum PendingKey {
    Good(Key),
    /// Reported; its value is read and dropped.
    Refused,
}

struct Tree<'a> {
    mistakes: &'a mut Vec<Mistake>,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
}

impl<'a> Tree<'a> {
    fn new(mistakes: &'a mut Vec<Mistake>) -> Self {
        Self {
            mistakes,
            open: Vec::new(),
            root: None,
            nodes: 0,
        }
    }

    fn build(&mut self, text: &str) -> Result<Option<Node>, Stop> {
        let options = granit_parser::options! {
            disallow_directives: true,
            emit_unresolved_aliases: true,
            emit_anchor_events: true,
            emit_comments: false,
            flow_nesting_limit: MAX_DEPTH + 1,
            block_nesting_limit: MAX_DEPTH + 1,
        };
        let mut documents = 0;
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, at) = next.map_err(Stop::Syntax)?;
            let span = byte_span(&at);
            if matches!(event, Event::DocumentStart(..)) {
                documents += 1;
                if documents > 1 {
                    self.report(
                        Code::NotOneDocument,
                        span,
                        "a second document starts here",
                        ONE_DOCUMENT,
                    );
                    return Err(Stop::Reported);
                }
            }
            if let Some(tag) = at.tag_span() {
                let remedy = "remove the tag: types follow from the key";
                self.report(Code::Tag, byte_span(&tag), "a tag stands here", remedy);
            }
            self.event(event, span)?;
        }
        if self.root.is_none() {
            self.report(
                Code::NotOneDocument,
                Span::default(),
                "the file is empty",
                ONE_DOCUMENT,
            );
        }
        Ok(self.root.take())
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                self.node(
                    span,
                    Content::Scalar(Scalar {
                        text: text.into_owned(),
                        plain,
                    }),
                )
            }
            Event::SequenceStart(..) => self.start(span, Collected::List(Vec::new())),
            Event::MappingStart(..) => self.start(
                span,
                Collected::Map {
                    entries: Vec::new(),
                    key: None,
                },
            ),
            Event::SequenceEnd | Event::MappingEnd => {
                self.end(span);
                Ok(())
            }
            Event::Anchor(..) => {
                self.report(Code::Indirection, span, "an anchor stands here", SPELL_OUT);
                Ok(())
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.report(Code::Indirection, span, "an alias stands here", SPELL_OUT);
                self.node(span, Content::Refused)
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, span: Span, collected: Collected) -> Result<(), Stop> {
        self.count(span)?;
        if self.open.len() == MAX_DEPTH {
            self.report(Code::TooNested, span, TOO_DEEP.0, TOO_DEEP.1);
            return Err(Stop::Reported);
        }
        let is_key = matches!(
            self.open.last(),
            Some(Open {
                collected: Collected::Map { key: None, .. },
                ..
            })
        );
        if is_key {
            self.report(
                Code::KeyNotText,
                span,
                "a list or map stands as a key",
                TEXT_KEY,
            );
        }
        self.open.push(Open {
            start: span.offset,
            is_key,
            collected,
        });
        Ok(())
    }

    fn end(&mut self, span: Span) {
        let Some(open) = self.open.pop() else { return };
        let content = match open.collected {
            _ if open.is_key => Content::Refused,
            Collected::List(items) => Content::List(items),
            Collected::Map { entries, .. } => Content::Map(entries),
        };
        let end = (span.offset + span.len).max(open.start);
        self.attach(Node {
            span: Span::new(open.start, end - open.start),
            content,
        });
    }

    fn node(&mut self, span: Span, content: Content) -> Result<(), Stop> {
        self.count(span)?;
        self.attach(Node { span, content });
        Ok(())
    }

    fn count(&mut self, span: Span) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("the file has more than {MAX_NODES} values");
            let remedy = "move data out of the definition and give its path as an input";
            self.report(Code::TooNested, span, &message, remedy);
            return Err(Stop::Reported);
        }
        Ok(())
    }

    fn attach(&mut self, node: Node) {
        let Some(Open { collected, .. }) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match collected {
            Collected::List(items) => items.push(node),
            Collected::Map { entries, key } => match key.take() {
                Some(PendingKey::Good(key)) => entries.push(Entry { key, value: node }),
                Some(PendingKey::Refused) => {}
                None => *key = Some(read_key(node, entries, self.mistakes)),
            },
        }
    }

    fn report(&mut self, code: Code, span: Span, message: &str, remedy: &str) {
        self.mistakes
            .push(Mistake::new(code, span, message, remedy));
    }
}

const ONE_DOCUMENT: &str = "a definition file holds exactly one definition: one YAML map";
const SPELL_OUT: &str =
    "write the value out where it is used; `defaults` and `inputs` share values";
const TEXT_KEY: &str = "write the key as text, in quotes if need be";
const TOO_DEEP: (&str, &str) = (
    "lists and maps are nested deeper than 32 levels",
    "flatten the value",
);

fn read_key(node: Node, entries: &[Entry], mistakes: &mut Vec<Mistake>) -> PendingKey {
    use crate::scalar::Meaning;
    let span = node.span;
    let Content::Scalar(scalar) = node.content else {
        return PendingKey::Refused;
    };
    if scalar.plain && scalar.text == "<<" {
        mistakes.push(Mistake::new(
            Code::Indirection,
            span,
            "a merge key stands here",
            SPELL_OUT,
        ));
        return PendingKey::Refused;
    }
    if !matches!(scalar.meaning(), Meaning::Text(_)) {
        let message = format!("the key {} is not text", Quoted(&scalar.text));
        mistakes.push(Mistake::new(Code::KeyNotText, span, message, TEXT_KEY));
        return PendingKey::Refused;
    }
    if let Some(first) = entries.iter().find(|entry| entry.key.text == scalar.text) {
        let message = format!("the key {} is written twice", Quoted(&scalar.text));
        let mistake = Mistake::new(Code::DuplicateKey, span, message, "remove one of the two");
        mistakes.push(mistake.label(first.key.span, "first written here"));
        return PendingKey::Refused;
    }
    PendingKey::Good(Key {
        text: scalar.text,
        span,
    })
}

fn byte_span(at: &granit_parser::Span) -> Span {
    let start = at.start.byte_offset().unwrap_or_default();
    let end = at.end.byte_offset().unwrap_or(start);
    Span::new(start, end.saturating_sub(start))
}

fn syntax_mistake(source: &Source, error: &ScanError) -> Mistake {
    let offset = error
        .marker()
        .byte_offset()
        .unwrap_or_default()
        .min(source.text().len());
    let span = Span::new(offset, 0);
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => {
            Mistake::new(Code::TooNested, span, TOO_DEEP.0, TOO_DEEP.1)
        }
        ErrorKind::DirectiveDisallowed => {
            let remedy = "remove the line: a definition is always YAML 1.2";
            Mistake::new(Code::Tag, span, "a directive stands here", remedy)
        }
        kind => {
            let (line, _) = source.position(offset);
            let near = [line.saturating_sub(1).max(1), line];
            let remedy = if near.iter().any(|line| source.line(*line).contains("${{")) {
                "put the expression in double quotes: braces mean something else to YAML"
            } else {
                "check indentation, quotes and brackets here and on the line before"
            };
            Mistake::new(
                Code::Syntax,
                span,
                format!("the file is not YAML: {kind}"),
                remedy,
            )
        }
    }
}
