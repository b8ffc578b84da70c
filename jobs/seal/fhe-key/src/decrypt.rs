//! Decryption: the mask of each row, its products with the secrets, phases, rounding.

use std::borrow::Cow;
use std::num::Wrapping;

use pulp::Arch;
use sealift_fhe_layer::{
    EncryptedRow, LOG2_MODULUS, LimbMatrix, LimbMatrixBuilder, RING_DIMENSION,
};
use zeroize::Zeroizing;

use crate::open::Undecryptable;
use crate::product::{Multiplication, NearMultiplication, TransformedSecret};
use crate::ring::{BlockSecret, MODULUS_MASK, Masks, Polynomial, zero};
use crate::rounding::nearest_multiple;
use crate::secrets::LayerSecrets;

/// Bytes of a mask coefficient.
const MASK_PLANES: usize = LOG2_MODULUS as usize / 8;

/// Rows whose masks are computed together; enough to use each byte of the seed's expansion well.
const MASKS_AT_ONCE: usize = 32;

/// Rows that pass a block of outputs before the next block: what a block needs of secrets, scales
/// and units stays in a second-level cache, and so do the rows' transformed masks.
pub(crate) const ROWS_AT_ONCE: usize = 4;

// A row's place among those decrypted together is its number's rest.
const _: () = assert!(MASKS_AT_ONCE.is_multiple_of(ROWS_AT_ONCE));

/// Decrypts rows of one layer, in memory that is wiped when it is dropped.
pub(crate) struct Decryption<'a> {
    secrets: &'a LayerSecrets,
    prepared: &'a Prepared,
    decoder: Decoder,
    multiplication: NearMultiplication,
    /// Σ_j x_j·a_j modulo 2^64 of each row; of a layer with one block the product with its secret.
    masks: Zeroizing<Vec<Vec<Wrapping<i64>>>>,
    /// Of a layer with one block the product, as the other layers have theirs.
    only: Polynomial,
    /// The integers of one block.
    integers: Zeroizing<Vec<f64>>,
}

/// Bodies Y_k·2^dropped of a block, the coefficients of (Σ_j x_j·a_j)·s modulo q, and room for as
/// many integers.
type Block<'a> = (Bodies<'a>, &'a [u64], &'a mut [f64]);

/// Which outputs of which row: its position among the rows, and the number of the first output.
type Place = (usize, usize);

impl<'a> Decryption<'a> {
    /// Room for as many rows as are decrypted together.
    pub(crate) fn new(secrets: &'a LayerSecrets) -> Self {
        let prepared = secrets.prepared.get_or_init(|| Prepared::new(secrets));
        // A layer with one block has its products already.
        let transformed = if prepared.blocks.is_empty() {
            0
        } else {
            ROWS_AT_ONCE
        };
        Self {
            secrets,
            prepared,
            decoder: Decoder::new(secrets.delta),
            multiplication: NearMultiplication::new(transformed),
            masks: Zeroizing::default(),
            only: zero(),
            integers: Zeroizing::new(vec![0.0; RING_DIMENSION]),
        }
    }

    /// Gives `take` the integers y_k of up to [`ROWS_AT_ONCE`] rows, in pieces of up to 2048
    /// outputs; then tells `done`, for these rows in order, whether they were decrypted; and so
    /// on. Both work on `to`.
    pub(crate) fn rows<T>(
        &mut self,
        rows: &[EncryptedRow],
        to: &mut T,
        mut take: impl FnMut(&mut T, Place, &[f64]),
        mut done: impl FnMut(&mut T, &[Result<(), Undecryptable>]),
    ) {
        let bound = self.secrets.message_bound as f64;
        let verdict = |largest| {
            if largest > bound {
                Err(Undecryptable)
            } else {
                Ok(())
            }
        };
        for (chunk, rows) in rows.chunks(MASKS_AT_ONCE).enumerate() {
            self.take_masks(rows);
            for (group, rows) in rows.chunks(ROWS_AT_ONCE).enumerate() {
                let mask = group * ROWS_AT_ONCE;
                let first = chunk * MASKS_AT_ONCE + mask;
                let mut largest = [0.0_f64; ROWS_AT_ONCE];
                self.blocks(mask, rows, |decoder, (row, from), block| {
                    let (bodies, products, integers) = block;
                    let found = decoder.decode_block(bodies, products, integers);
                    largest[row] = largest[row].max(found);
                    take(to, (first + row, from), integers);
                });
                done(to, &largest.map(verdict)[..rows.len()]);
            }
        }
    }

