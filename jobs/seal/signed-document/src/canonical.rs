//! Canonical JSON (RFC 8785), written and demanded.

use serde::{Serialize, de::DeserializeOwned};

use crate::DocumentError;

/// Serialises `value` as RFC 8785 does.
///
/// Integers above 2^53 have no canonical form there; documents keep below.
pub fn canonical_json<T: Serialize>(value: &T) -> Result<Vec<u8>, DocumentError> {
    serde_json_canonicalizer::to_vec(value).map_err(DocumentError::Unwritable)
}

/// Parses bytes that must be the canonical form of what they say.
///
/// Duplicate members, other spellings of a number, insignificant white space and members that
/// `T` does not know are all refused by the one comparison with the re-encoded value.
pub fn parse_canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    let value: T = serde_json::from_slice(bytes).map_err(DocumentError::Malformed)?;
    if canonical_json(&value)? != bytes {
        return Err(DocumentError::NotCanonical);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duplicate_member_is_refused() {
        let parsed = parse_canonical::<BTreeMap<String, u8>>(br#"{"a":1,"a":1}"#);
        assert!(matches!(parsed, Err(DocumentError::NotCanonical)));
    }

    #[test]
    fn members_out_of_order_and_white_space_are_refused() {
        for text in [
            r#"{"b":1,"a":1}"#,
            r#"{"a": 1}"#,
            "{\"a\":1}\n",
            r#"{"\u0061":1}"#,
        ] {
            let parsed = parse_canonical::<BTreeMap<String, u8>>(text.as_bytes());
            assert!(matches!(parsed, Err(DocumentError::NotCanonical)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(map: BTreeMap<String, u32>) {
            let bytes = canonical_json(&map).unwrap();
            prop_assert_eq!(parse_canonical::<BTreeMap<String, u32>>(&bytes).unwrap(), map);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            drop(parse_canonical::<BTreeMap<String, u32>>(&bytes));
        }
    }
}
