//! From an evaluated row to logits: every check, then decryption and rescaling.

use std::num::NonZeroUsize;

use pulp::Arch;
use sealift_fhe_layer::{
    ActivationError, EncryptedRow, LOG2_MODULUS, LimbMatrix, LimbMatrixBuilder, RING_DIMENSION,
    Sums,
};
use zeroize::Zeroizing;

use crate::ring::{
    BlockSecret, MODULUS_MASK, Masks, Polynomial, Product, Ring, TransformedSecret, zero,
};
use crate::secrets::LayerSecrets;

/// Bytes of a mask coefficient.
const MASK_PLANES: usize = LOG2_MODULUS as usize / 8;

/// Rows whose masks are computed together; enough to use each byte of the seed's expansion well.
const MASKS_AT_ONCE: usize = 32;

/// A row that passed every check of this layer; the only thing that can be opened.
///
/// The caller reserves the row in its budget between check and opening. There is no other way to
/// make one:
///
/// ```compile_fail,E0451
/// # use sealift_fhe_key::{CheckedRow, LayerSecrets};
/// # use sealift_fhe_layer::EncryptedRow;
/// fn skip<'a>(secrets: &'a LayerSecrets, row: &'a EncryptedRow) -> CheckedRow<'a> {
///     CheckedRow { secrets, row }
/// }
/// ```
pub struct CheckedRow<'a> {
    secrets: &'a LayerSecrets,
    row: &'a EncryptedRow,
}

impl LayerSecrets {
    /// Checks a row: shape, range of x, ‖x‖², scale, |Y|, and last the check vector, which only
    /// Σ_j x_j·b_j over the published bodies satisfies.
    ///
    /// A refusal is the same to the guest whatever its reason: answer nothing, end the session
    /// and quarantine guest and batch.
    pub fn check<'a>(&'a self, row: &'a EncryptedRow) -> Result<CheckedRow<'a>, Refusal> {
        self.check_public(row)?;
        if !self.check.holds(row.x(), row.y()) {
            return Err(Refusal::CheckVector);
        }
        Ok(CheckedRow { secrets: self, row })
    }

    /// [`Self::check`] and [`CheckedRow::open`] in one, for callers without a budget.
    pub fn open<'a>(&'a self, row: &'a EncryptedRow) -> Result<Opened<'a>, Refusal> {
        self.check(row)?.open().map_err(Refusal::Undecryptable)
    }

    /// The checks that need no secret.
    fn check_public(&self, row: &EncryptedRow) -> Result<(), Refusal> {
        if row.set() != self.meta.set() {
            return Err(Refusal::OtherSet);
        }
        if row.y().len() != self.meta.d_out() {
            return Err(Refusal::Outputs {
                expected: self.meta.d_out(),
                found: row.y().len(),
            });
        }
        self.meta.check_activation(row.x())?;
        if !self.meta.scale().contains(row.s()) {
            return Err(Refusal::Scale);
        }
        let norm_1 = row.x().iter().map(|v| u64::from(v.unsigned_abs())).sum();
        let bound = self.meta.set().sum_bound(norm_1);
        if row.y().all_within(bound) {
            Ok(())
        } else {
            Err(Refusal::SumRange)
        }
    }
}

