//! Decryption: the mask of each row, its products with the secrets, phases, rounding.

use std::num::NonZeroUsize;

use pulp::Arch;
use sealift_fhe_layer::{
    EncryptedRow, LOG2_MODULUS, LimbMatrix, LimbMatrixBuilder, RING_DIMENSION, Sums,
};
use zeroize::Zeroizing;

use crate::open::Undecryptable;
use crate::product::{Multiplication, NearMultiplication, TransformedSecret};
use crate::ring::{BlockSecret, MODULUS_MASK, Masks, Polynomial, zero};
use crate::secrets::LayerSecrets;

/// Bytes of a mask coefficient.
const MASK_PLANES: usize = LOG2_MODULUS as usize / 8;

/// Rows whose masks are computed together; enough to use each byte of the seed's expansion well.
const MASKS_AT_ONCE: usize = 32;

/// Decrypts rows of one layer one after the other, in memory that is wiped when it is dropped.
pub(crate) struct Decryption<'a> {
    secrets: &'a LayerSecrets,
    prepared: &'a Prepared,
    decoder: Decoder,
    multiplication: NearMultiplication,
    /// Σ_j x_j·a_j modulo q; of a layer with one block the product with its secret.
    mask: Polynomial,
    /// The integers of one block.
    integers: Zeroizing<Vec<f64>>,
}

impl<'a> Decryption<'a> {
    pub(crate) fn new(secrets: &'a LayerSecrets) -> Self {
        Self {
            secrets,
            prepared: secrets.prepared.get_or_init(|| Prepared::new(secrets)),
            decoder: Decoder::new(secrets.delta),
            multiplication: NearMultiplication::new(),
            mask: zero(),
            integers: Zeroizing::new(vec![0.0; RING_DIMENSION]),
        }
    }

    /// Calls `each` with every row and its mask.
    pub(crate) fn rows(
        &mut self,
        rows: &[EncryptedRow],
        mut each: impl FnMut(&mut Self, &EncryptedRow, &Sums),
    ) {
        for rows in rows.chunks(MASKS_AT_ONCE) {
            let xs: Vec<&[i8]> = rows.iter().map(EncryptedRow::x).collect();
            let masks = self.prepared.sums(&xs);
            for (row, mask) in rows.iter().zip(masks.iter()) {
                each(self, row, mask);
            }
        }
    }

    /// Gives `take` the integers y_k of a row, up to 2048 at a time, each time with the number of
    /// the first.
    pub(crate) fn row(
        &mut self,
        row: &EncryptedRow,
        mask: &Sums,
        mut take: impl FnMut(usize, &[f64]),
    ) -> Result<(), Undecryptable> {
        let mut largest = 0.0_f64;
        self.blocks(row, mask, |decoder, from, (bodies, products, integers)| {
            largest = largest.max(decoder.decode_block(bodies, products, integers));
            take(from, integers);
        });
        if largest > self.secrets.message_bound as f64 {
            return Err(Undecryptable);
        }
        Ok(())
    }

