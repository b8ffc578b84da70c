//! A model with its output head.

use std::num::NonZeroUsize;

use candle_nn::{Linear, Module};

use crate::{Body, Input, LoadError, RowError, ScoreError, TensorSource, tensor_source::Tensors};

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
        let tensors = Tensors::new(tensors);
        let shape = [body.labels().len(), body.width()];
        let head = match body.language_head() {
            Some(name) => Linear::new(tensors.take(name, &shape)?, None),
            None => output_layer(&tensors.under("classifier"), shape)?,
        };
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

/// `weight` [out, in], or the convolution of kernel size 1 that is this matrix, and `bias` [out],
/// if there is one.
fn output_layer(tensors: &Tensors<'_>, shape: [usize; 2]) -> Result<Linear, LoadError> {
    let weight = tensors.take_matrix("weight", shape)?;
    let bias = if tensors.has("bias") {
        Some(tensors.take("bias", &shape[..1])?)
    } else {
        None
    };
    Ok(Linear::new(weight, bias))
}
