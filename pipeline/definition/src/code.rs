//! The codes of mistakes: public, stable, one meaning each.

use serde::{Serialize, Serializer};

/// Whether a finding stops the definition from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The definition is refused.
    Error,
    /// The definition is used; its author probably meant something else.
    Warning,
}

/// Writes the table of codes once: the variant, the code people see, and what it means.
macro_rules! codes {
    ($($variant:ident = $code:literal: $meaning:literal),+ $(,)?) => {
        /// What kind of mistake a diagnostic is about.
        ///
        /// A code keeps its meaning in every later version; a meaning that goes away leaves a gap.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("`", $code, "`: ", $meaning, ".")] $variant,)+
        }

        impl Code {
            /// Every code, in the order of this table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code as printed, as in `E031`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// What the code stands for, in one line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }
        }
    };
}

codes! {
    FileTooLarge = "E001": "the file is larger than a definition may be",
    NotUtf8 = "E002": "the file is not UTF-8",
    Tab = "E003": "the file contains a tab",
    ForbiddenCharacter = "E004": "the file contains a character that is invisible or changes the direction of text",
    Syntax = "E005": "the file is not YAML 1.2",
    NotOneDocument = "E006": "the file does not hold exactly one document",
    Indirection = "E007": "anchors, aliases and merge keys are not part of the language",
    Tag = "E008": "tags and directives are not part of the language",
    TooNested = "E009": "the definition is nested deeper, or has more values, than one may",
    DuplicateKey = "E010": "a key is written twice",
    KeyNotText = "E011": "a key is not text",

    UnknownKey = "E020": "a key is not part of the language",
    UnsupportedKey = "E021": "a key is not supported in this version",
    MissingKey = "E022": "a required key is missing",
    WrongType = "E023": "a value is of another type than its key takes",
    OldBoolean = "E024": "a boolean is written in a way that only YAML 1.1 reads as one",
    OutOfBounds = "E025": "a value is outside its bounds",
    NotADuration = "E026": "a duration is not a whole number with a unit",
    IsoDuration = "E027": "a duration is written in the form of ISO 8601",
    BadName = "E028": "a name is not of the form [a-z][a-z0-9_]*",
    UnknownVersion = "E029": "the version of the language is not one this program reads",
    AmbiguousScalar = "E030": "an unquoted value is read differently by different readers",

    UnknownInputType = "E031": "an input has a type that does not exist",
    MisplacedConstraint = "E032": "a constraint does not belong to the input's type",
    BadDefault = "E033": "a default is not a value of its input",
    BadPattern = "E034": "a pattern is not a regular expression",

    NotAReference = "E040": "an expression is not one of the accepted forms",
    EmbeddedExpression = "E041": "an expression stands inside other text",
    MisplacedExpression = "E042": "an expression stands where only a plain value is accepted",

    DuplicateJob = "E050": "two jobs have the same name",
    UnknownNeed = "E051": "`needs` names a job that does not exist",
    NeedsItself = "E052": "a job needs itself",
    Cycle = "E053": "jobs need each other in a circle",
    NeededTwice = "E054": "`needs` names a job twice",
    NeedAcrossFinally = "E055": "`needs` crosses the border between `jobs` and `finally`",

    UnknownInput = "E060": "a reference names an input that does not exist",
    UnknownJob = "E061": "a reference names a job that does not exist",
    UnknownOutput = "E062": "a reference names an output that the job does not have",
    ReadsItself = "E063": "a job reads its own outputs",
    NotNeeded = "E064": "a job reads the outputs of a job that it does not need",
    UnknownName = "E065": "a reference names an element that is not in scope",
    NotAList = "E066": "`for-each` is given something that is not a list",
    ReadsFinally = "E067": "a reference names a job of `finally` from outside of it",

    UnknownKind = "E070": "a job uses a kind that no worker offers",
    MissingMember = "E071": "`with` lacks a member that the kind requires",
    UnknownMember = "E072": "`with` has a member that the kind does not know",
    WrongMember = "E073": "a value of `with` is not one that the kind accepts",
    WrongReference = "E074": "a reference is of another type than the kind accepts",
    UndecidableMember = "E075": "the kind describes a member in a way that cannot be checked",

    MissingInput = "E080": "an input without a default is not given",
    UnknownGiven = "E081": "a value is given for an input that does not exist",
    WrongGiven = "E082": "a given value is not of its input's type",
    GivenOutOfBounds = "E083": "a given value does not satisfy its input's constraints",
    GivenNotAccepted = "E084": "a given value is not one that a job accepts",

    UnusedInput = "W001": "an input is never read",
    UnusedElement = "W002": "a job runs once per element and never reads the element",
    NothingToUndo = "W003": "`compensate` is asked of a kind that has no effects",
}

impl Code {
    /// Whether the finding refuses the definition: `E…` does, `W…` does not.
    pub fn severity(self) -> Severity {
        if self.as_str().starts_with('E') {
            Severity::Error
        } else {
            Severity::Warning
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_a_letter_and_three_digits_in_ascending_order() {
        let all: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
        for code in all {
            let (letter, digits) = code.split_at(1);
            assert!(matches!(letter, "E" | "W"), "{code}");
            assert!(
                digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()),
                "{code}"
            );
        }
    }

    #[test]
    fn only_codes_that_start_with_e_refuse_a_definition() {
        assert_eq!(Code::Cycle.severity(), Severity::Error);
        assert_eq!(Code::UnusedInput.severity(), Severity::Warning);
    }
}
