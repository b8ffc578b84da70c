//! Products with a packed factor: tiles of sums that stay in registers until they are finished.

use std::ops::Range;

use pulp::{NullaryFnOnce, Simd, WithSimd};

use crate::{
    config::Activation,
    elementwise::Function,
    packed::{LINE_VALUES, Packed, evenly},
    rows::{Rows, RowsMut},
};

/// Registers of outputs in one panel: with [`FEW_ROWS`] rows their sums fill 12 of 16 registers,
/// with [`MANY_ROWS`] 24 of 32.
const REGISTERS: usize = 2;

/// Rows that are multiplied together on processors with 16 vector registers.
const FEW_ROWS: usize = 6;

/// The same with 32 registers.
const MANY_ROWS: usize = 12;

/// Rows of a block, whose inputs every panel reads again: 288 KiB stay in a core's second-level
/// cache beside two panels.
pub(crate) const BLOCK_ROWS: usize = 192;

/// What becomes of a product: y = product by default.
#[derive(Clone, Copy, Default)]
pub(crate) struct Finish<'a> {
    /// What is added to each row, if anything.
    pub(crate) bias: Option<&'a [f32]>,
    /// Whether the product is added to what is in y.
    pub(crate) onto: bool,
    /// What is applied in the end.
    pub(crate) activation: Option<Activation>,
}

impl Finish<'_> {
    /// What becomes of the product of one block of inputs.
    fn of_block(self, is_first: bool, is_last: bool) -> Self {
        Self {
            bias: self.bias.filter(|_| is_first),
            onto: self.onto || !is_first,
            activation: self.activation.filter(|_| is_last),
        }
    }
}

/// Outputs of one panel.
pub(crate) struct PanelWidth;

impl WithSimd for PanelWidth {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        REGISTERS * S::F32_LANES
    }
}

/// `x` times `factor` into `y`, all of which fit.
pub(crate) struct Product<'a> {
    pub(crate) factor: &'a Packed,
    pub(crate) x: Rows<'a>,
    pub(crate) y: RowsMut<'a>,
    pub(crate) finish: Finish<'a>,
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
            self.by_blocks::<S, { MANY_ROWS }, { MANY_ROWS * 2 / 3 }, { MANY_ROWS / 3 }>(simd);
        } else {
            self.by_blocks::<S, { FEW_ROWS }, { FEW_ROWS * 2 / 3 }, { FEW_ROWS / 3 }>(simd);
        }
    }
}

impl Product<'_> {
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn by_blocks<S: Simd, const ALL: usize, const TWO: usize, const ONE: usize>(mut self, simd: S) {
        let whole = self.finish;
        let width_in = self.factor.width_in();
        for rows in evenly(self.x.count(), BLOCK_ROWS) {
            for inputs in self.factor.blocks() {
                self.finish = whole.of_block(inputs.start == 0, inputs.end == width_in);
                self.block::<S, ALL, TWO, ONE>(simd, rows.clone(), inputs);
            }
        }
    }

    /// All outputs of some rows from some inputs.
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn block<S: Simd, const ALL: usize, const TWO: usize, const ONE: usize>(
        &mut self,
        simd: S,
        rows: Range<usize>,
        inputs: Range<usize>,
    ) {
        let panel_width = self.factor.panel_width();
        let ahead_size = (panel_width * inputs.len() * ALL)
            .div_ceil(rows.len())
            .next_multiple_of(LINE_VALUES);
        for output in (0..self.y.width()).step_by(panel_width) {
            let (panel, later) = self.factor.panel(&inputs, output);
            let mut ahead = later.chunks(ahead_size);
            let mut row = rows.start;
            while row < rows.end {
                self.factor.prefetch(ahead.next().unwrap_or_default());
                let tile = Tile {
                    inputs: inputs.clone(),
                    output,
                    panel,
                };
                // Seven rows take two tiles of four rather than one of six and one of two,
                // whose sums are too few to keep the multipliers busy.
                row += match (rows.end - row).div_ceil(ONE) {
                    1 => self.tile::<S, ONE>(simd, row..rows.end, tile),
                    2 | 4 => self.tile::<S, TWO>(simd, row..rows.end, tile),
                    _ => self.tile::<S, ALL>(simd, row..rows.end, tile),
                };
            }
        }
    }

    /// One panel's outputs for the first `ROWS` of `rows`, or all if there are less.
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize>(
        &mut self,
        simd: S,
        rows: Range<usize>,
        Tile {
            inputs,
            output,
            panel,
        }: Tile<'_>,
    ) -> usize {
        let mut x = [panel; ROWS];
        for (place, x) in x.iter_mut().enumerate() {
            *x = &self.x.row((rows.start + place).min(rows.end - 1))[inputs.clone()];
        }
        let mut sums = [[simd.splat_f32s(0.0); REGISTERS]; ROWS];
        sum(simd, &x, panel, &mut sums);
        let to = self.y.width().min(output + self.factor.panel_width());
        for (sums, row) in sums.iter().zip(rows) {
            put(
                simd,
                sums,
                self.finish,
                (output, &mut self.y.row(row)[output..to]),
            );
        }
        ROWS
    }
}

