//! Weights in the order in which their product reads them.
//!
//! A general product packs both factors in every call. Weights stay the same from batch to batch,
//! so they are packed once here: on 128 tokens that is an eighth of an encoder's time.

use pulp::{Arch, Simd, WithSimd};

/// Registers of outputs in one panel: with [`FEW_ROWS`] rows their sums fill 12 of 16 registers,
/// with [`MANY_ROWS`] 24 of 32.
const REGISTERS: usize = 2;

/// Rows that are multiplied together on processors with 16 vector registers.
const FEW_ROWS: usize = 6;

/// The same with 32 registers.
const MANY_ROWS: usize = 12;

/// Inputs of a block of rows, which every panel reads again: 192 KiB stay in a core's second-level
/// cache beside a panel.
const BLOCK_VALUES: usize = 48 << 10;

/// W [out, in], packed for this processor.
pub(crate) struct PackedWeights {
    /// Panel after panel, each [in, `panel_width`]; zeros after the last output.
    panels: Vec<f32>,
    panel_width: usize,
    width_in: usize,
    width_out: usize,
    arch: Arch,
}

impl PackedWeights {
    /// Packs matrices [out, in] that read the same input, one after the other.
    pub(crate) fn new(parts: &[Vec<f32>], width_in: usize) -> Self {
        let arch = Arch::new();
        let panel_width = arch.dispatch(PanelWidth);
        let width_out = parts.iter().map(Vec::len).sum::<usize>() / width_in;
        let mut panels = vec![0.0; width_out.div_ceil(panel_width) * width_in * panel_width];
        let rows = parts.iter().flat_map(|part| part.chunks_exact(width_in));
        for (out, row) in rows.enumerate() {
            let panel = &mut panels[out / panel_width * width_in * panel_width..];
            for (step, value) in panel.chunks_exact_mut(panel_width).zip(row) {
                step[out % panel_width] = *value;
            }
        }
        Self {
            panels,
            panel_width,
            width_in,
            width_out,
            arch,
        }
    }

    /// y = y + x·Wᵀ for `x` [rows, in] and `y` [rows, out].
    pub(crate) fn add_product(&self, x: &[f32], y: &mut [f32]) {
        assert_eq!(
            x.len() * self.width_out,
            y.len() * self.width_in,
            "the matrices do not fit"
        );
        let weights = self;
        self.arch.dispatch(Product { weights, x, y });
    }
}

/// Outputs of one panel.
struct PanelWidth;

impl WithSimd for PanelWidth {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        REGISTERS * S::F32_LANES
    }
}

struct Product<'a> {
    weights: &'a PackedWeights,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.by_rows::<S, MANY_ROWS>(simd);
        } else {
            self.by_rows::<S, FEW_ROWS>(simd);
        }
    }
}

impl Product<'_> {
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn by_rows<S: Simd, const ROWS: usize>(self, simd: S) {
        let &PackedWeights {
            ref panels,
            panel_width,
            width_in,
            width_out,
            ..
        } = self.weights;
        let rows = (BLOCK_VALUES / width_in).max(1).next_multiple_of(ROWS);
        let blocks = self.x.chunks(rows * width_in);
        for (x, y) in blocks.zip(self.y.chunks_mut(rows * width_out)) {
            let groups = interleaved::<ROWS>(x, width_in);
            for (index, panel) in panels.chunks_exact(width_in * panel_width).enumerate() {
                let from = index * panel_width;
                let to = width_out.min(from + panel_width);
                for (group, y) in groups
                    .chunks_exact(width_in)
                    .zip(y.chunks_mut(ROWS * width_out))
                {
                    let sums = tile::<S, ROWS>(simd, group, panel);
                    for (sums, y) in sums.iter().zip(y.chunks_exact_mut(width_out)) {
                        add(simd, sums, &mut y[from..to]);
                    }
                }
            }
        }
    }
}

