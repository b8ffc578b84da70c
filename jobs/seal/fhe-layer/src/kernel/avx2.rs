//! AVX2: limbs and inputs widened to 16 bits, because `vpmaddubsw` would saturate.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepu8_epi16, _mm256_madd_epi16,
    _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_storeu_si256,
};

use super::portable::join_planes;
use super::{Products, Quad};
use crate::limbs::{LANE_OUTPUTS, Lane};

/// Parts of a lane that fill a register once they are widened: four outputs each.
const PARTS: usize = 4;

/// Multiplies the lanes of 16 outputs with M activations.
///
/// Plane by plane, one or two activations at a time: their accumulators fill half of the 16
/// registers.
#[target_feature(enable = "avx2")]
pub(super) fn multiply<const L: usize, const M: usize>(
    lanes: &[Lane],
    xs: &[[Quad; M]],
    products: &mut [Products; M],
) {
    let mut planes = [[[0; LANE_OUTPUTS]; L]; M];
    for (pair, planes) in planes.chunks_mut(2).enumerate() {
        let m = 2 * pair;
        for l in 0..L {
            if let [first, second] = planes {
                let [a, b] = multiply_plane::<L, M, 2>(lanes, xs, l, m);
                (first[l], second[l]) = (a, b);
            } else if let [last] = planes {
                [last[l]] = multiply_plane::<L, M, 1>(lanes, xs, l, m);
            }
        }
    }
    for (products, planes) in products.iter_mut().zip(&planes) {
        *products = join_planes(planes);
    }
}

/// The sums of plane `l` for the activations from `m`.
#[target_feature(enable = "avx2")]
#[inline]
fn multiply_plane<const L: usize, const M: usize, const P: usize>(
    lanes: &[Lane],
    xs: &[[Quad; M]],
    l: usize,
    m: usize,
) -> [[i32; LANE_OUTPUTS]; P] {
    let mut sums = [[_mm256_setzero_si256(); PARTS]; P];
    for (lanes, xs) in lanes.chunks_exact(L).zip(xs) {
        let inputs: [__m256i; P] = std::array::from_fn(|p| widened_input(xs[m + p]));
        let (parts, _) = lanes[l].0.as_chunks::<16>();
        for (part, limbs) in parts.iter().enumerate() {
            let limbs = widened_limbs(limbs);
            for (sums, x) in sums.iter_mut().zip(inputs) {
                sums[part] = _mm256_add_epi32(sums[part], _mm256_madd_epi16(limbs, x));
            }
        }
    }
    sums.map(|parts| outputs(parts))
}

/// Four inputs as i16, four times over.
#[target_feature(enable = "avx2")]
#[inline]
fn widened_input(x: Quad) -> __m256i {
    let words = x.map(|v| i64::from(i16::from(v).cast_unsigned()));
    _mm256_set1_epi64x(words[0] | words[1] << 16 | words[2] << 32 | words[3] << 48)
}

#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 16 bytes long; the load needs no alignment"
)]
fn widened_limbs(limbs: &[u8; 16]) -> __m256i {
    _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(limbs.as_ptr().cast()) })
}

/// Each output's sum lies in two neighbouring accumulators.
#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 32 bytes long; the store needs no alignment"
)]
fn outputs(parts: [__m256i; PARTS]) -> [i32; LANE_OUTPUTS] {
    let mut sums = [0; LANE_OUTPUTS];
    for (sums, part) in sums.chunks_exact_mut(LANE_OUTPUTS / PARTS).zip(parts) {
        let mut halves = [0_i32; 8];
        unsafe { _mm256_storeu_si256(halves.as_mut_ptr().cast(), part) };
        for (sum, pair) in sums.iter_mut().zip(halves.chunks_exact(2)) {
            *sum = pair[0] + pair[1];
        }
    }
    sums
}
