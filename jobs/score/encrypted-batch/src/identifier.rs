//! Random names of batches and grants.

use std::{fmt, str::FromStr};

use sealift_signed_document::SecretBytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Text that is not a batch or grant id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch or grant id is 32 lower-case hex digits")]
pub struct ParseIdError;

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Draws 128 random bits.
            pub fn random() -> Self {
                Self(*SecretBytes::<16>::random().expose())
            }

            /// Takes 16 bytes that already are such an id.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(ParseIdError);
                }
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError)?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

random_id!(
    /// Names one batch of one user: 128 random bits as 32 lower-case hex digits.
    BatchId
);
random_id!(
    /// Names one grant (user × model): 128 random bits as 32 lower-case hex digits.
    GrantId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses_as_lower_case_hex() {
        let id = BatchId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string(), "ab".repeat(16));
        assert_eq!("ab".repeat(16).parse(), Ok(id));
        assert_eq!("AB".repeat(16).parse::<BatchId>(), Err(ParseIdError));
        assert_eq!("ab".repeat(15).parse::<BatchId>(), Err(ParseIdError));
    }

    #[test]
    fn two_random_ids_differ() {
        assert_ne!(GrantId::random(), GrantId::random());
    }
}
