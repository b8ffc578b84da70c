//! The forms that every message between trust zones is made of: digests, named hashes, key
//! derivation, canonical JSON, signed documents, delegations and boxes encrypted to a key.
//!
//! A signed document is a DSSE v1 envelope around canonical JSON (RFC 8785) with one Ed25519
//! signature. Its payload type is its domain: a key is certified for a list of types and for
//! nothing else. Checking an envelope returns a [`Signed`] document, which has no other
//! constructor and cannot be deserialized.

mod canonical;
mod delegation;
mod digest;
mod envelope;
pub mod hpke_box;
pub mod key_file;
pub mod merkle;
mod secret;
mod signing;

pub use canonical::{canonical_json, parse_canonical};
pub use delegation::{DelegatedKey, Delegation, PublicKey, Role};
pub use digest::{Digest, DigestWriter, ParseDigestError, derive_key, named_hash};
pub use envelope::{Document, DocumentError, Envelope, MAX_ENVELOPE_BYTES, Signed, sign};
pub use secret::SecretBytes;
pub use signing::{KeyId, SigningKey, VerifyingKey};
