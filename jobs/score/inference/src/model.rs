//! A model with its output layer.

use std::num::NonZeroUsize;

use candle_nn::{Linear, Module};
use sealift_output_layer::Labels;

use crate::{
    Body, Input, LoadError, RowError, ScoreError, TensorSource, head_tensors::output_layer,
    tensor_source::Tensors,
};

/// A model with its output layer, which is one head or several.
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
        let head = output_layer(body.heads(), body.width(), &Tensors::new(tensors))?;
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

    /// The labels of each head, in the order of the logits.
    pub fn labels(&self) -> &Labels {
        self.body.labels()
    }

    /// One logit per label for each row, head after head, in the order of `rows`.
    pub fn logits(
        &self,
        rows: &[Input<'_>],
    ) -> Result<Vec<Result<Vec<f32>, RowError>>, ScoreError> {
        self.body
            .evaluate(rows, |activations| self.head.forward(activations))
    }
}
