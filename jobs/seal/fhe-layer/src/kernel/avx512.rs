//! AVX-512 with VNNI: `vpdpbusd` multiplies 64 bytes of a plane by four inputs, broadcast, and
//! adds each output's four products to its accumulator.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_permutex2var_epi32,
    _mm512_set1_epi32, _mm512_setr_epi32, _mm512_setzero_si512, _mm512_slli_epi32,
    _mm512_srai_epi32,
};
use std::mem::transmute;

use super::{Products, Quad};
use crate::limbs::Lane;

/// Multiplies the lanes of 16 outputs with M activations.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn multiply<const L: usize, const M: usize>(
    lanes: &[Lane],
    xs: &[[Quad; M]],
    products: &mut [Products; M],
) {
    let mut sums = [[_mm512_setzero_si512(); L]; M];
    accumulate(lanes, xs, &mut sums);
    for (products, sums) in products.iter_mut().zip(&sums) {
        join_planes(sums, products);
    }
}

/// The accumulators of L planes for M activations.
///
/// A function of its own, because the registers of what comes after it would be spilled inside
/// its loop.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline(never)]
fn accumulate<const L: usize, const M: usize>(
    lanes: &[Lane],
    xs: &[[Quad; M]],
    sums: &mut [[__m512i; L]; M],
) {
    let mut acc = [[_mm512_setzero_si512(); L]; M];
    for (lanes, xs) in lanes.chunks_exact(L).zip(xs) {
        let mut inputs = [_mm512_setzero_si512(); M];
        for (input, x) in inputs.iter_mut().zip(xs) {
            *input = _mm512_set1_epi32(i32::from_le_bytes(x.map(i8::cast_unsigned)));
        }
        for (l, lane) in lanes.iter().enumerate() {
            let plane = load(lane);
            for (acc, input) in acc.iter_mut().zip(inputs) {
                acc[l] = _mm512_dpbusd_epi32(acc[l], plane, input);
            }
        }
    }
    *sums = acc;
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(unsafe_code, reason = "a lane is 64 bytes, aligned to 64")]
fn load(lane: &Lane) -> __m512i {
    unsafe { _mm512_load_si512(lane.0.as_ptr().cast()) }
}

/// Planes 0 to 4 put together in halves of 32 bits, all 16 outputs at once; plane 5 as it is.
///
/// The upper half is what the planes below carry over: |sum| < 2^29 leaves room for every carry.
#[target_feature(enable = "avx512f")]
#[inline]
fn join_planes<const L: usize>(sums: &[__m512i; L], products: &mut Products) {
    let (mut lower, mut carry) = (sums[0], _mm512_srai_epi32::<8>(sums[0]));
    for (l, plane) in sums.iter().enumerate().take(4).skip(1) {
        let shifted = match l {
            1 => _mm512_slli_epi32::<8>(*plane),
            2 => _mm512_slli_epi32::<16>(*plane),
            _ => _mm512_slli_epi32::<24>(*plane),
        };
        lower = _mm512_add_epi32(lower, shifted);
        carry = _mm512_srai_epi32::<8>(_mm512_add_epi32(*plane, carry));
    }
    let upper = sums.get(4).map_or(carry, |top| _mm512_add_epi32(*top, carry));
    // Index 16 + i is the upper half of output i.
    let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    let (low, _) = products.low.as_chunks_mut::<8>();
    for (low, index) in low.iter_mut().zip([first, second]) {
        *low = eight(_mm512_permutex2var_epi32(lower, index, upper));
    }
    if let Some(top) = sums.get(5) {
        products.top = sixteen(*top);
    }
}

#[inline]
#[expect(unsafe_code, reason = "both are 64 bytes of plain integers")]
fn eight(register: __m512i) -> [i64; 8] {
    unsafe { transmute(register) }
}

#[inline]
#[expect(unsafe_code, reason = "both are 64 bytes of plain integers")]
fn sixteen(register: __m512i) -> [i32; 16] {
    unsafe { transmute(register) }
}