impl<'a> CheckedRow<'a> {
    /// Decrypts, rounding each phase to a multiple of Δ.
    pub fn open(self) -> Result<Opened<'a>, Undecryptable> {
        let mask = self.secrets.prepared().sums(&[self.row.x()]);
        self.open_with(&mask[0])
    }

    /// As [`Self::open`] for many rows: for narrow layers several times faster per row.
    pub fn open_all(rows: &[Self]) -> Result<Vec<Opened<'a>>, Undecryptable> {
        let mut opened = Vec::with_capacity(rows.len());
        for rows in rows.chunk_by(|a, b| std::ptr::eq(a.secrets, b.secrets)) {
            for rows in rows.chunks(MASKS_AT_ONCE) {
                let xs: Vec<&[i8]> = rows.iter().map(|row| row.row.x()).collect();
                let masks = rows[0].secrets.prepared().sums(&xs);
                for (row, mask) in rows.iter().zip(masks.iter()) {
                    opened.push(row.open_with(mask)?);
                }
            }
        }
        Ok(opened)
    }

    fn open_with(&self, mask: &Sums) -> Result<Opened<'a>, Undecryptable> {
        let secrets = self.secrets;
        let mut integers = self.phases(mask);
        let decoder = Decoder::new(secrets.delta);
        let largest = Arch::new().dispatch(|| {
            integers.iter_mut().fold(0, |largest: u64, value| {
                *value = decoder.decode(*value);
                largest.max(value.unsigned_abs())
            })
        });
        if largest > secrets.message_bound {
            return Err(Undecryptable);
        }
        Ok(Opened {
            secrets,
            integers,
            s: self.row.s(),
        })
    }

    /// Y·2^dropped − (Σ_j x_j·a_j)·s in ±q/2: Δ·y and noise. Never leaves this module.
    fn phases(&self, mask: &Sums) -> Zeroizing<Vec<i64>> {
        let dropped_bits = self.secrets.meta.set().dropped_bits();
        let mut phases = Zeroizing::new(self.row.y().wrapped());
        self.secrets.prepared().products(mask, |from, products| {
            Arch::new().dispatch(|| {
                for (phase, product) in phases[from..].iter_mut().zip(products) {
                    let body = phase.cast_unsigned() << dropped_bits;
                    *phase = centred(body.wrapping_sub(*product));
                }
            });
        });
        phases
    }

    /// A row that nobody checked, to show what the check is for.
    #[cfg(test)]
    pub(crate) fn unchecked(secrets: &'a LayerSecrets, row: &'a EncryptedRow) -> Self {
        Self { secrets, row }
    }

    /// The phases, for the statistics of their noise.
    #[cfg(test)]
    pub(crate) fn phases_for_statistics(&self) -> Zeroizing<Vec<i64>> {
        self.phases(&self.secrets.prepared().sums(&[self.row.x()])[0])
    }
}

/// Rounding to multiples of Δ.
struct Decoder {
    delta: i64,
    /// 1/Δ. A quotient by it is off by one at most, which is mended: dividing takes ten times
    /// as long.
    inverse: f64,
}

impl Decoder {
    fn new(delta: u64) -> Self {
        Self {
            delta: delta.cast_signed(),
            inverse: 1.0 / delta as f64,
        }
    }

    /// The integer nearest to phase/Δ for a phase in ±2^47; halves go up.
    #[inline]
    fn decode(&self, phase: i64) -> i64 {
        let estimate = (phase as f64 * self.inverse) as i64;
        let rest = phase - estimate * self.delta;
        let upper = self.delta - self.delta / 2;
        estimate + i64::from(rest >= upper) - i64::from(rest < upper - self.delta)
    }
}

/// The representative modulo q in [-q/2, q/2). Higher bits do not matter.
#[inline]
pub(crate) fn centred(residue: u64) -> i64 {
    let unused = u64::BITS - LOG2_MODULUS;
    (residue << unused).cast_signed() >> unused
}

impl LayerSecrets {
    fn prepared(&self) -> &Prepared {
        self.prepared.get_or_init(|| Prepared::new(self))
    }
}

/// What opening needs again for every row: a matrix to multiply x with, and the secrets
/// transformed where there are several.
pub(crate) struct Prepared {
    ring: Ring,
    /// Of a layer with one block the needed coefficients of a_j·s, no more work than the masks
    /// themselves and secret; of any other the masks a_j.
    columns: Zeroizing<LimbMatrix>,
    /// Empty for a layer with one block.
    blocks: Vec<TransformedSecret>,
}

