//! AVX2: `vpmaddwd` multiplies eight outputs' limbs of two inputs and adds the two.

use std::arch::x86_64::{
    __m256i, _MM_HINT_T1, _mm_load_si128, _mm_prefetch, _mm256_add_epi32, _mm256_cvtepu8_epi16,
    _mm256_load_si256, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256,
    _mm256_storeu_si256,
};

use super::{Accumulate, Batch, Inputs, Limbs, Word};
use crate::limbs::{HalfLane, LimbMatrix, WORD_OUTPUTS};

/// Writes the sums of the blocks of eight outputs from `first` that `rows` have room for.
#[target_feature(enable = "avx2")]
pub(in crate::kernel) fn run<W: Word>(
    matrix: &LimbMatrix,
    first: usize,
    batch: &Batch,
    rows: &mut [&mut [W]],
) {
    super::run::<Avx2, W>(matrix, first, batch, rows);
}

struct Avx2;

/// Half lanes of a cache line of 64 bytes.
const LINE_HALF_LANES: usize = 2;

impl Accumulate for Avx2 {
    #[inline(never)]
    #[expect(unsafe_code, reason = "the caller has the instructions")]
    unsafe fn accumulate<const L: usize, const P: usize, const M: usize>(
        steps: &[[HalfLane; L]],
        inputs: &[Inputs<M>],
        sums: &mut [Limbs<P>; M],
    ) {
        unsafe { accumulate(steps, inputs, sums) }
    }

    #[inline]
    #[expect(
        unsafe_code,
        reason = "a prefetch reads nothing, and SSE is part of x86-64"
    )]
    fn prefetch(limbs: &[HalfLane]) {
        for line in limbs.chunks(LINE_HALF_LANES) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
        }
    }
}

/// The accumulators of P limbs for M items.
///
/// A function of its own, because the registers of what comes after it would be spilled inside
/// its loop.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn accumulate<const L: usize, const P: usize, const M: usize>(
    steps: &[[HalfLane; L]],
    inputs: &[Inputs<M>],
    sums: &mut [Limbs<P>; M],
) {
    let mut acc = [[_mm256_setzero_si256(); P]; M];
    for (step, inputs) in steps.iter().zip(inputs) {
        for (pair, inputs) in inputs.iter().enumerate() {
            let mut limbs = [_mm256_setzero_si256(); P];
            for (l, limb) in limbs.iter_mut().enumerate() {
                *limb = load(step, l, pair);
            }
            for (acc, x) in acc.iter_mut().zip(inputs) {
                let x = _mm256_set1_epi32(*x);
                for (acc, limb) in acc.iter_mut().zip(limbs) {
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(limb, x));
                }
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(&acc) {
        for (sums, acc) in sums.iter_mut().zip(acc) {
            store(*acc, sums);
        }
    }
}

/// Limb `l` of eight outputs × two inputs: a half lane, or half of the last one, of bytes.
#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    unsafe_code,
    reason = "a half lane is 32 bytes, aligned to 32; its second half starts 16 bytes later"
)]
fn load<const L: usize>(step: &[HalfLane; L], l: usize, pair: usize) -> __m256i {
    if 2 * l + 1 < L {
        unsafe { _mm256_load_si256(step[2 * l + pair].0.as_ptr().cast()) }
    } else {
        let (halves, _) = step[L - 1].0.as_chunks::<16>();
        _mm256_cvtepu8_epi16(unsafe { _mm_load_si128(halves[pair].as_ptr().cast()) })
    }
}

#[target_feature(enable = "avx2")]
#[inline]
#[expect(unsafe_code, reason = "the array has the register's size")]
fn store(register: __m256i, to: &mut [i32; WORD_OUTPUTS]) {
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), register) }
}
