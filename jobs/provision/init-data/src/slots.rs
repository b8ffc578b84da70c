//! What fills the slots of a template.
//!
//! Two slots are the operator's, within what the template's patterns allow. The others are facts
//! that the key manager has in its own records, so that nobody else can choose them.

use sealift_signed_document::{Digest, KeyId, VerifyingKey};

/// Slots that the operator fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSlots {
    /// `{{km_url}}`: where the guest reaches the key manager.
    pub km_url: String,
    /// `{{store_url}}`: where the guest reads the model version.
    pub store_url: String,
}

/// Slots that the key manager fills from the registered version and from itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSlots {
    /// `{{model}}`, from the record.
    pub model: String,
    /// `{{version}}`, from the record.
    pub version: String,
    /// `{{serial}}`, from the record.
    pub serial: u64,
    /// `{{manifest_sha256}}`, from the record.
    pub manifest_sha256: Digest,
    /// `{{owner_root}}`: the root under whose delegation the version was registered.
    pub owner_root: VerifyingKey,
    /// `{{template_sha256}}`, from the record.
    pub template_sha256: Digest,
    /// `{{km_id}}`: the key manager's own identity.
    pub km_id: KeyId,
    /// `{{km_tls_sha256}}`: SHA-256 of the SPKI of the key manager's own TLS key.
    pub km_tls_sha256: Digest,
}

/// A value that a slot does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// The model or version name is no path segment.
    #[error(
        "{slot} {value:?} must be 1 to {MAX_NAME_BYTES} lower-case letters, digits, `-`, `_` and \
         `.`, and start with a letter or digit"
    )]
    Name {
        /// The slot.
        slot: &'static str,
        /// The value.
        value: String,
    },
    /// A key thumbprint that is none.
    #[error("km_id {value:?} is not a SHA-256 thumbprint in base64url")]
    KeyId {
        /// The value.
        value: String,
    },
    /// TOML holds integers up to 2^63 − 1.
    #[error("serial {serial} is larger than {}", i64::MAX)]
    Serial {
        /// The value.
        serial: u64,
    },
    /// A URL with characters that could end the string it stands in.
    #[error("{slot} {value:?} is not a plain URL of at most {MAX_URL_BYTES} characters")]
    Url {
        /// The slot.
        slot: &'static str,
        /// The value.
        value: String,
    },
    /// A URL that the template's owner did not allow.
    #[error("{slot} {value:?} does not match the template's pattern {pattern:?}")]
    Pattern {
        /// The slot.
        slot: &'static str,
        /// The value.
        value: String,
        /// What the owner allows.
        pattern: String,
    },
}

/// Longest model or version name; it is a path segment and part of object names.
const MAX_NAME_BYTES: usize = 128;

/// Longest URL that is put into a slot: a `file:` URL may hold the longest path of Linux.
const MAX_URL_BYTES: usize = 4096;

/// Length of a SHA-256 thumbprint in base64url without padding.
const THUMBPRINT_CHARS: usize = 43;

/// Every slot that a template may name.
pub(crate) const SLOTS: [&str; 10] = [
    "km_id",
    "km_tls_sha256",
    "km_url",
    "manifest_sha256",
    "model",
    "owner_root",
    "serial",
    "store_url",
    "template_sha256",
    "version",
];

impl RegisteredSlots {
    /// The value of each slot, after checking that none can end the string it stands in.
    pub(crate) fn values(&self) -> Result<Vec<(&'static str, String)>, SlotError> {
        check_name("model", &self.model)?;
        check_name("version", &self.version)?;
        check_key_id(&self.km_id)?;
        if i64::try_from(self.serial).is_err() {
            return Err(SlotError::Serial {
                serial: self.serial,
            });
        }
        Ok(vec![
            ("km_id", self.km_id.to_string()),
            ("km_tls_sha256", self.km_tls_sha256.to_string()),
            ("manifest_sha256", self.manifest_sha256.to_string()),
            ("model", self.model.clone()),
            ("owner_root", self.owner_root.to_string()),
            ("serial", self.serial.to_string()),
            ("template_sha256", self.template_sha256.to_string()),
            ("version", self.version.clone()),
        ])
    }
}

impl OperatorSlots {
    /// The value of each slot, after checking that none can end the string it stands in.
    pub(crate) fn values(&self) -> Result<[(&'static str, &str); 2], SlotError> {
        check_url("km_url", &self.km_url)?;
        check_url("store_url", &self.store_url)?;
        Ok([("km_url", &self.km_url), ("store_url", &self.store_url)])
    }
}

fn check_name(slot: &'static str, value: &str) -> Result<(), SlotError> {
    let starts = value.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if starts && value.len() <= MAX_NAME_BYTES && value.bytes().all(plain) {
        Ok(())
    } else {
        Err(SlotError::Name {
            slot,
            value: value.to_owned(),
        })
    }
}

fn check_key_id(id: &KeyId) -> Result<(), SlotError> {
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if id.as_str().len() == THUMBPRINT_CHARS && id.as_str().bytes().all(base64url) {
        Ok(())
    } else {
        Err(SlotError::KeyId {
            value: id.to_string(),
        })
    }
}

fn check_url(slot: &'static str, value: &str) -> Result<(), SlotError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?@%=&+,[]".contains(&byte);
    if !value.is_empty() && value.len() <= MAX_URL_BYTES && value.bytes().all(plain) {
        Ok(())
    } else {
        Err(SlotError::Url {
            slot,
            value: value.to_owned(),
        })
    }
}
