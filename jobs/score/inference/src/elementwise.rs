//! What an encoder does between its products, on every vector width that the processor has.
//!
//! Values that are not finite stay so through every function here: a row that overflowed must not
//! go on as an ordinary wrong number.

use pulp::Arch;

use crate::config::Activation;

/// Partial sums of a reduction: a full 512-bit register, in an order that no processor changes.
const LANES: usize = 16;

/// exp(−87) is the least normal result in `f32`.
const LEAST_EXPONENT: f32 = -87.0;

/// Adding 1.5 · 2^23 rounds to an integer and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts, of which the first times a small integer is exact.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// Applies `activation` to each value.
pub(crate) fn activate(arch: Arch, activation: Activation, x: &mut [f32]) {
    arch.dispatch(|| match activation {
        Activation::Gelu => each(x, gelu),
        Activation::Relu => each(x, relu),
    });
}

/// Normalises each row of `x` to mean 0 and variance 1, then scales and shifts.
pub(crate) fn layer_norm(arch: Arch, weight: &[f32], bias: &[f32], epsilon: f32, x: &mut [f32]) {
    arch.dispatch(|| {
        for row in x.chunks_exact_mut(weight.len()) {
            let width = row.len() as f32;
            let mean = sum(row, |value| value) / width;
            let variance = sum(row, |value| (value - mean) * (value - mean)) / width;
            let scale = 1.0 / (variance + epsilon).sqrt();
            for ((value, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                *value = (*value - mean) * scale * weight + bias;
            }
        }
    });
}

/// Each row of `x` scaled to a mean square of 1 and by `weight`.
pub(crate) fn rms_norm(arch: Arch, weight: &[f32], epsilon: f32, x: &[f32]) -> Vec<f32> {
    let mut normed = x.to_vec();
    arch.dispatch(|| {
        for row in normed.chunks_exact_mut(weight.len()) {
            let mean = sum(row, |value| value * value) / row.len() as f32;
            let scale = 1.0 / (mean + epsilon).sqrt();
            for (value, weight) in row.iter_mut().zip(weight) {
                *value = *value * scale * weight;
            }
        }
    });
    normed
}

/// SiLU of the first `width` values of each row of `x` times the `width` after them.
pub(crate) fn gate(arch: Arch, width: usize, x: &[f32]) -> Vec<f32> {
    let mut gated = vec![0.0; x.len() / 2];
    arch.dispatch(|| {
        let rows = gated.chunks_exact_mut(width).zip(x.chunks_exact(2 * width));
        for (gated, row) in rows {
            let (gate, up) = row.split_at(width);
            for ((out, gate), up) in gated.iter_mut().zip(gate).zip(up) {
                *out = silu(*gate) * up;
            }
        }
    });
    gated
}

/// Softmax of each row of `width` values.
pub(crate) fn softmax(arch: Arch, width: usize, x: &mut [f32]) {
    arch.dispatch(|| {
        for row in x.chunks_exact_mut(width) {
            let largest = largest(row);
            for value in row.iter_mut() {
                *value = exp(*value - largest);
            }
            let scale = 1.0 / sum(row, |value| value);
            for value in row {
                *value *= scale;
            }
        }
    });
}

#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn each(x: &mut [f32], function: impl Fn(f32) -> f32) {
    for value in x {
        *value = function(*value);
    }
}

#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (full, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in full {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(*value);
        }
    }
    lanes.into_iter().sum::<f32>() + rest.iter().map(|value| term(*value)).sum::<f32>()
}

/// The largest value; one that is not a number may be passed over.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let (full, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in full {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

/// e^x for x ≤ 0, to a relative error below 2 · 10^-7; below −87 the least normal number.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn exp(x: f32) -> f32 {
    // A comparison, because `max` would turn NaN into a number.
    let x = if x < LEAST_EXPONENT {
        LEAST_EXPONENT
    } else {
        x
    };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let r = x - power * LN_2_HIGH - power * LN_2_LOW;
    // Taylor's series on |r| ≤ ln 2 / 2 is exact to 5e-9.
    let series = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let series = 1.0 / 24.0 + r * (1.0 / 120.0 + r * series);
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * series)));
    let two_to_power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    series * two_to_power
}

