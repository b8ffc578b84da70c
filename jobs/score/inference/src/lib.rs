//! Models that are loaded from memory and never from a file, so that a guest can score with
//! tensors that it has only just opened.
//!
//! A [`Body`] is a model without its output head, and gives the activations that go into the
//! head; a [`Model`] is a body and its head. Where the head is encrypted, the guest has the body
//! alone.

mod attention;
mod batches;
mod bert;
mod body;
mod causal_attention;
mod config;
mod dense;
mod elementwise;
mod error;
mod head_tensors;
mod llama;
mod mlp;
mod model;
mod packed;
mod product;
mod rotary;
mod rows;
mod tensor_source;
mod text;

pub use body::{Body, Input, RowError};
pub use error::{LoadError, ScoreError};
pub use model::Model;
pub use safetensors::tensor::{Dtype, TensorView};
pub use tensor_source::TensorSource;

/// What computed a result, for its receipt.
pub const ENGINE: &str = concat!(
    "sealift-inference/",
    env!("CARGO_PKG_VERSION"),
    " pulp/0.22 candle-core/0.11"
);
