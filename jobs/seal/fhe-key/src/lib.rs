//! Keys of encrypted layers: making them, encrypting under them, and decrypting what was
//! evaluated. Linked by the owner and the key manager, never by the guest.
//!
//! One [`LayerKeys`] encrypts one weight matrix, once, and is gone; what is left is the public
//! body with its facts, and the [`LayerSecrets`] that travel to the key manager. There a row
//! becomes one of [`CheckedRows`] only by passing every check, and only those can be decrypted.
//!
//! | module | holds |
//! |---|---|
//! | [`keys`](LayerKeys) | key generation and encryption |
//! | [`secrets`](LayerSecrets) | what decryption needs, and its byte form |
//! | [`open`](CheckedRows) | every check |
//! | [`cost`](PredictedTimes) | what a layer will cost, measured on a few columns |
//! | `check_vector` | the secret that tells honest sums from all others |
//! | `decrypt`, `rounding`, [`logits`](RoundingGrid) | phases, rounding, rescaling |
//! | `ring`, `product` | masks, noise and products in Z_q\[X\]/(X^2048 + 1) |
//!
//! Secret keys, masks and noise are sampled by tfhe's primitives, seeded by the operating system.

mod check_vector;
mod cost;
mod decrypt;
mod keys;
mod logits;
mod open;
mod product;
mod ring;
mod rounding;
mod secrets;
#[cfg(test)]
mod tests;

pub use cost::{PredictError, PredictedTimes};
pub use keys::{EncryptError, EncryptedLayerBytes, KeyError, LayerKeys, PlainLayer};
pub use logits::{GridError, RoundingGrid};
pub use open::{CheckedRows, HeldRows, Opened, Refusal, RefusedRow, Undecryptable};
pub use ring::NoRandomness;
pub use secrets::{BundleError, LayerSecrets};
