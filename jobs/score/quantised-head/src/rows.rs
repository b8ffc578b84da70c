//! Weights: one scale per row.

use crate::{MAX_ABS, QuantiseError, max_abs, quantise, refuse_not_finite};

/// A weight matrix in integers: W_k ≈ `scales[k]` · `weights[k]`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedRows {
    d_in: usize,
    weights: Vec<i8>,
    scales: Vec<f32>,
}

/// Quantises `weights` (row-major [d_out, d_in]) with the scale max|W_k| / 127 for each row.
///
/// A row of zeros has scale 1.
pub fn quantise_rows(weights: &[f32], d_in: usize) -> Result<QuantisedRows, QuantiseError> {
    if d_in == 0 || weights.is_empty() || !weights.len().is_multiple_of(d_in) {
        return Err(QuantiseError::Shape {
            values: weights.len(),
            d_in,
        });
    }
    refuse_not_finite(weights)?;
    let scales: Vec<f32> = weights.chunks_exact(d_in).map(row_scale).collect();
    let quantised = weights
        .chunks_exact(d_in)
        .zip(&scales)
        .flat_map(|(row, scale)| row.iter().map(|w| quantise(*w, *scale)))
        .collect();
    Ok(QuantisedRows {
        d_in,
        weights: quantised,
        scales,
    })
}

fn row_scale(row: &[f32]) -> f32 {
    match max_abs(row) / f32::from(MAX_ABS) {
        0.0 => 1.0,
        scale => scale.max(f32::MIN_POSITIVE),
    }
}

impl QuantisedRows {
    /// Width of the activation.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Number of outputs.
    pub fn d_out(&self) -> usize {
        self.scales.len()
    }

    /// The integers, row-major [d_out, d_in], within ±127.
    pub fn weights(&self) -> &[i8] {
        &self.weights
    }

    /// One scale per row.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Y_k = Σ_j W_kj · x_j over the integers: what an encrypted head must decrypt to.
    pub fn integer_reference(&self, x: &[i8]) -> Result<Vec<i64>, QuantiseError> {
        if x.len() != self.d_in {
            return Err(QuantiseError::Width {
                expected: self.d_in,
                found: x.len(),
            });
        }
        let dot = |row: &[i8]| {
            row.iter()
                .zip(x)
                .map(|(w, x)| i64::from(*w) * i64::from(*x))
                .sum()
        };
        Ok(self.weights.chunks_exact(self.d_in).map(dot).collect())
    }

    /// Scores for integer sums `y` of an activation with scale `s`.
    pub fn logits(&self, y: &[i64], s: f32, bias: &[f32]) -> Result<Vec<f64>, QuantiseError> {
        let expected = self.d_out();
        for found in [y.len(), bias.len()] {
            if found != expected {
                return Err(QuantiseError::Width { expected, found });
            }
        }
        let rows = y.iter().zip(&self.scales).zip(bias);
        Ok(rows
            .map(|((y, scale), bias)| dequantise(*y, *scale, s, *bias))
            .collect())
    }
}

/// (y · row scale) · s + bias, each step in `f64` and in this order, so that two zones that
/// compute it get the same bits.
pub fn dequantise(y: i64, row_scale: f32, s: f32, bias: f32) -> f64 {
    (y as f64 * f64::from(row_scale)) * f64::from(s) + f64::from(bias)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ScaleRange, quantise_activation};

    #[test]
    fn each_row_has_its_own_scale() {
        let rows = quantise_rows(&[1.0, -0.5, 100.0, 0.0], 2).unwrap();
        assert_eq!(rows.weights(), [127, -64, 127, 0]);
        assert_eq!(rows.scales(), [1.0 / 127.0, 100.0 / 127.0]);
        assert_eq!((rows.d_out(), rows.d_in()), (2, 2));
    }

    #[test]
    fn a_row_of_zeros_stays_zero() {
        let rows = quantise_rows(&[0.0, 0.0], 2).unwrap();
        assert_eq!(
            (rows.weights(), rows.scales()),
            (&[0i8, 0][..], &[1.0f32][..])
        );
    }

    #[test]
    fn weights_that_make_no_rows_are_refused() {
        for (weights, d_in) in [(&[1.0f32, 2.0, 3.0][..], 2), (&[][..], 1), (&[1.0][..], 0)] {
            let values = weights.len();
            assert_eq!(
                quantise_rows(weights, d_in),
                Err(QuantiseError::Shape { values, d_in })
            );
        }
    }

    #[test]
    fn a_weight_that_is_not_finite_is_refused_by_place() {
        let refused = quantise_rows(&[0.0, 1.0, f32::NAN, 0.0], 2);
        assert_eq!(refused, Err(QuantiseError::NotFinite { index: 2 }));
    }

    #[test]
    fn the_integer_sum_is_exact_at_its_extremes() {
        let rows = quantise_rows(&vec![1.0; 8192], 8192).unwrap();
        let y = rows.integer_reference(&vec![-127; 8192]).unwrap();
        assert_eq!(y, [-127 * 127 * 8192]);
    }

    #[test]
    fn other_widths_are_refused() {
        let rows = quantise_rows(&[1.0, 2.0], 2).unwrap();
        let refused = QuantiseError::Width {
            expected: 2,
            found: 1,
        };
        assert_eq!(rows.integer_reference(&[1]), Err(refused));
        let refused = QuantiseError::Width {
            expected: 1,
            found: 2,
        };
        assert_eq!(rows.logits(&[1], 1.0, &[0.0, 0.0]), Err(refused.clone()));
        assert_eq!(rows.logits(&[1, 1], 1.0, &[0.0]), Err(refused));
    }

    proptest! {
        /// |error| ≤ Σ (|w|·s_x/2 + |x|·s_w/2 + s_w·s_x/4), the rounding of both factors.
        #[test]
        fn logits_stay_within_the_rounding_of_weights_and_activation(
            (weights, x) in (1usize..40).prop_flat_map(|d_in| (
                proptest::collection::vec(-2.0f32..2.0, d_in),
                proptest::collection::vec(-5.0f32..5.0, d_in),
            )),
            bias in -1.0f32..1.0,
        ) {
            let rows = quantise_rows(&weights, weights.len()).unwrap();
            let item = quantise_activation(&x, ScaleRange::ANY).unwrap();
            let y = rows.integer_reference(&item.values).unwrap();
            let logit = rows.logits(&y, item.scale, &[bias]).unwrap()[0];
            let (s_w, s_x) = (f64::from(rows.scales()[0]), f64::from(item.scale));
            let mut exact = f64::from(bias);
            let mut bound = 1e-5;
            for (w, x) in weights.iter().zip(&x) {
                let (w, x) = (f64::from(*w), f64::from(*x));
                exact += w * x;
                bound += w.abs() * s_x / 2.0 + x.abs() * s_w / 2.0 + s_w * s_x / 4.0;
            }
            prop_assert!((logit - exact).abs() <= bound * 1.001);
        }
    }
}
