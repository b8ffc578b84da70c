//! Dense layers with what comes right before and after the product fused in.

use pulp::Arch;

use crate::{
    LoadError,
    config::Activation,
    packed::Packed,
    product::Finish,
    rows::{Rows, RowsMut},
    tensor_source::Tensors,
};

/// y = x·Wᵀ + b on rows of values.
pub(crate) struct Dense {
    weights: Packed,
    /// Empty if there is none.
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
            weights: pack(&weights, width_in),
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
        Ok(Self {
            weights: pack(&weights, width_in),
            bias: Vec::new(),
        })
    }

    pub(crate) fn width_out(&self) -> usize {
        self.weights.width_out()
    }

    /// y = x·Wᵀ + b.
    pub(crate) fn apply(&self, x: &[f32], y: &mut [f32]) {
        self.finish(Finish::default(), x, y);
    }

    /// y = y + x·Wᵀ + b: a layer inside a residual connection.
    pub(crate) fn apply_onto(&self, x: &[f32], y: &mut [f32]) {
        let finish = Finish {
            onto: true,
            ..Finish::default()
        };
        self.finish(finish, x, y);
    }

    /// y = activation(x·Wᵀ + b).
    pub(crate) fn apply_activated(&self, activation: Activation, x: &[f32], y: &mut [f32]) {
        let finish = Finish {
            activation: Some(activation),
            ..Finish::default()
        };
        self.finish(finish, x, y);
    }

    fn finish(&self, finish: Finish<'_>, x: &[f32], y: &mut [f32]) {
        let bias = Some(self.bias.as_slice()).filter(|bias| !bias.is_empty());
        let (x, y) = (
            Rows::dense(x, self.weights.width_in()),
            RowsMut::dense(y, self.weights.width_out()),
        );
        self.weights.multiply(x, y, Finish { bias, ..finish });
    }
}

fn pack(weights: &[Vec<f32>], width_in: usize) -> Packed {
    let parts: Vec<_> = weights
        .iter()
        .map(|weight| Rows::dense(weight, width_in))
        .collect();
    Packed::of_columns(Arch::new(), &parts)
}
