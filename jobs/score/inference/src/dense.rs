//! Dense layers with what comes right before and after the product fused in.

use pulp::Arch;

use crate::{
    LoadError, config::Activation, elementwise::activate, packed::PackedWeights,
    tensor_source::Tensors,
};

/// y = x·Wᵀ + b on rows of values.
pub(crate) struct Dense {
    weights: PackedWeights,
    bias: Vec<f32>,
}

impl Dense {
    /// Layers that read the same input, side by side: `weight` [out, in] and `bias` [out] each.
    pub(crate) fn load(
        parts: &[Tensors<'_>],
        width_in: usize,
        width_out: usize,
    ) -> Result<Self, LoadError> {
        let mut weights = Vec::with_capacity(parts.len());
        let mut bias = Vec::with_capacity(parts.len() * width_out);
        for part in parts {
            weights.push(part.take_values("weight", &[width_out, width_in])?);
            bias.extend(part.take_values("bias", &[width_out])?);
        }
        Ok(Self {
            weights: PackedWeights::new(&weights, width_in),
            bias,
        })
    }

    /// The same with a width of its own for each layer, and a bias for none.
    pub(crate) fn without_bias(
        parts: &[(Tensors<'_>, usize)],
        width_in: usize,
    ) -> Result<Self, LoadError> {
        let weight = |(part, width_out): &(Tensors<'_>, usize)| {
            part.take_values("weight", &[*width_out, width_in])
        };
        let weights = parts.iter().map(weight).collect::<Result<Vec<_>, _>>()?;
        let width_out = parts.iter().map(|(_, width_out)| width_out).sum();
        Ok(Self {
            weights: PackedWeights::new(&weights, width_in),
            bias: vec![0.0; width_out],
        })
    }

    pub(crate) fn width_out(&self) -> usize {
        self.bias.len()
    }

    /// y = x·Wᵀ + b.
    pub(crate) fn apply(&self, x: &[f32], y: &mut [f32]) {
        for row in y.chunks_exact_mut(self.width_out()) {
            row.copy_from_slice(&self.bias);
        }
        self.weights.add_product(x, y);
    }

    /// y = y + x·Wᵀ + b: a layer inside a residual connection.
    pub(crate) fn apply_onto(&self, x: &[f32], y: &mut [f32]) {
        for row in y.chunks_exact_mut(self.width_out()) {
            for (value, bias) in row.iter_mut().zip(&self.bias) {
                *value += bias;
            }
        }
        self.weights.add_product(x, y);
    }

    /// y = activation(x·Wᵀ + b).
    pub(crate) fn apply_activated(
        &self,
        arch: Arch,
        activation: Activation,
        (x, y): (&[f32], &mut [f32]),
    ) {
        self.apply(x, y);
        activate(arch, activation, y);
    }
}
