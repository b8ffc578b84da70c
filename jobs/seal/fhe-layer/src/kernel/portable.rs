//! Plain Rust.

use super::{Products, Quad};
use crate::limbs::{LANE_INPUTS, LANE_OUTPUTS, Lane};

/// Multiplies the lanes of 16 outputs with M activations.
pub(super) fn multiply<const L: usize, const M: usize>(
    lanes: &[Lane],
    xs: &[[Quad; M]],
    products: &mut [Products; M],
) {
    for (m, products) in products.iter_mut().enumerate() {
        let mut planes = [[0_i32; LANE_OUTPUTS]; L];
        for (lanes, xs) in lanes.chunks_exact(L).zip(xs) {
            for (plane, lane) in planes.iter_mut().zip(lanes) {
                for (sum, limbs) in plane.iter_mut().zip(lane.0.chunks_exact(LANE_INPUTS)) {
                    for (limb, x) in limbs.iter().zip(xs[m]) {
                        *sum += i32::from(*limb) * i32::from(x);
                    }
                }
            }
        }
        *products = join_planes(&planes);
    }
}

/// Puts the sums of L planes together.
pub(super) fn join_planes<const L: usize>(planes: &[[i32; LANE_OUTPUTS]; L]) -> Products {
    let mut products = Products::ZERO;
    for (l, plane) in planes.iter().enumerate().take(5) {
        for (low, sum) in products.low.iter_mut().zip(plane) {
            *low += i64::from(*sum) << (8 * l);
        }
    }
    if let Some(top) = planes.get(5) {
        products.top = *top;
    }
    products
}
