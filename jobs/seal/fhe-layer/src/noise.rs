//! What keeps decryption exact: how large messages, noise and activations may be together.

use crate::set::{LOG2_MODULUS, MAX_D_IN, NOISE_BOUND_LOG2, ParameterSet};

/// Standard deviations of the output noise that must fit into Δ/2.
///
/// erfc(9.16 / √2) ≤ 2^-64. The summands are bounded, independent and strictly sub-Gaussian, so
/// without the central limit theorem the bound is 2·exp(−z²/2), about 2^-59.5.
const FAILURE_Z: f64 = 9.16;

/// The most by which a decrypted phase may be wrong, in units of 1/q, because the product of mask
/// and secret is found in double precision.
pub const TRANSFORM_ERROR: u64 = 1 << 13;

/// The smallest mean square of an activation (8²) that a norm bound must leave room for.
///
/// Quantised any coarser, int8 activations carry less than about five bits each and the layer
/// is of no use.
const LEAST_MEAN_SQUARE: u64 = 64;

/// Significant bits of a norm bound that was derived from real weights.
///
/// The bound is public; rounding it keeps what it tells about the largest row to a few bits.
const NORM_BOUND_BITS: u32 = 4;

/// The norms of a weight matrix that decide how much room its answers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowNorms {
    /// max over outputs k of Σ_j |w[k,j]|.
    pub largest_l1: u64,
    /// max over outputs k of Σ_j w[k,j]².
    pub largest_l2_squared: u64,
}

impl RowNorms {
    /// The norms of the row-major matrix `weights` [d_out, d_in].
    ///
    /// A `d_in` of zero, or one that does not divide the length, gives norms of whole rows only.
    pub fn of(weights: &[i8], d_in: usize) -> Self {
        let rows = weights.chunks_exact(d_in.max(1));
        rows.fold(
            Self {
                largest_l1: 0,
                largest_l2_squared: 0,
            },
            |norms, row| Self {
                largest_l1: norms.largest_l1.max(l1(row)),
                largest_l2_squared: norms.largest_l2_squared.max(l2_squared(row)),
            },
        )
    }

    /// The norms of a row of ±127.
    pub fn worst_case(d_in: usize) -> Self {
        Self {
            largest_l1: 127 * d_in as u64,
            largest_l2_squared: worst_case_norm_bound(d_in),
        }
    }
}

/// ‖x‖² of an activation of ±127: no int8 activation is longer.
pub(crate) fn worst_case_norm_bound(d_in: usize) -> u64 {
    127 * 127 * d_in as u64
}

/// Σ |v|.
pub(crate) fn l1(values: &[i8]) -> u64 {
    values.iter().map(|v| u64::from(v.unsigned_abs())).sum()
}

/// Values whose squares a u32 can sum: 2^14 · 2^16 = 2^30.
const SQUARES: usize = 1 << 16;

/// Σ v², in 32 bits where they do: every activation of a batch passes here.
pub(crate) fn l2_squared(values: &[i8]) -> u64 {
    let squares = |values: &[i8]| -> u32 {
        let square = |v: &i8| (i32::from(*v) * i32::from(*v)).cast_unsigned();
        values.iter().map(square).sum()
    };
    values
        .chunks(SQUARES)
        .map(|values| u64::from(squares(values)))
        .sum()
}

/// A choice of Δ and norm bound under which every answer of a layer decrypts exactly.
///
/// Made only by [`NoisePlan::for_layer`], which checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoisePlan {
    norm_bound: u64,
    message_bound: u64,
    delta: u64,
}

/// No norm bound that a quantised activation can meet keeps the answers exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a layer with {d_in} inputs and these weights leaves no room for activations in {set:?}; \
     use a set with more planes"
)]
pub struct NoNoiseMargin {
    /// The set that was asked for.
    pub set: ParameterSet,
    /// Inputs of the layer.
    pub d_in: usize,
}

impl NoisePlan {
    /// Plans a layer of `d_in` inputs whose weights have these norms.
    ///
    /// Where the set is exact for any int8 W and x, the plan depends on `d_in` alone and tells
    /// nothing about the weights. Elsewhere the norm bound comes from the weights, rounded down
    /// to a few bits, because it is public.
    pub fn for_layer(
        set: ParameterSet,
        d_in: usize,
        norms: RowNorms,
    ) -> Result<Self, NoNoiseMargin> {
        if d_in == 0 || d_in > MAX_D_IN {
            return Err(NoNoiseMargin { set, d_in });
        }
        let largest = worst_case_norm_bound(d_in);
        if set.worst_case_d_in().is_some_and(|widest| d_in <= widest) {
            let plan = Self::with_norm_bound(largest, RowNorms::worst_case(d_in));
            return plan
                .is_exact(set)
                .then_some(plan)
                .ok_or(NoNoiseMargin { set, d_in });
        }
        let exact = |bound: u64| Self::with_norm_bound(bound, norms).is_exact(set);
        let least = LEAST_MEAN_SQUARE * d_in as u64;
        let bound = match largest_that(least, largest, exact) {
            bound if bound == largest => bound,
            bound => round_down(bound),
        };
        if bound < least {
            return Err(NoNoiseMargin { set, d_in });
        }
        Ok(Self::with_norm_bound(bound, norms))
    }