/// x · Φ(x), with the error function by formula 7.1.26 of Abramowitz and Stegun, *Handbook of
/// Mathematical Functions*: its error is at most 1.5 · 10^-7.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let y = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * y);
    let series = -1.453_152_f32 + t * 1.061_405_4;
    let series = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * series)));
    // Half of x · (1 − erf |x| / √2), which is what GELU leaves of a negative x.
    let tail = 0.5 * x * (series * exp(-y * y));
    if x < 0.0 { tail } else { x - tail }
}

#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn relu(x: f32) -> f32 {
    // x · 0 is NaN for −∞ and NaN.
    if x > 0.0 { x } else { x * 0.0 }
}

/// x / (1 + e^−x).
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn silu(x: f32) -> f32 {
    let e = exp(-x.abs());
    let larger = x / (1.0 + e);
    if x < 0.0 { larger * e } else { larger }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Φ(x) by Simpson's rule on the density, in `f64`.
    fn reference_gelu(x: f64) -> f64 {
        const STEPS: u32 = 2_000;
        let step = x / f64::from(STEPS);
        let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let weight = |i: u32| match i {
            0 | STEPS => 1.0,
            _ if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let area: f64 = (0..=STEPS)
            .map(|i| weight(i) * density(f64::from(i) * step))
            .sum::<f64>()
            * step
            / 3.0;
        x * (0.5 + area)
    }

    proptest! {
        #[test]
        fn gelu_equals_the_integral_of_the_density(x in -12.0_f32..12.0) {
            let expected = reference_gelu(f64::from(x));
            prop_assert!((f64::from(gelu(x)) - expected).abs() <= 2e-6, "{x}");
        }

        #[test]
        fn exp_equals_the_exponential_function(x in -86.9_f32..=0.0) {
            let expected = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) / expected - 1.0).abs() <= 4e-7, "{x}");
        }

        #[test]
        fn silu_equals_its_definition(x in -80.0_f32..80.0) {
            let wide = f64::from(x);
            let expected = wide / (1.0 + (-wide).exp());
            prop_assert!((f64::from(silu(x)) - expected).abs() <= 1e-6 * (1.0 + expected.abs()));
        }

        #[test]
        fn rms_norm_rows_are_those_of_f64(row in prop::collection::vec(-30.0_f32..30.0, 1..70)) {
            let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
            let scale = 1.0 / (squares / row.len() as f64 + 1e-5).sqrt();
            let found = rms_norm(Arch::new(), &vec![0.5; row.len()], 1e-5, &row);
            for (found, value) in found.iter().zip(&row) {
                let expected = f64::from(*value) * scale * 0.5;
                prop_assert!((f64::from(*found) - expected).abs() <= 1e-5);
            }
        }

        #[test]
        fn softmax_rows_are_those_of_f64(row in prop::collection::vec(-30.0_f32..30.0, 1..70)) {
            let powers: Vec<f64> = row.iter().map(|value| f64::from(*value).exp()).collect();
            let sum: f64 = powers.iter().sum();
            let mut found = row.clone();
            softmax(Arch::new(), row.len(), &mut found);
            for (found, power) in found.iter().zip(powers) {
                prop_assert!((f64::from(*found) - power / sum).abs() <= 1e-6);
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for spoiled in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for activation in [Activation::Gelu, Activation::Relu] {
                let mut x = [spoiled; 19];
                activate(Arch::new(), activation, &mut x);
                assert!(
                    x.iter().all(|value| !value.is_finite()),
                    "{activation:?} {spoiled}"
                );
            }
            let mut x = [1.0; 19];
            x[3] = spoiled;
            let normed = rms_norm(Arch::new(), &[1.0; 19], 1e-5, &x);
            assert!(
                normed.iter().any(|value| !value.is_finite()),
                "rms norm {spoiled}"
            );
            let gated = gate(Arch::new(), 1, &[spoiled, 1.0]);
            assert!(!gated[0].is_finite(), "gate {spoiled}");
            layer_norm(Arch::new(), &[1.0; 19], &[0.0; 19], 1e-12, &mut x);
            assert!(
                x.iter().all(|value| !value.is_finite()),
                "layer norm {spoiled}"
            );
        }
        for spoiled in [f32::NAN, f32::INFINITY] {
            let mut x = [1.0; 19];
            x[3] = spoiled;
            softmax(Arch::new(), 19, &mut x);
            assert!(
                x.iter().any(|value| !value.is_finite()),
                "softmax {spoiled}"
            );
        }
    }
}