/// `x` [rows, in] as groups of rows, each [in, ROWS]; zeros after the last row.
fn interleaved<const ROWS: usize>(x: &[f32], width_in: usize) -> Vec<[f32; ROWS]> {
    let groups = x.len().div_ceil(ROWS * width_in);
    let mut packed = vec![[0.0; ROWS]; groups * width_in];
    let targets = packed.chunks_exact_mut(width_in);
    for (group, rows) in targets.zip(x.chunks(ROWS * width_in)) {
        for (place, row) in rows.chunks_exact(width_in).enumerate() {
            for (values, value) in group.iter_mut().zip(row) {
                values[place] = *value;
            }
        }
    }
    packed
}

/// The sums of one panel's outputs for a group of rows.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn tile<S: Simd, const ROWS: usize>(
    simd: S,
    group: &[[f32; ROWS]],
    panel: &[f32],
) -> [[S::f32s; REGISTERS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); REGISTERS]; ROWS];
    let (steps, _) = S::as_simd_f32s(panel).0.as_chunks::<REGISTERS>();
    for (weights, values) in steps.iter().zip(group) {
        for (sums, value) in sums.iter_mut().zip(values) {
            let value = simd.splat_f32s(*value);
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add_e_f32s(value, *weight, *sum);
            }
        }
    }
    sums
}

#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn add<S: Simd>(simd: S, sums: &[S::f32s; REGISTERS], y: &mut [f32]) {
    let (whole, rest) = S::as_mut_simd_f32s(y);
    let (whole_sums, rest_sums) = sums.split_at(whole.len());
    for (y, sum) in whole.iter_mut().zip(whole_sums) {
        *y = simd.add_f32s(*y, *sum);
    }
    if let Some(sum) = rest_sums.first() {
        let before = simd.partial_load_f32s(rest);
        simd.partial_store_f32s(rest, simd.add_f32s(before, *sum));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Small integers, whose products and sums are exact in any order.
    fn integers(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * step) % 17) as f32 - 8.0).collect()
    }

    proptest! {
        #[test]
        fn a_product_equals_the_sum_of_products(
            rows in 0_usize..40,
            width_in in 1_usize..50,
            widths_out in prop::collection::vec(1_usize..40, 1..3),
        ) {
            let parts: Vec<_> = widths_out
                .iter()
                .enumerate()
                .map(|(part, width)| integers(width * width_in, 5 + part))
                .collect();
            let (x, width_out) = (integers(rows * width_in, 7), widths_out.iter().sum::<usize>());
            let mut y = vec![3.0; rows * width_out];
            PackedWeights::new(&parts, width_in).add_product(&x, &mut y);
            let all: Vec<f32> = parts.concat();
            for (row, y) in x.chunks_exact(width_in).zip(y.chunks_exact(width_out)) {
                for (weights, y) in all.chunks_exact(width_in).zip(y) {
                    let sum: f32 = weights.iter().zip(row).map(|(w, x)| w * x).sum();
                    prop_assert_eq!(y.to_bits(), (3.0 + sum).to_bits());
                }
            }
        }
    }

    #[test]
    fn rows_beyond_one_block_are_multiplied_too() {
        let (width_in, rows) = (BLOCK_VALUES / 20, 100);
        let weights = integers(3 * width_in, 5);
        let (x, mut y) = (integers(rows * width_in, 7), vec![0.0; rows * 3]);
        PackedWeights::new(std::slice::from_ref(&weights), width_in).add_product(&x, &mut y);
        let last = &x[(rows - 1) * width_in..];
        let sum: f32 = weights[2 * width_in..]
            .iter()
            .zip(last)
            .map(|(w, x)| w * x)
            .sum();
        assert_eq!(y[rows * 3 - 1].to_bits(), sum.to_bits());
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn factors_of_other_widths_are_refused() {
        PackedWeights::new(&[vec![0.0; 6]], 3).add_product(&[0.0; 6], &mut [0.0; 5]);
    }
}
