//! AVX-512 with VNNI: `vpdpbusd` multiplies 64 bytes of a plane by four inputs, broadcast, and
//! adds each output's four products to its accumulator.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_castsi512_si256, _mm512_cvtepi32_epi64, _mm512_dpbusd_epi32,
    _mm512_extracti64x4_epi64, _mm512_load_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_slli_epi64,
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

/// Planes 0 to 4 by Horner's rule in 64 bits, eight outputs at a time; plane 5 as it is.
#[target_feature(enable = "avx512f")]
#[inline]
fn join_planes<const L: usize>(sums: &[__m512i; L], products: &mut Products) {
    let mut halves = [_mm512_setzero_si512(); 2];
    for plane in sums.iter().take(5).rev() {
        let wide = [
            _mm512_cvtepi32_epi64(_mm512_castsi512_si256(*plane)),
            _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(*plane)),
        ];
        for (half, wide) in halves.iter_mut().zip(wide) {
            *half = _mm512_add_epi64(_mm512_slli_epi64::<8>(*half), wide);
        }
    }
    let (low, _) = products.low.as_chunks_mut::<8>();
    for (low, half) in low.iter_mut().zip(halves) {
        *low = eight(half);
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
