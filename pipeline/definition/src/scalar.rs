//! What an unquoted or quoted scalar stands for: the core schema of YAML 1.2 (section 10.3.2),
//! without the spellings that YAML 1.1, YAML 1.2 and JSON read differently.

use serde_json::{Number, Value};

/// Largest whole number that canonical JSON (RFC 8785, section 3.2.2.3) keeps exactly. A larger
/// one would let two different plans have the same digest.
pub(crate) const MAX_INTEGER: i64 = (1 << 53) - 1;

/// A scalar as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar {
    /// The text without quotes and escapes.
    pub(crate) text: String,
    /// Whether it stands without quotes, so that it may be something else than text.
    pub(crate) plain: bool,
}

/// What a scalar stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    /// Refused because readers disagree; says what the problem is.
    Ambiguous(Ambiguity),
}

/// Why an unquoted scalar is refused, and the spelling that everyone reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ambiguity {
    /// `True`, `TRUE`, `False`, `FALSE`.
    Bool,
    /// `017`, `-07`: octal in YAML 1.1.
    LeadingZero,
    /// `0x1F`, `0o17`, `0b1`.
    Radix,
    /// Beyond [`MAX_INTEGER`], or a float that is not finite.
    Unrepresentable,
}

impl Ambiguity {
    /// The rest of "`…` is …".
    pub(crate) fn fact(self) -> &'static str {
        match self {
            Self::Bool => "a boolean to some readers and text to others",
            Self::LeadingZero => "an octal number to some readers and a decimal one to others",
            Self::Radix => "a number to some readers and text to others",
            Self::Unrepresentable => "a number that JSON cannot carry exactly",
        }
    }

    /// What to write.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Bool => "write `true` or `false` for a boolean, or quote it for text",
            Self::LeadingZero => "drop the leading zero for a number, or quote it for text",
            Self::Radix => "write a decimal number, or quote it for text",
            Self::Unrepresentable => {
                "write a finite number of at most 9007199254740991, or quote it for text"
            }
        }
    }
}

impl Scalar {
    /// What the scalar stands for.
    pub(crate) fn meaning(&self) -> Meaning<'_> {
        if self.plain {
            plain(&self.text)
        } else {
            Meaning::Text(&self.text)
        }
    }

    /// Whether it is one of the words that YAML 1.1 reads as a boolean and YAML 1.2 as text.
    pub(crate) fn is_old_boolean(&self) -> bool {
        const WORDS: [&str; 6] = ["yes", "no", "on", "off", "y", "n"];
        self.plain
            && WORDS
                .iter()
                .any(|word| self.text.eq_ignore_ascii_case(word))
    }
}

impl Meaning<'_> {
    /// The value in JSON; an ambiguous scalar has none.
    pub(crate) fn to_json(self) -> Option<Value> {
        match self {
            Self::Null => Some(Value::Null),
            Self::Bool(value) => Some(Value::Bool(value)),
            Self::Int(value) => Some(Value::from(value)),
            Self::Float(value) => Number::from_f64(value).map(Value::Number),
            Self::Text(text) => Some(Value::String(text.to_owned())),
            Self::Ambiguous(_) => None,
        }
    }
}

/// Whether a number survives canonical JSON unchanged.
pub(crate) fn is_exact(number: &Number) -> bool {
    match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => (-MAX_INTEGER..=MAX_INTEGER).contains(&integer),
        (None, Some(float)) => !number.is_u64() && float.is_finite(),
        (None, None) => false,
    }
}

fn plain(text: &str) -> Meaning<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
        "true" => Meaning::Bool(true),
        "false" => Meaning::Bool(false),
        "True" | "TRUE" | "False" | "FALSE" => Meaning::Ambiguous(Ambiguity::Bool),
        _ if is_special_float(text) => Meaning::Ambiguous(Ambiguity::Unrepresentable),
        _ if has_radix(text) => Meaning::Ambiguous(Ambiguity::Radix),
        _ => number(text).unwrap_or(Meaning::Text(text)),
    }
}

