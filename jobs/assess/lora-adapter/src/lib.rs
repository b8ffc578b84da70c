//! LoRA adapters of the output layer, as PEFT writes them beside a model.
//!
//! An adapter is merged before anything is planned or sealed: W + scale · B·A. Only an adapter of
//! the output layer is: merging others is what PEFT is for, and their layers are sealed as they
//! come out of it.

mod config;
mod error;
mod merge;
mod model;

pub use error::AdapterError;
pub use model::{AdapterFiles, MergedModel};