    /// Gives `each` the blocks of a few rows, the first blocks of all before the second ones.
    /// `first` is the number of the first row's mask.
    fn blocks(
        &mut self,
        first: usize,
        rows: &[EncryptedRow],
        mut each: impl FnMut(&Decoder, Place, Block<'_>),
    ) {
        let several = !self.prepared.blocks.is_empty();
        if several {
            for (index, mask) in self.masks[first..].iter().take(rows.len()).enumerate() {
                self.multiplication.set_mask(index, mask);
            }
        }
        let sums: Vec<Cow<'_, [i64]>> = rows.iter().map(sums).collect();
        let dropped_bits = self.secrets.meta.set().dropped_bits();
        let outputs = self.secrets.meta.d_out();
        for (block, from) in (0..outputs).step_by(RING_DIMENSION).enumerate() {
            for (row, sums) in sums.iter().enumerate() {
                let products = if several {
                    self.multiplication.times(row, &self.prepared.blocks[block])
                } else {
                    for (product, mask) in self.only.iter_mut().zip(&self.masks[first + row]) {
                        *product = mask.0.cast_unsigned();
                    }
                    &self.only
                };
                let sums = &sums[from..outputs.min(from + RING_DIMENSION)];
                let bodies = Bodies { sums, dropped_bits };
                let integers = &mut self.integers[..sums.len()];
                each(&self.decoder, (row, from), (bodies, products, integers));
            }
        }
    }

    fn take_masks(&mut self, rows: &[EncryptedRow]) {
        let xs: Vec<&[i8]> = rows.iter().map(EncryptedRow::x).collect();
        // The memory of earlier rows is used again, and kept where fewer rows come: what is taken
        // off a vector is not wiped.
        if self.masks.len() < xs.len() {
            self.masks.resize_with(xs.len(), Vec::new);
        }
        let masks = &mut self.masks[..xs.len()];
        self.prepared.columns.wrapping_sums(&xs, masks);
    }

    /// Y·2^dropped − (Σ_j x_j·a_j)·s in ±q/2 of one row: Δ·y and noise. Never leaves this crate's
    /// tests.
    #[cfg(test)]
    pub(crate) fn phases(&mut self, row: &EncryptedRow) -> Vec<i64> {
        let row = std::slice::from_ref(row);
        self.take_masks(row);
        let mut phases = Vec::new();
        self.blocks(0, row, |_, _, (bodies, products, _)| {
            let pairs = bodies.sums.iter().zip(products);
            phases.extend(pairs.map(|(sum, product)| phase(bodies.of(*sum), *product) as i64));
        });
        phases
    }
}

/// The sums of a row modulo 2^64.
fn sums(row: &EncryptedRow) -> Cow<'_, [i64]> {
    match row.y().narrow() {
        Some(sums) => Cow::Borrowed(sums),
        None => Cow::Owned(row.y().wrapped()),
    }
}

/// Sums Y_k as they come, and what makes bodies of them.
#[derive(Clone, Copy)]
struct Bodies<'a> {
    sums: &'a [i64],
    dropped_bits: u32,
}

impl Bodies<'_> {
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn of(self, sum: i64) -> u64 {
        sum.cast_unsigned() << self.dropped_bits
    }
}

/// 2^52, whose bits can hold an integer below it, and half of q.
const EXPONENT: f64 = 4_503_599_627_370_496.0;
const HALF: u64 = 1 << (LOG2_MODULUS - 1);

/// body − product modulo q, in [-q/2, q/2). Exact: it has 48 bits.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn phase(body: u64, product: u64) -> f64 {
    let raised = (body.wrapping_sub(product) & MODULUS_MASK) ^ HALF;
    f64::from_bits(EXPONENT.to_bits() | raised) - (EXPONENT + HALF as f64)
}

/// Rounding to multiples of Δ.
struct Decoder {
    delta: f64,
    /// 1/Δ.
    inverse: f64,
}

impl Decoder {
    fn new(delta: u64) -> Self {
        let delta = delta as f64;
        Self {
            delta,
            inverse: delta.recip(),
        }
    }

    /// Decodes a block; the largest absolute value.
    fn decode_block(&self, bodies: Bodies<'_>, products: &[u64], integers: &mut [f64]) -> f64 {
        let outputs = integers.iter_mut().zip(bodies.sums.iter().zip(products));
        // Bits of positive numbers are ordered as the numbers are, and integers can be compared
        // in any order, so several at once.
        let largest = Arch::new().dispatch(|| {
            outputs.fold(0, |largest: i64, (integer, (sum, product))| {
                let phase = phase(bodies.of(*sum), *product);
                *integer = nearest_multiple(phase, (self.delta, self.inverse));
                largest.max(integer.abs().to_bits().cast_signed())
            })
        });
        f64::from_bits(largest.cast_unsigned())
    }
}

/// What decryption needs again for every row: a matrix to multiply x with, and the secrets
/// transformed where there are several.
pub(crate) struct Prepared {
    /// Of a layer with one block the needed coefficients of a_j·s, no more work than the masks
    /// themselves and secret; of any other the masks a_j.
    columns: Zeroizing<LimbMatrix>,
    /// Empty for a layer with one block.
    blocks: Vec<TransformedSecret>,
}

impl Prepared {
    fn new(secrets: &LayerSecrets) -> Self {
        let mut multiplication = Multiplication::new();
        let transformed = |s: &BlockSecret| multiplication.transformed(&s.coefficients());
        let mut blocks: Vec<_> = secrets.blocks.iter().map(transformed).collect();
        let only = blocks.pop_if(|_| secrets.blocks.len() == 1);
        let (d_in, d_out) = (secrets.meta.d_in(), secrets.meta.d_out());
        let width = if only.is_some() {
            d_out
        } else {
            RING_DIMENSION
        };

        let mut masks = Masks::new(secrets.meta.mask_seed());
        let mut matrix = LimbMatrixBuilder::new(d_in, width, MASK_PLANES);
        let mut mask = zero();
        let mut limbs = Zeroizing::new(Vec::with_capacity(width * MASK_PLANES));
        for _ in 0..d_in {
            masks.next_into(&mut mask);
            let column = if let Some(secret) = &only {
                multiplication.set_mask(&mask);
                &multiplication.times(secret)[..width]
            } else {
                &mask
            };
            limbs.clear();
            for a in column {
                limbs.extend_from_slice(&a.to_le_bytes()[..MASK_PLANES]);
            }
            matrix.push_column(&limbs);
        }
        let columns = Zeroizing::new(matrix.finish().expect("every column was pushed"));
        Self { columns, blocks }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_phase_is_the_centred_difference(body: u64, product: u64) {
            let unused = u64::BITS - LOG2_MODULUS;
            let centred = (body.wrapping_sub(product) << unused).cast_signed() >> unused;
            prop_assert_eq!(phase(body, product), centred as f64);
        }
    }
}
