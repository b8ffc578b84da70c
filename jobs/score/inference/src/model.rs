//! A model with its output head.

use std::num::NonZeroUsize;

use candle_nn::{Linear, Module};

use crate::{
    Body, Input, LoadError, RowError, ScoreError, TensorSource, mlp::linear, tensor_source::Tensors,
};

/// Name of the output head's weight, [labels, width].
pub const HEAD_WEIGHT: &str = "classifier.weight";

/// Name of the output head's bias, [labels].
pub const HEAD_BIAS: &str = "classifier.bias";

/// A model with its output head.
pub struct Model {
    body: Body,
    head: Linear,
}

impl Model {
    /// Builds the model that `config` (a `config.json`) describes from tensors under their Hugging
    /// Face names.
    pub fn load(
        config: &[u8],
        tokenizer: Option<&[u8]>,
        tensors: &dyn TensorSource,
    ) -> Result<Self, LoadError> {
        let body = Body::load(config, tokenizer, tensors)?;
        let head = Tensors::new(tensors).under("classifier");
        let head = linear(&head, body.width(), body.labels().len())?;
        Ok(Self { body, head })
    }

    /// As [`Body::with_threads`].
    #[must_use]
    pub fn with_threads(mut self, threads: NonZeroUsize) -> Self {
        self.body = self.body.with_threads(threads);
        self
    }

    /// The model without its head.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The labels, in the order of the logits.
    pub fn labels(&self) -> &[String] {
        self.body.labels()
    }

    /// One logit per label for each row, in the order of `rows`.
    pub fn logits(
        &self,
        rows: &[Input<'_>],
    ) -> Result<Vec<Result<Vec<f32>, RowError>>, ScoreError> {
        self.body
            .evaluate(rows, |activations| self.head.forward(activations))
    }
}
