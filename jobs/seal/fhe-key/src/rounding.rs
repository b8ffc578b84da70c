//! Rounding integers to multiples of a unit, in floating point.
//!
//! Every number is an integer below 2^52, so each step but the quotient is exact. A product with
//! the unit's reciprocal is off by one at most, which is mended: dividing takes longer.

/// 1.5·2^52: added and taken off again, it rounds a number within ±2^51 to an integer.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// The integer nearest to value/unit, if `inverse` is 1/unit; halves go up.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
pub(crate) fn nearest_multiple(value: f64, (unit, inverse): (f64, f64)) -> f64 {
    // The least rest that is rounded up, ⌈unit/2⌉.
    let upper = unit - (unit * 0.5).floor();
    let estimate = (value * inverse + ROUND) - ROUND;
    let rest = value - estimate * unit;
    let above = if rest >= upper { 1.0 } else { 0.0 };
    let below = if rest < upper - unit { 1.0 } else { 0.0 };
    estimate + above - below
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_nearest_multiple_is_found_and_halves_go_up(
            value in -(1_i64 << 47)..(1 << 47),
            bits in 1_u32..49,
            unit: u64,
        ) {
            let unit = (unit >> (64 - bits)).max(1).cast_signed();
            let at_half = value / unit * unit + unit / 2;
            for value in [value, at_half - 1, at_half, at_half + 1] {
                let exact = (value + unit / 2).div_euclid(unit);
                let unit = unit as f64;
                let found = nearest_multiple(value as f64, (unit, unit.recip()));
                prop_assert_eq!(found, exact as f64, "{} / {}", value, unit);
            }
        }
    }
}
