//! Factors in the order in which their product reads them.
//!
//! Weights stay the same from batch to batch, so they are packed once. What an attention head
//! multiplies by is packed for each text, and used by all of its rows.

use std::ops::Range;

use pulp::Arch;

use crate::{
    product::{Finish, PanelWidth, Product},
    rows::{Rows, RowsMut},
};

/// Inputs whose products are summed before the next ones begin: their weights for one panel stay in
/// a core's first-level cache from tile to tile.
const BLOCK_INPUTS: usize = 384;

/// Values of a cache line, where panels begin: a register that crosses lines is loaded twice.
pub(crate) const LINE_VALUES: usize = 16;

/// A factor W [in, out], packed for this processor.
pub(crate) struct Packed {
    /// Block of inputs after block of inputs, each panel after panel of [inputs, `panel_width`];
    /// what stands after the last output is multiplied too, and goes nowhere.
    values: Vec<f32>,
    /// Where the first panel begins.
    start: usize,
    panel_width: usize,
    width_in: usize,
    width_out: usize,
    arch: Arch,
}

impl Packed {
    pub(crate) fn new(arch: Arch) -> Self {
        Self {
            values: Vec::new(),
            start: 0,
            panel_width: arch.dispatch(PanelWidth),
            width_in: 0,
            width_out: 0,
            arch,
        }
    }

    /// The columns of `parts` [out, in], one part after the other: y = x·Wᵀ.
    pub(crate) fn of_columns(arch: Arch, parts: &[Rows<'_>]) -> Self {
        let mut packed = Self::new(arch);
        packed.pack_columns(parts);
        packed
    }

    pub(crate) fn panel_width(&self) -> usize {
        self.panel_width
    }

    pub(crate) fn width_in(&self) -> usize {
        self.width_in
    }

    pub(crate) fn width_out(&self) -> usize {
        self.width_out
    }

    /// Replaces the factor by the rows of `parts` [out, in], one part after the other, as its
    /// columns.
    pub(crate) fn pack_columns(&mut self, parts: &[Rows<'_>]) {
        let width_in = parts.first().map_or(0, |part| part.width());
        let width_out = parts.iter().map(|part| part.count()).sum();
        self.resize(width_in, width_out);
        for inputs in self.blocks() {
            let size = inputs.len() * self.panel_width;
            let (mut panel, mut column) = (self.place(&inputs, 0), 0);
            for part in parts {
                assert_eq!(part.width(), width_in, "the parts do not fit");
                for index in 0..part.count() {
                    let row = &part.row(index)[inputs.clone()];
                    let steps = self.values[panel..panel + size].chunks_exact_mut(self.panel_width);
                    for (step, value) in steps.zip(row) {
                        step[column] = *value;
                    }
                    column += 1;
                    if column == self.panel_width {
                        (panel, column) = (panel + size, 0);
                    }
                }
            }
        }
    }

    /// Replaces the factor by `rows` [in, out].
    pub(crate) fn pack_rows(&mut self, rows: Rows<'_>) {
        self.resize(rows.count(), rows.width());
        for inputs in self.blocks() {
            for index in inputs.clone() {
                let outputs = rows.row(index).chunks(self.panel_width);
                for (panel, values) in outputs.enumerate() {
                    let place = self.place(&inputs, panel * self.panel_width);
                    let place = place + (index - inputs.start) * self.panel_width;
                    self.values[place..place + values.len()].copy_from_slice(values);
                }
            }
        }
    }

    /// Inputs that are multiplied together.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        evenly(self.width_in, BLOCK_INPUTS)
    }

    /// Outputs with those that go nowhere.
    fn padded_out(&self) -> usize {
        self.width_out.next_multiple_of(self.panel_width)
    }

    /// Where an output's weight for the first input of a block is.
    fn place(&self, inputs: &Range<usize>, output: usize) -> usize {
        let panel = output / self.panel_width * self.panel_width;
        self.start + inputs.start * self.padded_out() + panel * inputs.len() + output - panel
    }

    /// The weights of a panel for a block of inputs, and as many of those that stand after them.
    pub(crate) fn panel(&self, inputs: &Range<usize>, output: usize) -> (&[f32], &[f32]) {
        let size = inputs.len() * self.panel_width;
        let (panel, later) = self.values[self.place(inputs, output)..].split_at(size);
        (panel, &later[..size.min(later.len())])
    }

    /// Makes room.
    fn resize(&mut self, width_in: usize, width_out: usize) {
        (self.width_in, self.width_out) = (width_in, width_out);
        let count = width_in * self.padded_out() + LINE_VALUES;
        self.values.resize(count, 0.0);
        let start = self
            .values
            .as_ptr()
            .align_offset(LINE_VALUES * size_of::<f32>());
        self.start = start.min(LINE_VALUES);
    }

    /// Brings values into a core's second-level cache while it multiplies others. Without it, an
    /// encoder that is larger than the third-level cache waits for memory at every panel.
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    pub(crate) fn prefetch(&self, values: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            let sse = match self.arch {
                Arch::V3(simd) => simd.sse,
                Arch::V4(simd) => simd.sse,
                _ => return,
            };
            for line in values.chunks(LINE_VALUES) {
                sse._mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(line.as_ptr().cast());
            }
        }
        // Other processors are left to their own prefetching.
        #[cfg(not(target_arch = "x86_64"))]
        let _ = values;
    }