impl Prepared {
    fn new(secrets: &LayerSecrets) -> Self {
        let ring = Ring::new();
        let secret = |s: &BlockSecret| ring.transform_secret(s.coefficients());
        let mut blocks: Vec<_> = secrets.blocks.iter().map(secret).collect();
        let only = blocks.pop_if(|_| secrets.blocks.len() == 1);
        let (d_in, d_out) = (secrets.meta.d_in(), secrets.meta.d_out());
        let width = if only.is_some() {
            d_out
        } else {
            RING_DIMENSION
        };

        let mut masks = Masks::new(secrets.meta.mask_seed());
        let mut matrix = LimbMatrixBuilder::new(d_in, width, MASK_PLANES);
        let (mut mask, mut product) = (zero(), Product::new());
        let mut limbs = Zeroizing::new(Vec::with_capacity(width * MASK_PLANES));
        for _ in 0..d_in {
            masks.next_into(&mut mask);
            let column = if let Some(secret) = &only {
                ring.multiply(&ring.transform_mask(&mask), secret, &mut product);
                &product.coefficients()[..width]
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
        Self {
            ring,
            columns,
            blocks,
        }
    }

    /// The columns times each x.
    fn sums(&self, xs: &[&[i8]]) -> Zeroizing<Vec<Sums>> {
        let mut sums = Zeroizing::new(Vec::with_capacity(xs.len()));
        let one = NonZeroUsize::MIN;
        self.columns.sums(xs, one, &mut sums);
        sums
    }

    /// Gives `take` the coefficients of (Σ_j x_j·a_j)·s modulo q, 2048 outputs at a time, each
    /// time with the number of the first.
    fn products(&self, sums: &Sums, mut take: impl FnMut(usize, &[u64])) {
        let residues = |sum: &i64| sum.cast_unsigned() & MODULUS_MASK;
        let sums = Zeroizing::new(sums.wrapped());
        let sums: Polynomial = Zeroizing::new(sums.iter().map(residues).collect());
        if self.blocks.is_empty() {
            return take(0, &sums);
        }
        let mask = self.ring.transform_mask(&sums);
        let mut product = Product::new();
        for (block, secret) in self.blocks.iter().enumerate() {
            self.ring.multiply(&mask, secret, &mut product);
            take(block * RING_DIMENSION, product.coefficients());
        }
    }
}

/// The answers of one row. For the model user only, and only under the output policy.
pub struct Opened<'a> {
    secrets: &'a LayerSecrets,
    integers: Zeroizing<Vec<i64>>,
    s: f32,
}

impl Opened<'_> {
    /// y_k = Σ_j w[k,j]·x_j, exact.
    pub fn integers(&self) -> &[i64] {
        &self.integers
    }

    /// y_k · row scale · s + bias.
    pub fn logits(&self) -> Zeroizing<Vec<f32>> {
        self.rescaled(self.integers.iter().copied())
    }

    /// As [`Self::logits`], with every y_k rounded to a multiple of its grid unit first.
    pub fn logits_on(&self, grid: &RoundingGrid) -> Zeroizing<Vec<f32>> {
        let pairs = self.integers.iter().zip(grid.units.iter());
        self.rescaled(pairs.map(|(y, unit)| on_grid(*y, *unit)))
    }

    fn rescaled(&self, integers: impl Iterator<Item = i64>) -> Zeroizing<Vec<f32>> {
        let (scales, bias) = (self.secrets.row_scales.iter(), self.secrets.bias.iter());
        let mut logits = Zeroizing::new(vec![0.0; self.integers.len()]);
        let outputs = logits.iter_mut().zip(integers.zip(scales).zip(bias));
        let s = f64::from(self.s);
        Arch::new().dispatch(|| {
            for (logit, ((y, scale), bias)) in outputs {
                *logit = (y as f64 * f64::from(*scale) * s + f64::from(*bias)) as f32;
            }
        });
        logits
    }
}

