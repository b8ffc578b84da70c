//! A model's output layer: which tensors make it, and what its outputs are called.
//!
//! Everybody who reads a model's `config.json` for its answers reads it here: whoever plans its
//! protection, seals it, or runs it. A layer of several heads is one matrix, whose rows are the
//! heads' rows one after the other.

mod labels;
mod layer;
mod shape;
mod tokens;

pub use labels::{HeadLabels, LabelError, Labels, MAX_HEADS, MAX_LABELS};
pub use layer::{ConfigError, Head, OutputLayer};
pub use shape::{ShapeError, matrix_shape};
pub use tokens::TokensError;