fn is_special_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let infinite = matches!(unsigned, ".inf" | ".Inf" | ".INF");
    infinite || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// `0x`, `0o` or `0b` and at least one digit.
fn has_radix(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    [("0x", 16), ("0o", 8), ("0b", 2)]
        .iter()
        .any(|(prefix, radix)| {
            unsigned.strip_prefix(prefix).is_some_and(|digits| {
                !digits.is_empty() && digits.chars().all(|c| c.is_digit(*radix))
            })
        })
}

/// `[-+]?[0-9]+` is an integer, `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?` a float.
fn number(text: &str) -> Option<Meaning<'_>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let is_integer = whole > 0 && whole == unsigned.len();
    if !is_integer && !is_float(unsigned) {
        return None;
    }
    if whole > 1 && unsigned.starts_with('0') {
        return Some(Meaning::Ambiguous(Ambiguity::LeadingZero));
    }
    let exact = if is_integer {
        text.parse()
            .ok()
            .filter(|n| (-MAX_INTEGER..=MAX_INTEGER).contains(n))
            .map(Meaning::Int)
    } else {
        text.parse()
            .ok()
            .filter(|f: &f64| f.is_finite())
            .map(Meaning::Float)
    };
    Some(exact.unwrap_or(Meaning::Ambiguous(Ambiguity::Unrepresentable)))
}

fn is_float(unsigned: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(unsigned);
    let mut rest = &unsigned[whole..];
    let mut fraction = 0;
    if let Some(after_point) = rest.strip_prefix('.') {
        fraction = digits(after_point);
        rest = &after_point[fraction..];
    }
    if whole + fraction == 0 {
        return false;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> Meaning<'_> {
        plain(text)
    }

    #[test]
    fn unquoted_scalars_follow_the_core_schema() {
        assert_eq!(meaning("~"), Meaning::Null);
        assert_eq!(meaning("true"), Meaning::Bool(true));
        assert_eq!(meaning("-12"), Meaning::Int(-12));
        assert_eq!(meaning("+3"), Meaning::Int(3));
        assert_eq!(meaning("1.5"), Meaning::Float(1.5));
        assert_eq!(meaning(".5"), Meaning::Float(0.5));
        assert_eq!(meaning("5."), Meaning::Float(5.0));
        assert_eq!(meaning("1e3"), Meaning::Float(1000.0));
    }

    #[test]
    fn words_and_near_numbers_are_text() {
        for text in [
            "yes", "no", "on", "1.2.3", "1_000", "12:30", "-", ".", "e5", "1e", "0x", "v1",
        ] {
            assert_eq!(meaning(text), Meaning::Text(text));
        }
    }

    #[test]
    fn spellings_that_readers_disagree_on_are_ambiguous() {
        let cases = [
            ("True", Ambiguity::Bool),
            ("017", Ambiguity::LeadingZero),
            ("-07", Ambiguity::LeadingZero),
            ("00.5", Ambiguity::LeadingZero),
            ("0x1F", Ambiguity::Radix),
            ("0o17", Ambiguity::Radix),
            (".inf", Ambiguity::Unrepresentable),
            ("-.INF", Ambiguity::Unrepresentable),
            (".nan", Ambiguity::Unrepresentable),
            ("9007199254740992", Ambiguity::Unrepresentable),
            ("1e999", Ambiguity::Unrepresentable),
        ];
        for (text, expected) in cases {
            assert_eq!(meaning(text), Meaning::Ambiguous(expected), "{text}");
        }
    }

    #[test]
    fn quoted_scalars_are_text() {
        let quoted = Scalar {
            text: "true".to_owned(),
            plain: false,
        };
        assert_eq!(quoted.meaning(), Meaning::Text("true"));
    }

    #[test]
    fn a_number_beyond_53_bits_is_not_exact() {
        assert!(is_exact(&Number::from(MAX_INTEGER)));
        assert!(!is_exact(&Number::from(MAX_INTEGER + 1)));
        assert!(!is_exact(&Number::from(u64::MAX)));
    }
}