    /// The largest ‖x‖² that the layer accepts. Public.
    pub fn norm_bound(&self) -> u64 {
        self.norm_bound
    }

    /// T: no answer y = Σ w·x is larger than this.
    pub fn message_bound(&self) -> u64 {
        self.message_bound
    }

    /// Δ, the distance of two messages in units of 1/q. Depends on the weights where the norm
    /// bound does, so it travels with the secrets.
    pub fn delta(&self) -> u64 {
        self.delta
    }

    fn with_norm_bound(norm_bound: u64, norms: RowNorms) -> Self {
        let by_l2 = (norms.largest_l2_squared as f64 * norm_bound as f64)
            .sqrt()
            .ceil() as u64;
        let message_bound = by_l2.min(127 * norms.largest_l1).max(1);
        Self {
            norm_bound,
            message_bound,
            delta: (1 << LOG2_MODULUS) / (2 * message_bound + 1),
        }
    }

    fn is_exact(&self, set: ParameterSet) -> bool {
        let output_sd = set.body_noise_sd() * (self.norm_bound as f64).sqrt();
        FAILURE_Z * output_sd + (TRANSFORM_ERROR as f64) < self.delta as f64 / 2.0
    }
}

impl ParameterSet {
    /// Standard deviation of one stored body's error, in units of 1/q: TUniform noise and the
    /// rounding of the dropped bits.
    pub fn body_noise_sd(self) -> f64 {
        let t_uniform = (f64::from(2 * NOISE_BOUND_LOG2 + 1).exp2() + 1.0) / 6.0;
        let rounding = if self.dropped_bits() == 0 {
            0.0
        } else {
            f64::from(2 * self.dropped_bits()).exp2() / 12.0
        };
        (t_uniform + rounding).sqrt()
    }
}

/// The largest value in `least..=largest` that `holds`, given that it holds below some point and
/// not above; `least - 1` (or 0) if it holds nowhere.
fn largest_that(least: u64, largest: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (least.saturating_sub(1), largest);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

fn round_down(bound: u64) -> u64 {
    let drop = (u64::BITS - bound.leading_zeros()).saturating_sub(NORM_BOUND_BITS);
    bound >> drop << drop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_exact_for_any_weights_up_to_its_stated_width() {
        for d_in in [1, 384, 768, 1024, 1350] {
            let plan = NoisePlan::for_layer(
                ParameterSet::P48B40,
                d_in,
                RowNorms {
                    largest_l1: 1,
                    largest_l2_squared: 1,
                },
            )
            .unwrap();
            assert_eq!(plan.norm_bound(), 127 * 127 * d_in as u64);
            assert_eq!(
                plan.message_bound(),
                127 * 127 * d_in as u64,
                "no word of the weights"
            );
        }
    }

    #[test]
    fn the_full_set_is_exact_for_any_weights_and_cannot_fail_up_to_2048() {
        let norms = RowNorms::worst_case(MAX_D_IN);
        let widest = NoisePlan::for_layer(ParameterSet::P48, MAX_D_IN, norms).unwrap();
        assert_eq!(widest.norm_bound(), 127 * 127 * MAX_D_IN as u64);

        let plan = NoisePlan::for_layer(ParameterSet::P48, 2048, norms).unwrap();
        let largest_noise = 127 * 2048 * crate::set::NOISE_BOUND as u64;
        assert!(2 * (largest_noise + TRANSFORM_ERROR) < plan.delta());
    }

    #[test]
    fn a_norm_bound_from_weights_has_few_bits_and_is_exact() {
        let norms = RowNorms {
            largest_l1: 11_000,
            largest_l2_squared: 725 * 725,
        };
        let plan = NoisePlan::for_layer(ParameterSet::P48B32, 384, norms).unwrap();
        assert!(plan.is_exact(ParameterSet::P48B32));
        let bound = plan.norm_bound();
        assert!(bound.ilog2() - bound.trailing_zeros() < NORM_BOUND_BITS);
        assert!(
            (32.0..39.0).contains(&(bound as f64 / 384.0).sqrt()),
            "rms near 38"
        );
    }

    #[test]
    fn norms_of_long_rows_of_extremes_are_exact() {
        for length in [0, 1, SQUARES - 1, SQUARES, 2 * SQUARES + 3] {
            let values = vec![i8::MIN; length];
            assert_eq!(l2_squared(&values), 128 * 128 * length as u64);
        }
    }

    #[test]
    fn a_set_without_room_for_activations_is_refused() {
        let worst = RowNorms::worst_case(MAX_D_IN);
        assert_eq!(
            NoisePlan::for_layer(ParameterSet::P48B32, MAX_D_IN, worst),
            Err(NoNoiseMargin {
                set: ParameterSet::P48B32,
                d_in: MAX_D_IN
            })
        );
    }

    #[test]
    fn wide_layers_of_the_default_set_get_a_norm_bound() {
        let plan =
            NoisePlan::for_layer(ParameterSet::P48B40, 4096, RowNorms::worst_case(4096)).unwrap();
        assert!(plan.is_exact(ParameterSet::P48B40));
        assert!(plan.norm_bound() < worst_case_norm_bound(4096));
    }

    #[test]
    fn a_layer_of_zeros_still_has_a_plan() {
        let norms = RowNorms::of(&[0; 12], 4);
        assert!(NoisePlan::for_layer(ParameterSet::P48B32, 4, norms).is_ok());
    }
}