struct Tile<'a> {
    inputs: Range<usize>,
    output: usize,
    panel: &'a [f32],
}

/// Sums of one panel's outputs for each row of a tile.
type Tiled<S, const ROWS: usize> = [[<S as Simd>::f32s; REGISTERS]; ROWS];

/// The sums of one panel's outputs for a group of rows.
///
/// A function of its own, because what surrounds it would take registers from the inner loop.
#[inline(never)]
fn sum<S: Simd, const ROWS: usize>(
    simd: S,
    x: &[&[f32]; ROWS],
    panel: &[f32],
    sums: &mut Tiled<S, ROWS>,
) {
    simd.vectorize(Sum {
        simd,
        x,
        panel,
        sums,
    });
}

struct Sum<'a, S: Simd, const ROWS: usize> {
    simd: S,
    x: &'a [&'a [f32]; ROWS],
    panel: &'a [f32],
    sums: &'a mut Tiled<S, ROWS>,
}

impl<S: Simd, const ROWS: usize> NullaryFnOnce for Sum<'_, S, ROWS> {
    type Output = ();

    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn call(self) {
        let Self { simd, panel, .. } = self;
        let mut x = *self.x;
        let mut sums = [[simd.splat_f32s(0.0); REGISTERS]; ROWS];
        let (steps, _) = S::as_simd_f32s(panel).0.as_chunks::<REGISTERS>();
        // Loops over indices below lengths that are known to be equal: nothing is checked in them.
        for row in &mut x {
            *row = &row[..steps.len()];
        }
        for step in 0..steps.len() {
            for place in 0..ROWS {
                let value = simd.splat_f32s(x[place][step]);
                for register in 0..REGISTERS {
                    let sum = &mut sums[place][register];
                    *sum = simd.mul_add_e_f32s(value, steps[step][register], *sum);
                }
            }
        }
        *self.sums = sums;
    }
}

/// Writes `sums` into `y`, which begins at output `from`.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn put<S: Simd>(
    simd: S,
    sums: &[S::f32s; REGISTERS],
    finish: Finish<'_>,
    (from, y): (usize, &mut [f32]),
) {
    let bias = finish
        .bias
        .map_or(&[] as &[f32], |bias| &bias[from..from + y.len()]);
    let (whole, rest) = S::as_mut_simd_f32s(y);
    let (bias, bias_rest) = S::as_simd_f32s(bias);
    let (whole_sums, rest_sums) = sums.split_at(whole.len());
    for (place, (y, sum)) in whole.iter_mut().zip(whole_sums).enumerate() {
        let sum = match bias.get(place) {
            Some(bias) => simd.add_f32s(*sum, *bias),
            None => *sum,
        };
        *y = finished(simd, finish, sum, y);
    }
    if let Some(sum) = rest_sums.first() {
        let before = simd.partial_load_f32s(rest);
        let sum = simd.add_f32s(*sum, simd.partial_load_f32s(bias_rest));
        simd.partial_store_f32s(rest, finished(simd, finish, sum, &before));
    }
}

/// What `finish` makes of a sum that has its bias.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn finished<S: Simd>(simd: S, finish: Finish<'_>, sum: S::f32s, before: &S::f32s) -> S::f32s {
    let sum = if finish.onto {
        simd.add_f32s(*before, sum)
    } else {
        sum
    };
    match finish.activation {
        Some(activation) => activation.of(simd, sum),
        None => sum,
    }
}
