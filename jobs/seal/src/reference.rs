//! The integer reference of an output head: what encrypted scoring must answer, bit for bit.

use sealift_quantised_head::{QuantiseError, ScaleRange, quantise_activation};

use crate::{LayersError, ModelFolder, layers::PlainHead};

/// Why there is no reference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The head.
    #[error("the output head is not usable")]
    Head(#[from] LayersError),
    /// An activation.
    #[error("an activation has no 8-bit form")]
    Activation(#[from] QuantiseError),
}

/// A plain model's output head in integers.
pub struct ReferenceHead(PlainHead);

impl ReferenceHead {
    /// Reads and quantises the head of a plain model as sealing does.
    pub fn read(model: &ModelFolder) -> Result<Self, ReferenceError> {
        Ok(Self(PlainHead::read(model.source(), "classifier")?))
    }

    /// Scores for one activation: quantised, multiplied and summed in integers, then rescaled.
    pub fn logits(&self, activation: &[f32]) -> Result<Vec<f64>, ReferenceError> {
        let quantised = quantise_activation(activation, ScaleRange::ANY)?;
        let sums = self.0.rows.integer_reference(&quantised.values)?;
        Ok(self.0.rows.logits(&sums, quantised.scale, &self.0.bias)?)
    }
}
