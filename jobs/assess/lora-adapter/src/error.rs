//! Why an adapter is not merged.

use std::{io, path::PathBuf};

use sealift_output_layer::{ConfigError, ShapeError};
use sealift_sealed_model::SourceError;

/// Why a model and its adapter are not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// The model's own weights.
    #[error(transparent)]
    Model(SourceError),
    /// A small file.
    #[error("`{}` cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system answered.
        #[source]
        source: io::Error,
    },
    /// A configuration beyond the limit.
    #[error("`{}` has {bytes} bytes; a configuration has at most 256 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// One of an adapter's two files.
    #[error(
        "the model has an adapter's `{found}` without `{missing}`; add it, or remove the other"
    )]
    Half {
        /// The file that is there.
        found: &'static str,
        /// The file that is not.
        missing: &'static str,
    },
    /// The model's configuration.
    #[error("the model's configuration names no output layer")]
    Config(#[source] ConfigError),
    /// The adapter's configuration.
    #[error("adapter_config.json is not the configuration of a LoRA adapter")]
    AdapterConfig(#[source] serde_json::Error),
    /// A setting that is not merged here.
    #[error(
        "adapter_config.json sets `{0}`, which is not merged here; merge the adapter with PEFT \
         (merge_and_unload) and seal the merged model"
    )]
    Setting(String),
    /// The adapter's weights.
    #[error("adapter_model.safetensors is not usable")]
    Weights(#[source] SourceError),
    /// A layer that is not the output layer.
    #[error(
        "the adapter changes `{tensor}`, which is not of the output layer `{layer}`; merge it with \
         PEFT (merge_and_unload) and seal the merged model"
    )]
    InnerLayer {
        /// The adapter's tensor.
        tensor: String,
        /// The output layer.
        layer: String,
    },
    /// Half of a product, or two ways to change one tensor.
    #[error(
        "the adapter has no `{0}` for the other tensor of the pair, or replaces that layer too"
    )]
    Unpaired(String),
    /// A tensor of the output layer that the model does not have.
    #[error("the adapter changes `{0}`, which the model does not have")]
    NoSuchTensor(String),
    /// A tensor that is no matrix.
    #[error("tensor `{tensor}` is no matrix")]
    Matrix {
        /// The tensor.
        tensor: String,
        /// What it is instead.
        #[source]
        source: ShapeError,
    },
    /// Tensors that do not fit together.
    #[error("tensor `{tensor}` of the adapter has shape {found:?}, needed is {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<u64>,
        /// The shape by the rank and the model.
        expected: Vec<u64>,
    },
    /// Elements that are not merged.
    #[error(
        "tensor `{tensor}` has elements of type {found}; merged are F32, and BF16 of an adapter"
    )]
    Type {
        /// The tensor.
        tensor: String,
        /// Their type.
        found: String,
    },
    /// A sum that is no number.
    #[error("merging the adapter into `{0}` gives values that are NaN or infinite")]
    NotFinite(String),
}
