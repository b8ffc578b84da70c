//! The init-data document of Confidential Containers, version 0.1.0: a TOML file with a map from
//! file names to texts.
//!
//! Its digest is over the raw bytes, so this crate writes one form only and reads nothing else.

use std::collections::BTreeMap;

use sealift_signed_document::Digest;
use serde::Deserialize;

/// Largest init-data: Kubernetes keeps all annotations of an object below 256 KiB.
pub const MAX_INIT_DATA_BYTES: usize = 256 << 10;

/// Longest name of an entry.
const MAX_NAME_BYTES: usize = 64;

const LITERAL_QUOTES: &str = "'''";

/// Init-data in the one form that this crate writes, with its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitData {
    text: String,
    entries: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: String,
    algorithm: String,
    data: BTreeMap<String, String>,
}

/// Why bytes are not init-data of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitDataError {
    /// Larger than what a pod can carry.
    #[error("init-data of {bytes} bytes is larger than {MAX_INIT_DATA_BYTES}; shorten its texts")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("init-data is not UTF-8 text")]
    NotText,
    /// Not the TOML document.
    #[error("init-data is not a TOML document with `version`, `algorithm` and `[data]`")]
    Toml(#[source] Box<toml::de::Error>),
    /// Another version or digest algorithm.
    #[error("init-data has {member} = {found:?}; only {expected:?} is written and read")]
    Unsupported {
        /// `version` or `algorithm`.
        member: &'static str,
        /// What stands there.
        found: String,
        /// What must stand there.
        expected: &'static str,
    },
    /// An entry name that is no plain file name.
    #[error(
        "init-data entry {name:?} is not a file name of lower-case letters, digits, `-` and `.`"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A text that the written form cannot hold.
    #[error(
        "the text of init-data entry `{name}` must end with a newline and hold neither `'''` nor \
         control characters"
    )]
    Text {
        /// The entry's name.
        name: String,
    },
    /// The same entries are written in another way.
    #[error("init-data is not in its canonical form; render it again")]
    NotCanonical,
    /// Not what the process was started with.
    #[error("init-data has SHA-256 {found}, this guest was started with {expected}")]
    OtherHostData {
        /// Of the bytes that were given.
        found: Digest,
        /// From the guest's own report.
        expected: Digest,
    },
    /// There is no such entry.
    #[error("init-data has no entry `{name}`")]
    NoEntry {
        /// The entry's name.
        name: &'static str,
    },
    /// An entry is not the TOML that it should be.
    #[error("init-data entry `{name}` is not valid")]
    Entry {
        /// The entry's name.
        name: &'static str,
        /// What is wrong.
        #[source]
        source: Box<toml::de::Error>,
    },
}

const VERSION: &str = "0.1.0";
const ALGORITHM: &str = "sha256";

impl InitData {
    /// Writes the document that holds `entries`, in the order of their names.
    pub fn from_entries(entries: BTreeMap<String, String>) -> Result<Self, InitDataError> {
        let mut text = format!("version = \"{VERSION}\"\nalgorithm = \"{ALGORITHM}\"\n\n[data]\n");
        for (name, content) in &entries {
            check_entry(name, content)?;
            // TOML drops the newline after the opening quotes, so the content stays as it is.
            for part in [
                "\"",
                name,
                "\" = ",
                LITERAL_QUOTES,
                "\n",
                content,
                LITERAL_QUOTES,
                "\n",
            ] {
                text.push_str(part);
            }
        }
        if text.len() > MAX_INIT_DATA_BYTES {
            return Err(InitDataError::TooLarge { bytes: text.len() });
        }
        Ok(Self { text, entries })
    }

    /// Reads a document; anything but the exact bytes that [`Self::from_entries`] writes is
    /// refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, InitDataError> {
        if bytes.len() > MAX_INIT_DATA_BYTES {
            return Err(InitDataError::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| InitDataError::NotText)?;
        let document: Document =
            toml::from_str(text).map_err(|error| InitDataError::Toml(Box::new(error)))?;
        for (member, found, expected) in [
            ("version", document.version, VERSION),
            ("algorithm", document.algorithm, ALGORITHM),
        ] {
            if found != expected {
                return Err(InitDataError::Unsupported {
                    member,
                    found,
                    expected,
                });
            }
        }
        let own = Self::from_entries(document.data)?;
        if own.as_bytes() == bytes {
            Ok(own)
        } else {
            Err(InitDataError::NotCanonical)
        }
    }

    /// Takes init-data from an untrusted channel: only the bytes that this process was started
    /// with, by the HOST_DATA of its own report.
    pub fn accept(bytes: &[u8], host_data: &[u8; 32]) -> Result<Self, InitDataError> {
        let (found, expected) = (Digest::of(bytes), Digest::from_bytes(*host_data));
        if found != expected {
            return Err(InitDataError::OtherHostData { found, expected });
        }
        Self::parse(bytes)
    }

