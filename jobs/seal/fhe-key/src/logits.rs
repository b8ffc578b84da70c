//! From integers to logits: rounding to a grid, row scales, bias.

use pulp::Arch;
use zeroize::Zeroizing;

use crate::secrets::LayerSecrets;

/// Units to which integers are rounded before they are rescaled, one per output.
///
/// They are taken for the largest scale that the manifest permits, so no choice of s makes the
/// released integers finer.
pub struct RoundingGrid {
    units: Zeroizing<Vec<f64>>,
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
            unit.clamp(1.0, widest as f64)
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

/// Writes y · row scale · s + bias of the outputs from `from`, each y on the grid, if any.
pub(crate) fn rescale(
    secrets: &LayerSecrets,
    (from, integers): (usize, &[f64]),
    (grid, s): (Option<&RoundingGrid>, f32),
    logits: &mut [f32],
) {
    let outputs = from..from + integers.len();
    let scales = secrets.row_scales[outputs.clone()].iter();
    let rescaling = scales.zip(&secrets.bias[outputs.clone()]);
    let logits = logits[outputs.clone()].iter_mut().zip(rescaling);
    let s = f64::from(s);
    let logit = |y: f64, scale: f32, bias: f32| (y * f64::from(scale) * s + f64::from(bias)) as f32;
    match grid {
        None => Arch::new().dispatch(|| {
            for ((out, (scale, bias)), y) in logits.zip(integers) {
                *out = logit(*y, *scale, *bias);
            }
        }),
        Some(grid) => Arch::new().dispatch(|| {
            let integers = integers.iter().zip(&grid.units[outputs]);
            for ((out, (scale, bias)), (y, unit)) in logits.zip(integers) {
                *out = logit(on_grid(*y, *unit), *scale, *bias);
            }
        }),
    }
}

/// The multiple of `unit` nearest to y, both integers; halves go up.
///
/// Both stay below 2^50, so the floating quotient is on the right side of every integer.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn on_grid(y: f64, unit: f64) -> f64 {
    ((y + (unit * 0.5).floor()) / unit).floor() * unit
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                let found = on_grid(y as f64, unit as f64);
                prop_assert_eq!(found, exact as f64, "{} on {}", y, unit);
            }
        }
    }
}
