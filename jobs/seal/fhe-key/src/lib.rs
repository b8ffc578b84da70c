//! Keys of encrypted layers: making them, encrypting under them, and decrypting what was
//! evaluated. Linked by the owner and the key manager, never by the guest.
//!
//! One [`LayerKeys`] encrypts one weight matrix, once, and is gone; what is left is the public
//! body with its facts, and the [`LayerSecrets`] that travel to the key manager. There a row
//! becomes a [`CheckedRow`] only by passing every check, and only a checked row can be opened.
//!
//! | module | holds |
//! |---|---|
//! | [`keys`](LayerKeys) | key generation and encryption |
//! | [`secrets`](LayerSecrets) | what decryption needs, and its byte form |
//! | [`open`](CheckedRow) | checks, decryption, rescaling |
//! | `check_vector` | the secret that tells honest sums from all others |
//! | `ring` | masks, noise and products in Z_q\[X\]/(X^2048 + 1) |
//!
//! Secret keys, masks and noise are sampled by tfhe's primitives, seeded by the operating system.

mod check_vector;
mod keys;
mod open;
mod ring;
mod secrets;
#[cfg(test)]
mod tests;

pub use keys::{EncryptError, EncryptedLayerBytes, KeyError, LayerKeys, PlainLayer};
pub use open::{CheckedRow, GridError, Opened, Refusal, RoundingGrid, Undecryptable};
pub use ring::NoRandomness;
pub use secrets::{BundleError, LayerSecrets};
