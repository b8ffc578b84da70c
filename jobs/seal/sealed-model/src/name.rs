//! Names of models, versions, groups and files.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest [`Name`] in bytes.
const NAME_BYTES_MAX: usize = 63;

/// Longest [`FileName`] in bytes: what every file system takes, with room for a suffix.
const FILE_NAME_BYTES_MAX: usize = 127;

/// Text that is not a name of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not the name of a model, version, group or role.
    #[error(
        "`{0}` is not a name; use 1 to 63 of a-z, 0-9, `_`, `.`, `-`, beginning with a letter or digit"
    )]
    Name(String),
    /// Not the name of a file in a version's folder.
    #[error(
        "`{0}` is not a file name; use 1 to 127 of A-Z, a-z, 0-9, `_`, `.`, `-`, beginning with a letter or digit"
    )]
    FileName(String),
}

fn begins_with_and_consists_of(text: &str, max: usize, begins: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    (1..=max).contains(&bytes.len())
        && begins(bytes[0])
        && bytes
            .iter()
            .all(|&b| begins(b) || matches!(b, b'_' | b'.' | b'-'))
}

macro_rules! checked_text {
    ($type:ident, $max:expr, $begins:expr, $error:expr) => {
        impl $type {
            /// The name's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if !begins_with_and_consists_of(text, $max, $begins) {
                    return Err($error(text.to_owned()));
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(de::Error::custom)
            }
        }
    };
}

/// The name of a model, version, layer group or tensor role: `[a-z0-9][a-z0-9_.-]{0,62}`, which
/// is one path segment of a KBS resource and of an object store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

checked_text!(
    Name,
    NAME_BYTES_MAX,
    |b| b.is_ascii_lowercase() || b.is_ascii_digit(),
    NameError::Name
);

/// The name of a file in a version's folder: `[A-Za-z0-9][A-Za-z0-9_.-]{0,126}`, so that it is
/// neither hidden nor a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

checked_text!(
    FileName,
    FILE_NAME_BYTES_MAX,
    |b| b.is_ascii_alphanumeric(),
    NameError::FileName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_lower_case_path_segment() {
        for good in ["a", "0", "bert-base_2.1", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            ".",
            "..",
            "-a",
            "a/b",
            "a b",
            "a%2f",
            "é",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_name_is_neither_hidden_nor_a_path() {
        assert!(
            "model-00001-of-00002.safetensors"
                .parse::<FileName>()
                .is_ok()
        );
        for bad in [
            "",
            ".git",
            "..",
            "a/b",
            "/a",
            "a\\b",
            "a\0",
            &"a".repeat(128),
        ] {
            assert!(bad.parse::<FileName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_name_is_refused_where_it_is_deserialized() {
        let error = serde_json::from_str::<Name>(r#""Bert""#).unwrap_err();
        assert!(
            error.to_string().contains("`Bert` is not a name"),
            "{error}"
        );
    }
}
