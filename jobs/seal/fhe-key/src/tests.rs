//! Whole layers: sealed, evaluated, opened, attacked.

mod bisection;
mod bundles;
mod exactness;
mod keys;
mod noise;
mod refusals;
mod tfhe_reference;

use std::num::NonZeroUsize;
use std::slice;

use sealift_fhe_layer::{EncryptedLayer, EncryptedRow, ParameterSet, ScaleRange, Sums};

use crate::{EncryptedLayerBytes, LayerKeys, LayerSecrets, PlainLayer, RoundingGrid};

/// The activation scale of rows in tests.
const S: f32 = 0.05;

/// A small deterministic stream (SplitMix64), so that a failing case can be repeated.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform values in [-127, 127].
    fn int8(&mut self, count: usize) -> Vec<i8> {
        (0..count)
            .map(|_| (self.next() % 255) as i8)
            .map(|v| v.max(-127))
            .collect()
    }

    /// ±127 at random.
    fn extremes(&mut self, count: usize) -> Vec<i8> {
        (0..count)
            .map(|_| if self.next() & 1 == 0 { 127 } else { -127 })
            .collect()
    }
}

fn scale_range() -> ScaleRange {
    ScaleRange::new(0.001, 0.1).unwrap()
}

/// A layer that was sealed and read again, with its secrets.
struct Sealed {
    bytes: EncryptedLayerBytes,
    layer: EncryptedLayer,
    secrets: LayerSecrets,
}

fn seal(set: ParameterSet, d_in: usize, weights: &[i8]) -> Sealed {
    let d_out = weights.len() / d_in;
    let row_scales: Vec<f32> = (0..d_out).map(|k| 0.01 + k as f32 * 1e-6).collect();
    let bias: Vec<f32> = (0..d_out).map(|k| k as f32 * 0.25 - 3.0).collect();
    let plain = PlainLayer {
        layer: "classifier.weight",
        weights,
        row_scales: &row_scales,
        bias: &bias,
        scale: scale_range(),
    };
    let keys = LayerKeys::generate(set, d_in, d_out).unwrap();
    let (bytes, secrets) = keys.encrypt(&plain).unwrap();
    let layer = EncryptedLayer::from_bytes(bytes.meta.clone(), &bytes.body).unwrap();
    Sealed {
        bytes,
        layer,
        secrets,
    }
}

impl Sealed {
    fn row(&self, x: &[i8]) -> EncryptedRow {
        self.layer
            .evaluate_rows(&[(x, S)], NonZeroUsize::MIN)
            .unwrap()
            .remove(0)
    }

    /// Bodies b[j, k] of column j.
    fn column(&self, j: usize) -> Vec<u64> {
        let planes = self.bytes.meta.set().body_planes();
        let width = self.bytes.meta.d_out() * planes;
        let limbs = self.bytes.body[j * width..(j + 1) * width].chunks_exact(planes);
        limbs
            .map(|limbs| {
                limbs
                    .iter()
                    .rev()
                    .fold(0, |b, limb| b << 8 | u64::from(*limb))
            })
            .collect()
    }
}

/// y = W·x in i128.
fn reference(weights: &[i8], x: &[i8]) -> Vec<i128> {
    let product = |row: &[i8]| {
        row.iter()
            .zip(x)
            .map(|(w, x)| i128::from(*w) * i128::from(*x))
            .sum()
    };
    weights.chunks_exact(x.len()).map(product).collect()
}

/// The logits of one row.
fn logits(secrets: &LayerSecrets, row: &EncryptedRow, grid: Option<&RoundingGrid>) -> Vec<f32> {
    let mut found = Vec::new();
    let checked = secrets.check(slice::from_ref(row)).unwrap();
    checked.logits(grid, |logits| found = logits.unwrap().to_vec());
    found
}

/// The row with one Y changed.
fn with_sum(row: &EncryptedRow, k: usize, change: impl Fn(i128) -> i128) -> EncryptedRow {
    let mut sums: Vec<i128> = row.y().iter().collect();
    sums[k] = change(sums[k]);
    with_sums(row, sums)
}

fn with_sums(row: &EncryptedRow, sums: Vec<i128>) -> EncryptedRow {
    let y = if row.set().sum_bytes() == 8 {
        Sums::from_i64(
            sums.into_iter()
                .map(|y| i64::try_from(y).unwrap())
                .collect(),
        )
    } else {
        Sums::from_i128(sums)
    };
    EncryptedRow::from_parts(row.set(), row.x().to_vec(), row.s(), y).unwrap()
}
