//! From integers to logits: rounding to a grid, row scales, bias.

use pulp::Arch;
use zeroize::Zeroizing;

use crate::rounding::nearest_multiple;
use crate::secrets::LayerSecrets;

/// Units to which integers are rounded before they are rescaled, one per output.
///
/// They are taken for the largest scale that the manifest permits, so no choice of s makes the
/// released integers finer.
pub struct RoundingGrid {
    units: Zeroizing<Vec<f64>>,
    inverses: Zeroizing<Vec<f64>>,
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
        let units: Vec<f64> = self.row_scales.iter().map(unit).collect();
        Ok(RoundingGrid {
            inverses: Zeroizing::new(units.iter().map(|unit| unit.recip()).collect()),
            units: Zeroizing::new(units),
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
    let scales = &secrets.row_scales[outputs.clone()];
    let logits = Rescaled {
        logits: &mut logits[outputs.clone()],
        scales,
        bias: &secrets.bias[outputs.clone()],
        s: f64::from(s),
    };
    match grid {
        None => Arch::new().dispatch(|| logits.write(integers.iter().copied())),
        Some(grid) => {
            let units = (&grid.units[outputs.clone()], &grid.inverses[outputs]);
            Arch::new().dispatch(|| logits.write(on_grid(integers, units)));
        }
    }
}

/// Logits to be written, and what makes them of integers.
struct Rescaled<'a> {
    logits: &'a mut [f32],
    scales: &'a [f32],
    bias: &'a [f32],
    s: f64,
}

impl Rescaled<'_> {
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn write(self, integers: impl Iterator<Item = f64>) {
        let rescaling = self.scales.iter().zip(self.bias);
        for ((logit, (scale, bias)), y) in self.logits.iter_mut().zip(rescaling).zip(integers) {
            *logit = (y * f64::from(*scale) * self.s + f64::from(*bias)) as f32;
        }
    }
}

/// Each integer as the nearest multiple of its unit.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn on_grid<'a>(
    integers: &'a [f64],
    (units, inverses): (&'a [f64], &'a [f64]),
) -> impl Iterator<Item = f64> + 'a {
    let units = units.iter().zip(inverses);
    integers
        .iter()
        .zip(units)
        .map(|(y, (unit, inverse))| nearest_multiple(*y, (*unit, *inverse)) * unit)
}