    /// Gives `each` the bodies Y_k·2^dropped of each block, the coefficients of (Σ_j x_j·a_j)·s
    /// modulo q, and room for as many integers.
    fn blocks(
        &mut self,
        row: &EncryptedRow,
        mask: &Sums,
        mut each: impl FnMut(&Decoder, usize, (Bodies<'_>, &[u64], &mut [f64])),
    ) {
        let wrapped;
        let sums = if let Some(sums) = row.y().narrow() {
            sums
        } else {
            wrapped = row.y().wrapped();
            &wrapped
        };
        let dropped_bits = self.secrets.meta.set().dropped_bits();
        self.take_mask(mask);
        let only = self.prepared.blocks.is_empty();
        for (block, sums) in sums.chunks(RING_DIMENSION).enumerate() {
            let products = if only {
                &self.mask
            } else {
                self.multiplication.times(&self.prepared.blocks[block])
            };
            let bodies = Bodies { sums, dropped_bits };
            let integers = &mut self.integers[..sums.len()];
            each(
                &self.decoder,
                block * RING_DIMENSION,
                (bodies, products, integers),
            );
        }
    }

    fn take_mask(&mut self, mask: &Sums) {
        let sums = Zeroizing::new(mask.wrapped());
        for (mask, sum) in self.mask.iter_mut().zip(sums.iter()) {
            *mask = sum.cast_unsigned() & MODULUS_MASK;
        }
        if !self.prepared.blocks.is_empty() {
            self.multiplication.set_mask(&self.mask);
        }
    }

    /// Y·2^dropped − (Σ_j x_j·a_j)·s in ±q/2: Δ·y and noise. Never leaves this crate's tests.
    #[cfg(test)]
    pub(crate) fn phases(&mut self, row: &EncryptedRow, mask: &Sums) -> Vec<i64> {
        let mut phases = Vec::new();
        self.blocks(row, mask, |_, _, (bodies, products, _)| {
            let pairs = bodies.sums.iter().zip(products);
            phases.extend(pairs.map(|(sum, product)| phase(bodies.of(*sum), *product) as i64));
        });
        phases
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

/// Rounding to multiples of Δ, in floating point: every number is an integer below 2^53, so each
/// step but the quotient is exact.
struct Decoder {
    delta: f64,
    /// 1/Δ. A quotient by it is off by one at most, which is mended: dividing takes longer.
    inverse: f64,
    /// The least rest that is rounded up, ⌈Δ/2⌉.
    upper: f64,
}

/// 1.5·2^52: added and taken off again, it rounds a number within ±2^51 to an integer.
const ROUND: f64 = 1.5 * EXPONENT;

impl Decoder {
    fn new(delta: u64) -> Self {
        Self {
            delta: delta as f64,
            inverse: 1.0 / delta as f64,
            upper: (delta - delta / 2) as f64,
        }
    }

    /// The integer nearest to phase/Δ for a phase in ±2^47; halves go up.
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn decode(&self, phase: f64) -> f64 {
        let estimate = (phase * self.inverse + ROUND) - ROUND;
        let rest = phase - estimate * self.delta;
        let above = if rest >= self.upper { 1.0 } else { 0.0 };
        let below = if rest < self.upper - self.delta {
            1.0
        } else {
            0.0
        };
        estimate + above - below
    }

    /// Decodes a block; the largest absolute value.
    fn decode_block(&self, bodies: Bodies<'_>, products: &[u64], integers: &mut [f64]) -> f64 {
        let outputs = integers.iter_mut().zip(bodies.sums.iter().zip(products));
        // Bits of positive numbers are ordered as the numbers are, and integers can be compared
        // in any order, so several at once.
        let largest = Arch::new().dispatch(|| {
            outputs.fold(0, |largest: i64, (integer, (sum, product))| {
                *integer = self.decode(phase(bodies.of(*sum), *product));
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

    /// The columns times each x.
    fn sums(&self, xs: &[&[i8]]) -> Zeroizing<Vec<Sums>> {
        let mut sums = Zeroizing::new(Vec::with_capacity(xs.len()));
        let one = NonZeroUsize::MIN;
        self.columns.sums(xs, one, &mut sums);
        sums
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_is_exact_rounding(phase in -(1_i64 << 47)..(1 << 47), bits in 1_u32..48, delta: u64) {
            let delta = (delta >> (64 - bits)).max(1);
            let decoder = Decoder::new(delta);
            let delta = delta.cast_signed();
            let near_half = (phase / delta) * delta + delta / 2;
            for phase in [phase, near_half - 1, near_half, near_half + 1] {
                let exact = (phase + delta / 2).div_euclid(delta);
                prop_assert_eq!(decoder.decode(phase as f64), exact as f64, "{}/{}", phase, delta);
            }
        }

        #[test]
        fn a_phase_is_the_centred_difference(body: u64, product: u64) {
            let unused = u64::BITS - LOG2_MODULUS;
            let centred = (body.wrapping_sub(product) << unused).cast_signed() >> unused;
            prop_assert_eq!(phase(body, product), centred as f64);
        }
    }
}
