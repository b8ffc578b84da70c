//! Activations: one scale per item.

use crate::{MAX_ABS, QuantiseError, max_abs, quantise, refuse_not_finite};

/// The scales that a head accepts, as its manifest states them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaleRange {
    least: f32,
    most: f32,
}

impl ScaleRange {
    /// Every normal positive scale: for measuring, before a range is fixed.
    pub const ANY: Self = Self {
        least: f32::MIN_POSITIVE,
        most: f32::MAX,
    };

    /// The range from `least` to `most`.
    pub fn new(least: f32, most: f32) -> Result<Self, QuantiseError> {
        if least >= f32::MIN_POSITIVE && most.is_finite() && least <= most {
            Ok(Self { least, most })
        } else {
            Err(QuantiseError::Range)
        }
    }

    /// The smallest scale.
    pub fn least(&self) -> f32 {
        self.least
    }

    /// The largest scale.
    pub fn most(&self) -> f32 {
        self.most
    }

    /// Whether `scale` lies in the range.
    pub fn contains(&self, scale: f32) -> bool {
        (self.least..=self.most).contains(&scale)
    }
}

/// One item's activation in integers: x ≈ `scale` · `values`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedActivation {
    /// Within ±127.
    pub values: Vec<i8>,
    /// Within the head's range.
    pub scale: f32,
}

impl QuantisedActivation {
    /// ‖x‖² over the integers, which the noise bound of an encrypted head is stated in.
    pub fn norm_squared(&self) -> u64 {
        self.values
            .iter()
            .map(|x| u64::from(x.unsigned_abs()).pow(2))
            .sum()
    }
}

/// Quantises one activation with the scale max|x| / 127.
///
/// A scale below the range is raised to its least, which only makes the grid coarser. A scale
/// above it is an error: saturating the values instead would answer with a wrong number.
pub fn quantise_activation(
    x: &[f32],
    range: ScaleRange,
) -> Result<QuantisedActivation, QuantiseError> {
    refuse_not_finite(x)?;
    let needed = max_abs(x) / f32::from(MAX_ABS);
    if needed > range.most {
        return Err(QuantiseError::ScaleOutOfRange {
            needed,
            most: range.most,
        });
    }
    let scale = needed.max(range.least);
    Ok(QuantisedActivation {
        values: x.iter().map(|x| quantise(*x, scale)).collect(),
        scale,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_value_becomes_127_and_signs_are_kept() {
        let quantised = quantise_activation(&[0.5, -1.0, 0.0], ScaleRange::ANY).unwrap();
        assert_eq!(quantised.values, [64, -127, 0]);
        assert_eq!(quantised.norm_squared(), 64 * 64 + 127 * 127);
    }

    #[test]
    fn an_activation_of_zeros_takes_the_least_scale() {
        let range = ScaleRange::new(0.25, 1.0).unwrap();
        let quantised = quantise_activation(&[0.0; 3], range).unwrap();
        assert_eq!((quantised.values, quantised.scale), (vec![0; 3], 0.25));
    }

    #[test]
    fn a_small_activation_is_put_on_the_least_scale() {
        let range = ScaleRange::new(1.0, 2.0).unwrap();
        let quantised = quantise_activation(&[3.4, -0.4], range).unwrap();
        assert_eq!((quantised.values, quantised.scale), (vec![3, 0], 1.0));
    }

    #[test]
    fn a_large_activation_is_an_error_and_not_saturated() {
        let range = ScaleRange::new(0.1, 1.0).unwrap();
        let refused = quantise_activation(&[254.0], range);
        assert_eq!(
            refused,
            Err(QuantiseError::ScaleOutOfRange {
                needed: 2.0,
                most: 1.0
            })
        );
    }

    #[test]
    fn values_that_are_not_finite_are_refused_by_place() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let refused = quantise_activation(&[0.0, bad], ScaleRange::ANY);
            assert_eq!(refused, Err(QuantiseError::NotFinite { index: 1 }));
        }
    }

    #[test]
    fn a_range_that_holds_no_scale_is_refused() {
        for (least, most) in [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.5), (1.0, f32::INFINITY)] {
            assert_eq!(ScaleRange::new(least, most), Err(QuantiseError::Range));
        }
        assert_eq!(ScaleRange::new(f32::NAN, 1.0), Err(QuantiseError::Range));
    }

    proptest! {
        #[test]
        fn quantising_moves_no_value_by_more_than_half_a_step(
            x in proptest::collection::vec(-1e6f32..1e6, 1..64),
        ) {
            let quantised = quantise_activation(&x, ScaleRange::ANY).unwrap();
            for (x, q) in x.iter().zip(&quantised.values) {
                prop_assert!(*q >= -MAX_ABS);
                let back = f32::from(*q) * quantised.scale;
                prop_assert!((back - x).abs() <= quantised.scale * 0.5001);
            }
        }

        #[test]
        fn any_finite_bits_are_quantised_without_panic(bits in proptest::collection::vec(any::<u32>(), 0..16)) {
            let x: Vec<_> = bits.into_iter().map(f32::from_bits).collect();
            drop(quantise_activation(&x, ScaleRange::ANY));
        }
    }
}
