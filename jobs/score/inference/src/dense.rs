//! Dense layers with what comes right before and after the product fused in.

use pulp::Arch;

use crate::{
    LoadError,
    config::Activation,
    elementwise::bias_and_activation,
    matrix::{Matrix, Target},
    tensor_source::Tensors,
};

/// y = x·Wᵀ + b on rows of values.
pub(crate) struct Dense {
    /// [in, out], in the order in which the kernels read it.
    weight: Vec<f32>,
    bias: Vec<f32>,
    width_in: usize,
}

impl Dense {
    /// Layers that read the same input, side by side: `weight` [out, in] and `bias` [out] each.
    pub(crate) fn load(
        parts: &[Tensors<'_>],
        width_in: usize,
        width_out: usize,
    ) -> Result<Self, LoadError> {
        let all_out = parts.len() * width_out;
        let mut weight = vec![0.0; width_in * all_out];
        let mut bias = Vec::with_capacity(all_out);
        for (index, part) in parts.iter().enumerate() {
            let rows = part.take_values("weight", &[width_out, width_in])?;
            for (row, values) in rows.chunks_exact(width_in).enumerate() {
                let column = index * width_out + row;
                for (k, value) in values.iter().enumerate() {
                    weight[k * all_out + column] = *value;
                }
            }
            bias.extend(part.take_values("bias", &[width_out])?);
        }
        Ok(Self {
            weight,
            bias,
            width_in,
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
        self.target(x, y).add(self.input(x), self.weights());
    }

    /// y = y + x·Wᵀ + b: a layer inside a residual connection.
    pub(crate) fn apply_onto(&self, x: &[f32], y: &mut [f32]) {
        for row in y.chunks_exact_mut(self.width_out()) {
            for (value, bias) in row.iter_mut().zip(&self.bias) {
                *value += bias;
            }
        }
        self.target(x, y).add(self.input(x), self.weights());
    }

    /// y = activation(x·Wᵀ + b).
    pub(crate) fn apply_activated(
        &self,
        arch: Arch,
        activation: Activation,
        (x, y): (&[f32], &mut [f32]),
    ) {
        self.target(x, y).set(self.input(x), self.weights(), 1.0);
        bias_and_activation(arch, activation, &self.bias, y);
    }

    fn rows(&self, x: &[f32]) -> usize {
        x.len() / self.width_in
    }

    fn input<'a>(&self, x: &'a [f32]) -> Matrix<'a> {
        Matrix::new(x, [self.rows(x), self.width_in], self.width_in)
    }

    fn weights(&self) -> Matrix<'_> {
        Matrix::new(
            &self.weight,
            [self.width_in, self.width_out()],
            self.width_out(),
        )
    }

    fn target<'a>(&self, x: &[f32], y: &'a mut [f32]) -> Target<'a> {
        Target::new(y, [self.rows(x), self.width_out()], self.width_out())
    }
}
