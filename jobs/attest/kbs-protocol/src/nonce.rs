//! 256 random bits that make an answer fresh.

use std::str::FromStr;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use sealift_signed_document::SecretBytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A nonce of 32 bytes: standard base64 in documents, base64url without padding in addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce([u8; 32]);

/// Text that is no nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a nonce is 32 bytes in base64")]
pub struct ParseNonceError;

impl Nonce {
    /// Draws a nonce.
    pub fn random() -> Self {
        Self(*SecretBytes::random().expose())
    }

    /// Takes 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The form that stands in a query: base64url without padding.
    pub fn to_query(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Reads the form that stands in a query.
    pub fn from_query(text: &str) -> Result<Self, ParseNonceError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ParseNonceError)?;
        bytes.try_into().map(Self).map_err(|_| ParseNonceError)
    }
}

impl std::fmt::Display for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl FromStr for Nonce {
    type Err = ParseNonceError;

    fn from_str(text: &str) -> Result<Self, ParseNonceError> {
        let bytes = STANDARD.decode(text).map_err(|_| ParseNonceError)?;
        bytes.try_into().map(Self).map_err(|_| ParseNonceError)
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_has_one_form_in_documents_and_one_in_queries() {
        let nonce = Nonce::from_bytes([0xfb; 32]);
        assert_eq!(nonce.to_string().parse(), Ok(nonce));
        assert_eq!(Nonce::from_query(&nonce.to_query()), Ok(nonce));
        assert!(Nonce::from_query(&nonce.to_string()).is_err());
        assert!(nonce.to_query().parse::<Nonce>().is_err());
        assert!(Nonce::from_query("AA").is_err());
    }
}