/// The multiple of `unit` nearest to y; halves go up.
///
/// Both stay below 2^50, so the floating quotient is on the right side of every integer.
#[inline]
fn on_grid(y: i64, unit: i64) -> i64 {
    ((y + unit / 2) as f64 / unit as f64).floor() as i64 * unit
}

/// Units to which integers are rounded before they are rescaled, one per output.
///
/// They are taken for the largest scale that the manifest permits, so no choice of s makes the
/// released integers finer.
pub struct RoundingGrid {
    units: Zeroizing<Vec<i64>>,
}

impl LayerSecrets {
    /// The grid whose steps are at least `step`, in logits, for the largest permitted scale.
    pub fn rounding_grid(&self, step: f32) -> Result<RoundingGrid, GridError> {
        if !step.is_normal() || step.is_sign_negative() {
            return Err(GridError);
        }
        let largest = f64::from(self.meta.scale().max());
        let widest = 2 * self.message_bound.cast_signed() + 1;
        let unit = |scale: &f32| {
            let unit = (f64::from(step) / (f64::from(*scale) * largest)).ceil();
            (unit as i64).clamp(1, widest)
        };
        Ok(RoundingGrid {
            units: Zeroizing::new(self.row_scales.iter().map(unit).collect()),
        })
    }
}

/// A rounding step has to be a positive number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rounding step is a positive number")]
pub struct GridError;

/// Why a row is not decrypted. Only for the audit log: to the guest all are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Evaluated from bodies of another parameter set.
    #[error("the row was evaluated under another parameter set")]
    OtherSet,
    /// Of another layer.
    #[error("the row has {found} outputs, the layer {expected}")]
    Outputs {
        /// Outputs of the layer.
        expected: usize,
        /// Outputs of the row.
        found: usize,
    },
    /// Shape, range or norm of x.
    #[error("the row's activation is not one that this layer accepts")]
    Activation(#[from] ActivationError),
    /// Outside the manifest's range, or not a number.
    #[error("the row's activation scale is outside the range of the manifest")]
    Scale,
    /// No evaluation of this activation is that large.
    #[error("a sum of the row is larger than any evaluation of its activation")]
    SumRange,
    /// Not Σ_j x_j·b_j: altered, of another row, of another layer, or of an earlier sealing.
    #[error("the row's sums are not those of this layer's columns")]
    CheckVector,
    /// The check vector held and the answer is still impossible.
    #[error(transparent)]
    Undecryptable(#[from] Undecryptable),
}

/// A checked row decrypted to more than |W|·|x| can be.
///
/// Checked sums are honest ones, so this is a failure of at most 2^-64 per output, or secrets
/// that do not belong to the bodies. It depends on decrypted values: never tell the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row decrypts to an impossible value; the layer's secrets do not fit its bodies")]
pub struct Undecryptable;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_is_exact_rounding(phase in -(1_i64 << 47)..(1 << 47), bits in 1_u32..48, delta: u64) {
            let decoder = Decoder::new((delta >> (64 - bits)).max(1));
            let delta = decoder.delta;
            let near_half = (phase / delta) * delta + delta / 2;
            for phase in [phase, near_half - 1, near_half, near_half + 1] {
                let exact = (phase + delta / 2).div_euclid(delta);
                prop_assert_eq!(decoder.decode(phase), exact, "{}/{}", phase, delta);
            }
        }
    }

    proptest! {
        #[test]
        fn a_rounded_integer_is_the_nearest_multiple_of_its_unit(
            y in -(1_i64 << 47)..(1 << 47),
            unit_bits in 0_u32..48,
            unit: i64,
        ) {
            let unit = (unit & ((1 << unit_bits) - 1)).max(1);
            let at_half = y / unit * unit + unit / 2;
            for y in [y, at_half - 1, at_half, at_half + 1] {
                let exact = (y + unit / 2).div_euclid(unit) * unit;
                prop_assert_eq!(on_grid(y, unit), exact, "{} on {}", y, unit);
            }
        }
    }
}