    /// The raw bytes, which are what is measured.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The raw text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the raw bytes: the HOST_DATA of a guest that was started with them.
    pub fn digest(&self) -> Digest {
        Digest::of(self.as_bytes())
    }

    /// The texts by their names.
    pub fn entries(&self) -> &BTreeMap<String, String> {
        &self.entries
    }
}

fn check_entry(name: &str, content: &str) -> Result<(), InitDataError> {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
        return Err(InitDataError::Name {
            name: name.to_owned(),
        });
    }
    let writable = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    if !content.ends_with('\n')
        || content.contains(LITERAL_QUOTES)
        || !content.chars().all(writable)
    {
        return Err(InitDataError::Text {
            name: name.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    fn sample() -> InitData {
        InitData::from_entries(entries(&[("b.toml", "x = 'y'\n"), ("a.toml", "\n# é\n")])).unwrap()
    }

    #[test]
    fn the_written_form_is_fixed() {
        assert_eq!(
            sample().as_str(),
            "version = \"0.1.0\"\nalgorithm = \"sha256\"\n\n[data]\n\"a.toml\" = '''\n\n# é\n'''\n\
             \"b.toml\" = '''\nx = 'y'\n'''\n"
        );
        // By sha256sum over the text above.
        assert_eq!(
            sample().digest().to_string(),
            "598c69813c7df35644e0b07a6dd5993292b873b807fdce280ac4ef158a217110"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(InitData::parse(sample().as_bytes()).unwrap(), sample());
    }

    #[test]
    fn another_spelling_of_the_same_entries_is_refused() {
        let text = sample().as_str().to_owned();
        for spoiled in [
            text.replacen(" = ", "  = ", 1),
            text.clone() + "\n",
            text.trim_end().to_owned(),
            text.replace("[data]", "# a comment\n[data]"),
            text.replace('\n', "\r\n"),
        ] {
            assert!(InitData::parse(spoiled.as_bytes()).is_err(), "{spoiled}");
        }
    }

    #[test]
    fn another_version_algorithm_or_member_is_refused() {
        let text = sample().as_str().to_owned();
        for spoiled in [
            text.replace("0.1.0", "0.1.1"),
            text.replace("sha256", "sha384"),
            text.replace("[data]", "extra = 1\n[data]"),
            text.replace("algorithm = \"sha256\"\n", ""),
        ] {
            assert!(InitData::parse(spoiled.as_bytes()).is_err(), "{spoiled}");
        }
    }

    #[test]
    fn texts_that_cannot_be_written_are_refused() {
        for text in ["no newline", "'''\n", "carriage\r\n", "zero\0\n", ""] {
            let refused = InitData::from_entries(entries(&[("a.toml", text)]));
            assert!(
                matches!(refused, Err(InitDataError::Text { .. })),
                "{text:?}"
            );
        }
        for name in ["", "A", "a b", "a\"", "../a", &"a".repeat(65)] {
            let refused = InitData::from_entries(entries(&[(name, "x\n")]));
            assert!(
                matches!(refused, Err(InitDataError::Name { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn oversized_init_data_is_refused() {
        let big = "x\n".repeat(MAX_INIT_DATA_BYTES / 2);
        let refused = InitData::from_entries(entries(&[("a.toml", &big)]));
        assert!(matches!(refused, Err(InitDataError::TooLarge { .. })));
        let refused = InitData::parse(&vec![b'#'; MAX_INIT_DATA_BYTES + 1]);
        assert!(matches!(refused, Err(InitDataError::TooLarge { .. })));
    }

    #[test]
    fn a_guest_accepts_only_what_it_was_started_with() {
        let own = sample();
        let host_data = own.digest();
        InitData::accept(own.as_bytes(), host_data.as_bytes()).unwrap();
        let other = InitData::from_entries(entries(&[("a.toml", "z\n")])).unwrap();
        assert!(matches!(
            InitData::accept(other.as_bytes(), host_data.as_bytes()),
            Err(InitDataError::OtherHostData { .. })
        ));
    }

    proptest! {
        #[test]
        fn every_writable_text_survives(texts in proptest::collection::btree_map(
            "[a-z]{1,8}\\.toml", "[ -&(-~\\n\\té]{0,80}", 0..4,
        )) {
            let entries: BTreeMap<_, _> =
                texts.into_iter().map(|(name, text)| (name, text + "\n")).collect();
            let written = InitData::from_entries(entries.clone()).unwrap();
            let read = InitData::parse(written.as_bytes()).unwrap();
            prop_assert_eq!(read.entries(), &entries);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(InitData::parse(&bytes));
        }
    }
}
