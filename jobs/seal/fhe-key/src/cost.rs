//! What a layer of some shape will cost on this machine, measured on a few of its columns.
//!
//! Sealing takes a time per layer and a time per input, found from two counts of columns of all
//! outputs. The guest's product takes a time per weight. The key manager's work is a mask product
//! and a check of the activation, measured whole, and work per output that does not depend on the
//! width of the input.

use std::num::NonZeroUsize;
use std::time::Duration;

use sealift_fhe_layer::{
    EncryptedLayer, EncryptedRow, LOG2_MODULUS, LimbMatrix, LimbMatrixBuilder, ParameterSet,
    RING_DIMENSION, ScaleRange,
};

use crate::keys::{EncryptError, EncryptedLayerBytes, KeyError, LayerKeys, PlainLayer};
use crate::logits::RoundingGrid;
use crate::open::CheckedRows;
use crate::secrets::LayerSecrets;

/// Rows that are evaluated and opened together: what a batch does.
const ROWS: usize = 32;

/// Columns that are sealed, fewer and more.
const COLUMNS: [usize; 2] = [4, 20];

/// Weights of the slice that the guest's kernel multiplies; more than the caches next to a core
/// hold.
const SLICE_WEIGHTS: usize = 1 << 20;

/// Outputs of a slice are whole blocks of the kernel.
const SLICE_OUTPUTS: usize = 16;

/// Turns of each piece of work; the least counts, because load only adds.
const TURNS: usize = 5;

/// The least duration of a turn: what takes less is repeated.
const LEAST_TURN: Duration = Duration::from_millis(2);

/// A step of the answers, in logits, as most output policies have one.
const STEP: f32 = 0.01;

const SCALE: f32 = 0.05;

/// Predicted times of one encrypted layer, for one thread of the machine that measured them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PredictedTimes {
    /// Keys, encryption and check vector of the whole layer.
    pub seal_seconds: f64,
    /// The guest's product for one row of a batch.
    pub guest_seconds_per_row: f64,
    /// The key manager's checks and decryption of one row of a batch.
    pub key_manager_seconds_per_row: f64,
}

/// Why a layer was not tried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// A shape that no keys fit, or no randomness.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The few columns were not encrypted.
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
    /// The few columns, sealed a moment ago, were not evaluated or opened.
    #[error("columns that were sealed to measure them were not opened again")]
    Opening,
}

impl PredictedTimes {
    /// Tries out a layer of `d_in` inputs and `d_out` outputs; `clock` tells the
    /// processor time of this thread.
    pub fn measured(
        set: ParameterSet,
        (d_in, d_out): (usize, usize),
        clock: impl Fn() -> Duration,
    ) -> Result<Self, PredictError> {
        // The range of shapes is that of keys.
        LayerKeys::generate(set, d_in, d_out)?;
        let [fewer, more] = COLUMNS.map(|columns| columns.min(d_in));
        let (short, _) = sealing(set, (fewer, d_out), &clock)?;
        let (long, sealed) = sealing(set, (more, d_out), &clock)?;
        let per_column = if more > fewer {
            (long - short).max(0.0) / (more - fewer) as f64
        } else {
            0.0
        };
        // What grows with the inputs is measured on its own: its share in a wide layer's time is
        // too small to be told from noise.
        let of_inputs = |d_in| -> Result<f64, PredictError> {
            let narrow = Sealed::of(seal(set, (d_in, 1), &values(d_in))?)?;
            Ok(mask_product(d_in, d_out, &clock) + narrow.checking(&clock)?)
        };
        let opening = sealed.opening(&clock)? - of_inputs(more)?;
        Ok(Self {
            seal_seconds: long + per_column * (d_in - more) as f64,
            guest_seconds_per_row: guest_product(set, (d_in, d_out), &clock),
            key_manager_seconds_per_row: opening.max(0.0) + of_inputs(d_in)?,
        })
    }
}

/// A few columns, sealed.
struct Sealed {
    layer: EncryptedLayer,
    secrets: LayerSecrets,
}

fn sealing(
    set: ParameterSet,
    (d_in, d_out): (usize, usize),
    clock: &impl Fn() -> Duration,
) -> Result<(f64, Sealed), PredictError> {
    let weights = values(d_in * d_out);
    let mut sealed = Err(PredictError::Opening);
    let seconds = least(clock, || sealed = seal(set, (d_in, d_out), &weights));
    Ok((seconds, Sealed::of(sealed?)?))
}

fn seal(
    set: ParameterSet,
    (d_in, d_out): (usize, usize),
    weights: &[i8],
) -> Result<(EncryptedLayerBytes, LayerSecrets), PredictError> {
    let (row_scales, bias) = (vec![1.0; d_out], vec![0.0; d_out]);
    let plain = PlainLayer {
        layer: "slice",
        weights,
        row_scales: &row_scales,
        bias: &bias,
        scale: ScaleRange::new(SCALE, SCALE).map_err(|_| PredictError::Opening)?,
    };
    Ok(LayerKeys::generate(set, d_in, d_out)?.encrypt(&plain)?)
}

impl Sealed {
    fn of((bytes, secrets): (EncryptedLayerBytes, LayerSecrets)) -> Result<Self, PredictError> {
        let layer = EncryptedLayer::from_bytes(bytes.meta, &bytes.body);
        let layer = layer.map_err(|_| PredictError::Opening)?;
        Ok(Self { layer, secrets })
    }

    /// Seconds of the key manager per row.
    fn opening(&self, clock: &impl Fn() -> Duration) -> Result<f64, PredictError> {
        let rows = self.rows()?;
        let grid = self.secrets.rounding_grid(STEP);
        let grid = grid.map_err(|_| PredictError::Opening)?;
        per_row(clock, || self.open(&rows, &grid))
    }

