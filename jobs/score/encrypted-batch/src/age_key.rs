//! age X25519 recipients, identities and file keys.

use std::{fmt, str::FromStr};

use age_core::{
    format::{FILE_KEY_BYTES, FileKey as AgeFileKey, Stanza},
    primitives::bech32_decode,
    secrecy::ExposeSecret,
};
use aws_lc_rs::{agreement, rand::SystemRandom};
use sealift_signed_document::SecretBytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

/// Text that is not a usable age key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgeKeyError {
    /// Not an X25519 recipient in its one spelling.
    #[error("this is not an age X25519 recipient; it starts with `age1` and is all lower-case")]
    Recipient,
    /// A point of low order: everyone knows the secret it agrees on.
    #[error("this age recipient is a point of low order; nobody holds an identity for it")]
    LowOrder,
    /// Not an X25519 identity.
    #[error("this is not an age X25519 identity; it starts with `AGE-SECRET-KEY-1`")]
    Identity,
}

/// An age X25519 recipient (`age1…`, Bech32): where a file is encrypted to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AgeRecipient(age::x25519::Recipient);

impl AgeRecipient {
    pub(crate) fn wrap(&self, key: &FileKey) -> Option<Vec<Stanza>> {
        let key = AgeFileKey::new(Box::new(*key.expose()));
        age::Recipient::wrap_file_key(&self.0, &key)
            .ok()
            .map(|(stanzas, _)| stanzas)
    }
}

impl FromStr for AgeRecipient {
    type Err = AgeKeyError;

    fn from_str(text: &str) -> Result<Self, AgeKeyError> {
        let recipient: age::x25519::Recipient = text.parse().map_err(|_| AgeKeyError::Recipient)?;
        // Bech32 also reads all upper-case; documents need one spelling.
        if recipient.to_string() != text {
            return Err(AgeKeyError::Recipient);
        }
        refuse_low_order(text)?;
        Ok(Self(recipient))
    }
}

/// The age crate panics when it wraps to such a point, and recipients come from documents.
fn refuse_low_order(recipient: &str) -> Result<(), AgeKeyError> {
    let point = bech32_decode(
        recipient,
        |_| AgeKeyError::Recipient,
        |_| Ok(()),
        |_, bytes| Ok(bytes.collect::<Vec<u8>>()),
    )?;
    let probe = agreement::EphemeralPrivateKey::generate(&agreement::X25519, &SystemRandom::new())
        .expect("the system's random generator does not fail once it is seeded");
    let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, point);
    agreement::agree_ephemeral(probe, peer, AgeKeyError::LowOrder, |_| Ok(()))
}

impl fmt::Display for AgeRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AgeRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgeRecipient({})", self.0)
    }
}

impl Serialize for AgeRecipient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AgeRecipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// An age X25519 identity: opens what was encrypted to its recipient.
pub struct AgeIdentity(age::x25519::Identity);

impl AgeIdentity {
    /// Draws a new identity.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Reads `AGE-SECRET-KEY-1…`.
    pub fn from_secret_text(text: &str) -> Result<Self, AgeKeyError> {
        text.trim()
            .parse()
            .map(Self)
            .map_err(|_| AgeKeyError::Identity)
    }

    /// Writes `AGE-SECRET-KEY-1…`, the form that age key files and encrypted records hold.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// Where files for this identity are encrypted to.
    pub fn recipient(&self) -> AgeRecipient {
        AgeRecipient(self.0.to_public())
    }

    pub(crate) fn as_age(&self) -> &age::x25519::Identity {
        &self.0
    }
}

/// The 16 bytes that one age file is encrypted under.
#[derive(Clone, PartialEq, Eq)]
pub struct FileKey(SecretBytes<FILE_KEY_BYTES>);

impl FileKey {
    /// Takes over the bytes that came through an encrypted session.
    pub fn from_bytes(bytes: [u8; FILE_KEY_BYTES]) -> Self {
        Self(SecretBytes::from_bytes(bytes))
    }

    /// The bytes, for an encrypted session.
    pub fn expose(&self) -> &[u8; FILE_KEY_BYTES] {
        self.0.expose()
    }

    pub(crate) fn random() -> Self {
        Self(SecretBytes::random())
    }

    pub(crate) fn from_age(key: &AgeFileKey) -> Self {
        Self::from_bytes(*key.expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_from_its_text() {
        let identity = AgeIdentity::generate();
        let text = identity.to_secret_text();
        assert!(text.starts_with("AGE-SECRET-KEY-1"));
        let read = AgeIdentity::from_secret_text(&text).unwrap();
        assert_eq!(read.recipient(), identity.recipient());
    }

    #[test]
    fn a_recipient_has_one_spelling() {
        let text = AgeIdentity::generate().recipient().to_string();
        assert_eq!(text.parse::<AgeRecipient>().unwrap().to_string(), text);
        for other in [
            text.to_uppercase(),
            format!(" {text}"),
            text.replace("age1", "agf1"),
        ] {
            assert_eq!(
                other.parse::<AgeRecipient>(),
                Err(AgeKeyError::Recipient),
                "{other}"
            );
        }
    }

    /// The point of order 4 at zero and one of order 8.
    #[test]
    fn a_recipient_of_low_order_is_refused() {
        let order_eight = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
        for point in [vec![0; 32], hex::decode(order_eight).unwrap()] {
            let text = bech32_text(&point);
            assert_eq!(
                text.parse::<AgeRecipient>(),
                Err(AgeKeyError::LowOrder),
                "{text}"
            );
        }
    }

    fn bech32_text(point: &[u8]) -> String {
        let known = AgeIdentity::generate().recipient().to_string();
        bech32_decode(
            &known,
            |_| (),
            |_| Ok(()),
            |hrp, _| Ok(age_core::primitives::bech32_encode(hrp, point)),
        )
        .unwrap()
    }
}
