//! Names of pods.

use std::{fmt, str::FromStr};

use sealift_kbs_protocol::Name;
use sealift_signed_document::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest name: two names of 63 characters, a mark of 12, two hyphens.
const MAX_BYTES: usize = 140;
/// Hex digits of the mark that tells runs apart.
const MARK_CHARS: usize = 12;

/// The name of a pod: `[a-z0-9][a-z0-9_.-]{0,139}`, so that it is safe as a folder name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName(String);

/// Text that is no name of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pod's name has 1 to {MAX_BYTES} characters from a-z, 0-9, `_`, `.` and `-`, and starts \
     with a letter or digit"
)]
pub struct ParsePodNameError;

impl PodName {
    /// The one name of the pod that `run` uses for `version` of `model`:
    /// `<model>-<version>-<mark>`. The mark is a digest of all three, because their texts joined
    /// by hyphens could be read in more than one way.
    pub fn of(run: &str, model: &Name, version: &Name) -> Self {
        let digest = Digest::of(format!("{run}\0{model}\0{version}").as_bytes()).to_string();
        Self(format!("{model}-{version}-{}", &digest[..MARK_CHARS]))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PodName {
    type Err = ParsePodNameError;

    fn from_str(text: &str) -> Result<Self, ParsePodNameError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first = text.bytes().next().is_some_and(plain);
        let rest = text
            .bytes()
            .all(|b| plain(b) || matches!(b, b'_' | b'.' | b'-'));
        if first && rest && text.len() <= MAX_BYTES {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParsePodNameError)
        }
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for PodName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PodName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_run_has_one_name_for_a_version_and_shares_it_with_nobody() {
        let of = |run, model, version| PodName::of(run, &name(model), &name(version));
        assert_eq!(of("r1", "a", "b"), of("r1", "a", "b"));
        assert_ne!(of("r1", "a", "b"), of("r2", "a", "b"));
        assert_ne!(of("r1", "a-b", "c"), of("r1", "a", "b-c"));
        assert!(of("r1", "a", "b").as_str().starts_with("a-b-"));
    }

    #[test]
    fn the_longest_names_make_a_name_that_is_read_back() {
        let long = "x".repeat(63);
        let pod = PodName::of("r", &name(&long), &name(&long));
        assert_eq!(pod.as_str().parse(), Ok(pod));
    }

    #[test]
    fn what_could_leave_the_folder_of_specs_is_no_name() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/a",
            "-a",
            "A",
            "a b",
            &"x".repeat(141),
        ] {
            assert_eq!(bad.parse::<PodName>(), Err(ParsePodNameError), "{bad}");
        }
    }
}
