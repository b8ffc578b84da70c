//! Dense layers on features.

use candle_core::{Device, Tensor};
use candle_nn::{Linear, Module};

use crate::{
    LoadError,
    config::{Activation, MlpConfig},
    tensor_source::Tensors,
};

pub(crate) struct Mlp {
    layers: Vec<Linear>,
    activation: Activation,
    width_in: usize,
    width_out: usize,
}

impl Mlp {
    pub(crate) fn load(config: &MlpConfig, tensors: &Tensors<'_>) -> Result<Self, LoadError> {
        let mut layers = Vec::new();
        for (index, [width_in, width_out]) in config.widths.array_windows().enumerate() {
            let layer = tensors.under(&format!("layers.{index}"));
            layers.push(linear(&layer, *width_in, *width_out)?);
        }
        Ok(Self {
            layers,
            activation: config.activation,
            width_in: config.widths[0],
            width_out: config.widths[config.widths.len() - 1],
        })
    }

    pub(crate) fn width_in(&self) -> usize {
        self.width_in
    }

    pub(crate) fn width_out(&self) -> usize {
        self.width_out
    }

    /// Input of the head for features [rows, width].
    pub(crate) fn forward(&self, features: Vec<f32>) -> candle_core::Result<Tensor> {
        let rows = features.len() / self.width_in;
        let mut x = Tensor::from_vec(features, (rows, self.width_in), &Device::Cpu)?;
        for layer in &self.layers {
            x = apply(self.activation, &layer.forward(&x)?)?;
        }
        Ok(x)
    }
}

/// `weight` [out, in] and `bias` [out].
pub(crate) fn linear(
    tensors: &Tensors<'_>,
    width_in: usize,
    width_out: usize,
) -> Result<Linear, LoadError> {
    let weight = tensors.take("weight", &[width_out, width_in])?;
    let bias = tensors.take("bias", &[width_out])?;
    Ok(Linear::new(weight, Some(bias)))
}

/// The activation function, with everything that is not finite made NaN.
///
/// The engine's ReLU turns NaN and −∞ into 0, and a row that overflowed would go on as an ordinary
/// wrong number; x·0 is 0 for finite x and NaN for all others.
pub(crate) fn apply(activation: Activation, x: &Tensor) -> candle_core::Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::Relu => x.relu()? + (x * 0.0)?,
    }
}
