//! y = W·x in f32 by the `gemm` crate, which packs the weights in every call.

use std::{hint::black_box, num::NonZeroUsize};

use super::{Problem, Product};

pub(in crate::fhe) struct Gemm {
    shape: (usize, usize),
    weights: Vec<f32>,
    xs: Vec<f32>,
    sums: Vec<f32>,
}

impl Gemm {
    pub(in crate::fhe) fn new(problem: Problem<'_>) -> Self {
        let floats = |values: &[i8]| values.iter().map(|v| f32::from(*v)).collect::<Vec<_>>();
        Self {
            shape: problem.shape,
            weights: floats(problem.weights),
            xs: problem.xs.iter().flat_map(|x| floats(x)).collect(),
            sums: vec![0.0; problem.xs.len() * problem.shape.1],
        }
    }
}

impl Product for Gemm {
    fn peer(&self) -> &'static str {
        "f32, the gemm crate 0.19"
    }

    #[expect(unsafe_code, reason = "the strides are those of the three matrices")]
    fn multiply(&mut self, threads: NonZeroUsize) {
        let (d_in, d_out) = self.shape;
        let items = self.xs.len() / d_in;
        let (row, column) = (d_in.cast_signed(), d_out.cast_signed());
        let parallelism = if threads == NonZeroUsize::MIN {
            gemm::Parallelism::None
        } else {
            gemm::Parallelism::Rayon(threads.get())
        };
        let (sums, weights, xs) = (
            self.sums.as_mut_ptr(),
            self.weights.as_ptr(),
            self.xs.as_ptr(),
        );
        // Yᵀ [d_out, items] = W [d_out, d_in] · Xᵀ [d_in, items]
        unsafe {
            gemm::gemm(
                d_out,
                items,
                d_in,
                sums,
                column,
                1,
                false,
                weights,
                1,
                row,
                xs,
                row,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
        black_box(&self.sums);
    }

    #[cfg(test)]
    fn sums(&self, item: usize) -> Vec<i64> {
        let outputs = self.shape.1;
        let sums = &self.sums[item * outputs..(item + 1) * outputs];
        sums.iter().map(|sum| *sum as i64).collect()
    }
}