    /// Writes x·W into `y`, as `finish` says; only the first outputs if `y` has room for no more.
    pub(crate) fn multiply(&self, x: Rows<'_>, y: RowsMut<'_>, finish: Finish<'_>) {
        assert!(
            x.count() == y.count() && x.width() == self.width_in && y.width() <= self.width_out,
            "the factors do not fit"
        );
        let bias_fits = |bias: &[f32]| bias.len() == self.width_out;
        assert!(finish.bias.is_none_or(bias_fits), "the bias does not fit");
        let factor = self;
        self.arch.dispatch(Product {
            factor,
            x,
            y,
            finish,
        });
    }
}

/// Parts of `0..count` of at most `most` and nearly the same size.
pub(crate) fn evenly(count: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let size = count.div_ceil(count.div_ceil(most).max(1)).max(1);
    (0..count)
        .step_by(size)
        .map(move |start| start..count.min(start + size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config::Activation, product::BLOCK_ROWS};

    /// Small integers, whose products and sums are exact in any order.
    fn integers(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * step) % 17) as f32 - 8.0).collect()
    }

    /// Row by row, with rows of `weights` [out, in].
    fn reference(x: &[f32], weights: &[f32], width_in: usize) -> Vec<f32> {
        let dot = |row: &[f32], weights: &[f32]| weights.iter().zip(row).map(|(w, x)| w * x).sum();
        x.chunks_exact(width_in)
            .flat_map(|row| weights.chunks_exact(width_in).map(move |w| dot(row, w)))
            .collect()
    }

    fn transposed(values: &[f32], width: usize) -> Vec<f32> {
        (0..width)
            .flat_map(|column| values.iter().skip(column).step_by(width).copied())
            .collect()
    }

    fn arches() -> [Arch; 2] {
        [Arch::new(), Arch::Scalar]
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
            let parts: Vec<_> = parts.iter().map(|part| Rows::dense(part, width_in)).collect();
            let (x, width_out) = (integers(rows * width_in, 7), widths_out.iter().sum::<usize>());
            let all: Vec<f32> = parts
                .iter()
                .flat_map(|part| (0..part.count()).flat_map(|row| part.row(row)).copied())
                .collect();
            let bias = integers(width_out, 3);
            let finish = Finish { bias: Some(&bias), onto: true, ..Finish::default() };
            let products = reference(&x, &all, width_in);
            let expected: Vec<f32> = products
                .iter()
                .zip(bias.iter().cycle())
                .map(|(product, bias)| 3.0 + product + bias)
                .collect();
            for arch in arches() {
                let mut y = vec![3.0; rows * width_out];
                let target = RowsMut::dense(&mut y, width_out);
                Packed::of_columns(arch, &parts).multiply(Rows::dense(&x, width_in), target, finish);
                prop_assert_eq!(&y, &expected);
            }
        }

        #[test]
        fn packed_rows_are_the_transposed_columns(
            rows in 1_usize..20,
            width_in in 1_usize..50,
            width_out in 1_usize..40,
            left_out in 0_usize..40,
        ) {
            let (x, weights) = (integers(rows * width_in, 7), integers(width_out * width_in, 5));
            let room = width_out.saturating_sub(left_out).max(1);
            let expected = reference(&x, &weights[..room * width_in], width_in);
            for arch in arches() {
                let mut packed = Packed::of_columns(arch, &[Rows::dense(&x, width_in)]);
                packed.pack_rows(Rows::dense(&transposed(&weights, width_in), width_out));
                let mut y = vec![3.0; rows * room];
                let target = RowsMut::dense(&mut y, room);
                packed.multiply(Rows::dense(&x, width_in), target, Finish::default());
                prop_assert_eq!(&y, &expected);
            }
        }
    }

    #[test]
    fn all_blocks_of_rows_and_inputs_are_multiplied() {
        let (rows, width_in, width_out) = (BLOCK_ROWS + 7, 2 * BLOCK_INPUTS + 5, 3);
        let (x, weights) = (
            integers(rows * width_in, 7),
            integers(width_out * width_in, 5),
        );
        let bias = [1.0, -2.0, 5.0];
        let finish = Finish {
            bias: Some(&bias),
            activation: Some(Activation::Relu),
            ..Finish::default()
        };
        let products = reference(&x, &weights, width_in);
        let expected: Vec<f32> = products
            .iter()
            .zip(bias.iter().cycle())
            .map(|(product, bias)| (product + bias).max(0.0))
            .collect();
        let mut y = vec![9.0; rows * width_out];
        let target = RowsMut::dense(&mut y, width_out);
        Packed::of_columns(Arch::new(), &[Rows::dense(&weights, width_in)]).multiply(
            Rows::dense(&x, width_in),
            target,
            finish,
        );
        assert_eq!(y, expected);
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn factors_of_other_widths_are_refused() {
        Packed::of_columns(Arch::new(), &[Rows::dense(&[0.0; 6], 3)]).multiply(
            Rows::dense(&[0.0; 8], 4),
            RowsMut::dense(&mut [0.0; 4], 2),
            Finish::default(),
        );
    }
}
