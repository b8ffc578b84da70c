//! Why a model does not load, or a batch of rows is not scored.

use safetensors::tensor::Dtype;

/// Why a model does not load.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The configuration is not JSON of a known form.
    #[error("config.json cannot be read")]
    Config(#[source] serde_json::Error),
    /// A setting that no code here implements.
    #[error("config.json has {setting} `{found}`; supported: {supported}")]
    Unsupported {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        supported: &'static str,
    },
    /// Settings that contradict each other.
    #[error("config.json contradicts itself: {0}")]
    Contradiction(&'static str),
    /// A text model without a tokenizer.
    #[error("a text model needs its tokenizer.json")]
    NoTokenizer,
    /// The tokenizer does not load or does not fit the model.
    #[error("tokenizer.json cannot be read")]
    Tokenizer(#[source] tokenizers::Error),
    /// The tokenizer knows more words than the model.
    #[error("tokenizer.json numbers {tokenizer} word pieces, the model embeds {model}")]
    Vocabulary {
        /// The tokenizer's highest token id, and one.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
    },
    /// Labels, heads or tokens that name no answers.
    #[error("the model's answers cannot be named")]
    Answers(#[source] sealift_output_layer::ConfigError),
    /// A tensor that the architecture needs.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// A tensor of another shape than the configuration implies.
    #[error("tensor `{name}` has shape {found:?}, config.json implies {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor of a type that is not computed with.
    #[error("tensor `{name}` has type {found:?}; supported: F32, F16, BF16")]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        found: Dtype,
    },
    /// A weight that is infinite or not a number.
    #[error("tensor `{0}` holds values that are not finite")]
    NotFinite(String),
    /// The engine refused to build the model.
    #[error("the engine could not build the model")]
    Engine(#[from] candle_core::Error),
}

/// Why no row of a call was scored. What concerns one row is a [`crate::RowError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// The engine failed.
    #[error("the engine could not evaluate the model")]
    Engine(#[from] candle_core::Error),
}
