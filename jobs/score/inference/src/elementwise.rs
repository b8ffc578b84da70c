//! What an encoder does between its products, on every vector width that the processor has.
//!
//! Values that are not finite stay so through every function here: a row that overflowed must not
//! go on as an ordinary wrong number.

use pulp::{Arch, Simd, WithSimd};

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

/// Taylor's series of e^x, from the seventh power down.
const EXP: [f32; 8] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// Beyond this the error function is ±1 in `f32`, and so is its approximation.
const ERF_ENDS: f32 = 4.0;

/// Eigen's approximation of erf y / y by a quotient of polynomials of y², from the highest power
/// down.
const ERF_ABOVE: [f32; 7] = [
    -2.726_142_3e-10,
    2.770_681_4e-8,
    -2.101_024e-6,
    -5.692_506_4e-5,
    -7.349_906_3e-4,
    -2.954_6e-3,
    -1.609_603_3e-2,
];
const ERF_BELOW: [f32; 5] = [
    -1.456_607_2e-5,
    -2.133_740_6e-4,
    -1.682_827e-3,
    -7.373_329e-3,
    -1.426_473_9e-2,
];

/// A function of single values. Closures are not always compiled for the vectors of their caller.
pub(crate) trait Function: Copy {
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s;
}

impl Function for Activation {
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        match self {
            Self::Gelu => gelu(simd, x),
            Self::Relu => relu(simd, x),
        }
    }
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
    arch.dispatch(Gate {
        width,
        x,
        gated: &mut gated,
    });
    gated
}

struct Gate<'a> {
    width: usize,
    x: &'a [f32],
    gated: &'a mut [f32],
}

impl WithSimd for Gate<'_> {
    type Output = ();

    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.x.chunks_exact(2 * self.width);
        for (gated, row) in self.gated.chunks_exact_mut(self.width).zip(rows) {
            let (gate, up) = row.split_at(self.width);
            gated.copy_from_slice(gate);
            each(simd, gated, Silu);
            for (out, up) in gated.iter_mut().zip(up) {
                *out *= up;
            }
        }
    }
}

/// Softmax of `scale` times each row of `width` values, of which `scale` is positive.
pub(crate) fn softmax(arch: Arch, width: usize, scale: f32, x: &mut [f32]) {
    arch.dispatch(Softmax { width, scale, x });
}

struct Softmax<'a> {
    width: usize,
    scale: f32,
    x: &'a mut [f32],
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.x.chunks_exact_mut(self.width) {
            let power = Power {
                largest: largest(row),
                scale: self.scale,
            };
            each(simd, row, power);
            let scale = 1.0 / sum(row, |value| value);
            for value in row {
                *value *= scale;
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Function for Silu {
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        silu(simd, x)
    }
}

/// e^(`scale` · (x − `largest`)).
#[derive(Clone, Copy)]
struct Power {
    largest: f32,
    scale: f32,
}

impl Function for Power {
    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let x = simd.sub_f32s(x, simd.splat_f32s(self.largest));
        exp(simd, simd.mul_f32s(x, simd.splat_f32s(self.scale)))
    }
}

/// Replaces each value by `function` of it.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn each<S: Simd>(simd: S, x: &mut [f32], function: impl Function) {
    let (whole, rest) = S::as_mut_simd_f32s(x);
    for values in whole {
        *values = function.of(simd, *values);
    }
    if !rest.is_empty() {
        let values = simd.partial_load_f32s(rest);
        simd.partial_store_f32s(rest, function.of(simd, values));
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
    let total = folded(lanes, |a, b| a + b);
    total + rest.iter().map(|value| term(*value)).sum::<f32>()
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
    let lanes = folded(lanes, f32::max);
    rest.iter().copied().fold(lanes, f32::max)
}

/// The lanes taken together, halves at a time.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn folded(mut lanes: [f32; LANES], together: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = together(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// e^x for x ≤ 0, to a relative error below 2 · 10^-7; below −87 the least normal number.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // A comparison, because `max` would turn NaN into a number.
    let low = simd.less_than_f32s(x, simd.splat_f32s(LEAST_EXPONENT));
    let x = simd.select_f32s(low, simd.splat_f32s(LEAST_EXPONENT), x);
    let rounded = simd.mul_add_e_f32s(
        x,
        simd.splat_f32s(std::f32::consts::LOG2_E),
        simd.splat_f32s(ROUND),
    );
    let power = simd.sub_f32s(rounded, simd.splat_f32s(ROUND));
    let r = simd.negate_mul_add_e_f32s(power, simd.splat_f32s(LN_2_HIGH), x);
    let r = simd.negate_mul_add_e_f32s(power, simd.splat_f32s(LN_2_LOW), r);
    // Taylor's series on |r| ≤ ln 2 / 2 is exact to 5e-9.
    let series = series(simd, r, EXP);
    let bits = simd.wrapping_dyn_shl_u32s(
        simd.transmute_u32s_f32s(rounded),
        simd.splat_u32s(f32::MANTISSA_DIGITS - 1),
    );
    let one = simd.splat_u32s(1.0_f32.to_bits());
    let two_to_power = simd.transmute_f32s_u32s(simd.add_u32s(bits, one));
    simd.mul_f32s(series, two_to_power)
}