    /// Seconds of the checks among them per row.
    fn checking(&self, clock: &impl Fn() -> Duration) -> Result<f64, PredictError> {
        let rows = self.rows()?;
        per_row(clock, || self.check(&rows).map(drop))
    }

    fn rows(&self) -> Result<Vec<EncryptedRow>, PredictError> {
        let x = vec![1; self.layer.meta().d_in()];
        self.layer
            .evaluate_rows(&[(x.as_slice(), SCALE); ROWS], NonZeroUsize::MIN)
            .map_err(|_| PredictError::Opening)
    }

    fn check<'a>(&'a self, rows: &'a [EncryptedRow]) -> Result<CheckedRows<'a>, PredictError> {
        self.secrets.check(rows).map_err(|_| PredictError::Opening)
    }

    fn open(&self, rows: &[EncryptedRow], grid: &RoundingGrid) -> Result<(), PredictError> {
        let mut opened = Ok(());
        self.check(rows)?.logits(Some(grid), |row| {
            if row.is_err() {
                opened = Err(PredictError::Opening);
            }
        });
        opened
    }
}

/// Seconds of work on [`ROWS`] rows per row, once it was done for the first time.
fn per_row(
    clock: &impl Fn() -> Duration,
    mut work: impl FnMut() -> Result<(), PredictError>,
) -> Result<f64, PredictError> {
    work()?;
    let mut failed = false;
    let seconds = least(clock, || failed |= work().is_err());
    if failed {
        return Err(PredictError::Opening);
    }
    Ok(seconds / ROWS as f64)
}

/// Seconds of the guest per row.
fn guest_product(
    set: ParameterSet,
    (d_in, d_out): (usize, usize),
    clock: &impl Fn() -> Duration,
) -> f64 {
    let padded = d_out.next_multiple_of(SLICE_OUTPUTS);
    let outputs = (SLICE_WEIGHTS / d_in).next_multiple_of(SLICE_OUTPUTS);
    let outputs = outputs.clamp(SLICE_OUTPUTS, padded);
    let matrix = matrix(d_in, outputs, set.body_planes());
    let mut sums = Vec::new();
    let seconds = product(d_in, clock, |xs| {
        matrix.sums(xs, NonZeroUsize::MIN, &mut sums);
    });
    seconds * padded as f64 / outputs as f64
}

/// Seconds of the key manager's mask product per row; of a layer with one block it has the
/// layer's own outputs.
fn mask_product(d_in: usize, d_out: usize, clock: &impl Fn() -> Duration) -> f64 {
    let planes = LOG2_MODULUS as usize / 8;
    let matrix = matrix(d_in, d_out.min(RING_DIMENSION), planes);
    let mut sums = vec![Vec::new(); ROWS];
    product(d_in, clock, |xs| matrix.wrapping_sums(xs, &mut sums))
}

fn product(d_in: usize, clock: &impl Fn() -> Duration, mut multiply: impl FnMut(&[&[i8]])) -> f64 {
    let x = values(d_in);
    let xs = [x.as_slice(); ROWS];
    least(clock, || multiply(&xs)) / ROWS as f64
}

fn matrix(d_in: usize, d_out: usize, planes: usize) -> LimbMatrix {
    let mut matrix = LimbMatrixBuilder::new(d_in, d_out, planes);
    let column: Vec<u8> = values(d_out * planes).iter().map(|v| *v as u8).collect();
    (0..d_in).for_each(|_| matrix.push_column(&column));
    matrix.finish().expect("every column was pushed")
}

/// Values in [-127, 127].
fn values(count: usize) -> Vec<i8> {
    (0..count)
        .map(|i| (i % 255) as u8 as i8)
        .map(|v| v.max(-127))
        .collect()
}

/// The least seconds of a few turns.
fn least(clock: &impl Fn() -> Duration, mut work: impl FnMut()) -> f64 {
    let turn = |_| {
        let start = clock();
        for calls in 1_u32.. {
            work();
            let taken = clock().saturating_sub(start);
            if taken >= LEAST_TURN {
                return taken.as_secs_f64() / f64::from(calls);
            }
        }
        unreachable!("a turn is over before the calls are counted")
    };
    (0..TURNS).map(turn).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A clock that moves by a second whenever it is read: all work takes one second.
    fn ticking() -> impl Fn() -> Duration {
        let now = Cell::new(0);
        move || {
            now.set(now.get() + 1);
            Duration::from_secs(now.get())
        }
    }

    #[test]
    fn the_guests_time_grows_with_the_outputs_that_were_not_tried_out() {
        let of = |d_out| {
            let times = PredictedTimes::measured(ParameterSet::P48B40, (2048, d_out), ticking());
            times.unwrap().guest_seconds_per_row * ROWS as f64
        };
        // 512 outputs of 2,048 inputs make a slice.
        assert!((of(100) - 1.0).abs() < 1e-9);
        assert!((of(2048) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_shape_without_keys_is_refused() {
        for shape in [(0, 5), (5, 0), (8193, 5)] {
            let refused = PredictedTimes::measured(ParameterSet::P48B40, shape, ticking());
            assert!(matches!(refused, Err(PredictError::Keys(_))), "{shape:?}");
        }
    }

    #[test]
    fn layers_narrower_than_the_columns_tried_out_are_tried_out_whole() {
        let times = PredictedTimes::measured(ParameterSet::P48B40, (3, 2), ticking()).unwrap();
        assert!((times.seal_seconds - 1.0).abs() < 1e-9);
    }
}
