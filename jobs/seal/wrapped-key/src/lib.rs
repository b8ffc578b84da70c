//! Data keys wrapped under a version's key-encryption key (KEK): AES-256-GCM with a fresh 96-bit
//! nonce and no associated data, as CryptoTensors version 2 wraps them.
//!
//! Split off from the sealed model, because the key manager wraps keys anew when a version is
//! rotated and must not link what reads models.

mod kek;
mod keys;

pub use kek::{IV_BYTES, KEY_BYTES, Kek, TAG_BYTES, WrappedKey};
pub use keys::{MAX_KEYS, RewrapError, WrappedKeys, WrappedKeysError};