/// The polynomial with these coefficients, of which the last is the constant one.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn series<S: Simd, const TERMS: usize>(simd: S, x: S::f32s, terms: [f32; TERMS]) -> S::f32s {
    let mut sum = simd.splat_f32s(terms[0]);
    for term in &terms[1..] {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(*term));
    }
    sum
}

/// x · Φ(x) = x/2 · (1 + erf x/√2), to an error of 2 · 10^-6 and to 0 in the negative tail.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (low, high) = (simd.splat_f32s(-ERF_ENDS), simd.splat_f32s(ERF_ENDS));
    let y = simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
    // Comparisons, because `min` and `max` would turn NaN into a number.
    let y = simd.select_f32s(simd.less_than_f32s(y, low), low, y);
    let y = simd.select_f32s(simd.greater_than_f32s(y, high), high, y);
    let square = simd.mul_f32s(y, y);
    let above = simd.mul_f32s(y, series(simd, square, ERF_ABOVE));
    let erf = simd.div_f32s(above, series(simd, square, ERF_BELOW));
    let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
    simd.mul_add_e_f32s(half, erf, half)
}

#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    // x · 0 is NaN for −∞ and NaN.
    let other = simd.mul_f32s(x, zero);
    simd.select_f32s(simd.greater_than_f32s(x, zero), x, other)
}

/// x / (1 + e^−x).
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    let e = exp(simd, simd.sub_f32s(zero, simd.abs_f32s(x)));
    let larger = simd.div_f32s(x, simd.add_f32s(simd.splat_f32s(1.0), e));
    simd.select_f32s(
        simd.less_than_f32s(x, zero),
        simd.mul_f32s(larger, e),
        larger,
    )
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

    struct Each<'a, F>(&'a mut [f32], F);

    impl<F: Function> WithSimd for Each<'_, F> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            each(simd, self.0, self.1);
        }
    }

    /// `function` of a value at each place of a vector and after the last whole one, on the widest
    /// vectors and on none.
    fn applied(function: impl Function, x: f32) -> Vec<f32> {
        let mut values = [[x; 37]; 2];
        let [widest, none] = &mut values;
        Arch::new().dispatch(Each(widest, function));
        Arch::Scalar.dispatch(Each(none, function));
        values.concat()
    }

    proptest! {
        #[test]
        fn gelu_equals_the_integral_of_the_density(x in -12.0_f32..12.0) {
            let expected = reference_gelu(f64::from(x));
            for found in applied(Activation::Gelu, x) {
                prop_assert!((f64::from(found) - expected).abs() <= 2e-6, "{x}");
            }
        }

        #[test]
        fn exp_equals_the_exponential_function(x in -86.9_f32..=0.0) {
            let expected = f64::from(x).exp();
            for found in applied(Power { largest: 0.0, scale: 1.0 }, x) {
                prop_assert!((f64::from(found) / expected - 1.0).abs() <= 4e-7, "{x}");
            }
        }

        #[test]
        fn silu_equals_its_definition(x in -80.0_f32..80.0) {
            let wide = f64::from(x);
            let expected = wide / (1.0 + (-wide).exp());
            for found in applied(Silu, x) {
                prop_assert!((f64::from(found) - expected).abs() <= 1e-6 * (1.0 + expected.abs()));
            }
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
            let powers: Vec<f64> = row.iter().map(|value| (f64::from(*value) / 4.0).exp()).collect();
            let sum: f64 = powers.iter().sum();
            let mut found = row.clone();
            softmax(Arch::new(), row.len(), 0.25, &mut found);
            for (found, power) in found.iter().zip(powers) {
                prop_assert!((f64::from(*found) - power / sum).abs() <= 1e-6);
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for spoiled in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for activation in [Activation::Gelu, Activation::Relu] {
                assert!(
                    applied(activation, spoiled)
                        .iter()
                        .all(|value| !value.is_finite()),
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
            softmax(Arch::new(), 19, 1.0, &mut x);
            assert!(
                x.iter().any(|value| !value.is_finite()),
                "softmax {spoiled}"
            );
        }
    }
}
