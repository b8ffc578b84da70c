//! AVX2 with FMA: 16 outputs, two registers, × up to 6 items; 12 accumulators of 16 registers.

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_add_ps, _mm256_cvtepi8_epi16,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_ps, _mm256_storeu_si256,
};

use super::packed::{Block, pack, steps};

const OUTPUTS: usize = 16;

const MOST_ITEMS: usize = 6;

/// Chains of additions for a single item, so that it waits for memory only.
const CHAINS: usize = 4;

/// Calls a product for groups of 1 to 6 items with their number as a constant.
macro_rules! for_items {
    ($items:expr, $block:ident $arguments:tt, $($m:literal)*) => {
        match $items {
            $($m => $block::<$m> $arguments,)*
            items => unreachable!("a group has 1 to {MOST_ITEMS} items, not {items}"),
        }
    };
}

/// y = W·x in f32 by `vfmadd231ps`.
pub(super) struct F32;

impl Block for F32 {
    const PEER: &'static str = "f32, prepacked weights, AVX2 and FMA, in this bench";
    #[cfg(test)]
    const OUTPUTS: usize = OUTPUTS;
    const MOST_ITEMS: usize = MOST_ITEMS;
    const ZERO: Self::Sums = [0.0; OUTPUTS];
    type Weights = [[f32; 1]; OUTPUTS];
    type Inputs = f32;
    type Sums = [f32; OUTPUTS];

    fn is_available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    fn pack_weights(shape: (usize, usize), weights: &[i8]) -> Vec<Self::Weights> {
        pack(shape, weights, (f32::from, 0.0))
    }

    fn pack_inputs(x: &[i8]) -> Vec<f32> {
        x.iter().map(|v| f32::from(*v)).collect()
    }

    #[cfg(test)]
    fn sum(sums: &Self::Sums, k: usize) -> i64 {
        sums[k] as i64
    }

    #[expect(
        unsafe_code,
        reason = "only called where the instructions are available"
    )]
    fn multiply(weights: &[Self::Weights], xs: &[f32], sums: &mut [Self::Sums]) {
        unsafe {
            if sums.len() == 1 {
                return f32_single(weights, xs, sums);
            }
            for_items!(sums.len(), f32_block(weights, xs, sums), 2 3 4 5 6);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn f32_block<const M: usize>(
    weights: &[[[f32; 1]; OUTPUTS]],
    xs: &[f32],
    sums: &mut [[f32; OUTPUTS]],
) {
    let mut acc = [[_mm256_setzero_ps(); 2]; M];
    for (weights, xs) in weights.iter().zip(xs.as_chunks::<M>().0) {
        let halves = f32_halves(weights);
        for (acc, x) in acc.iter_mut().zip(xs) {
            let x = _mm256_set1_ps(*x);
            for (acc, half) in acc.iter_mut().zip(halves) {
                *acc = _mm256_fmadd_ps(half, x, *acc);
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        f32_store(acc, sums);
    }
}

/// As [`f32_block`] for one item, in several chains.
#[target_feature(enable = "avx2,fma")]
fn f32_single(weights: &[[[f32; 1]; OUTPUTS]], xs: &[f32], sums: &mut [[f32; OUTPUTS]]) {
    let mut acc = [[_mm256_setzero_ps(); 2]; CHAINS];
    for (weights, xs) in weights.chunks(CHAINS).zip(xs.chunks(CHAINS)) {
        for ((acc, weights), x) in acc.iter_mut().zip(weights).zip(xs) {
            let x = _mm256_set1_ps(*x);
            for (acc, half) in acc.iter_mut().zip(f32_halves(weights)) {
                *acc = _mm256_fmadd_ps(half, x, *acc);
            }
        }
    }
    let mut sum = [_mm256_setzero_ps(); 2];
    for acc in acc {
        for (sum, acc) in sum.iter_mut().zip(acc) {
            *sum = _mm256_add_ps(*sum, acc);
        }
    }
    for sums in sums {
        f32_store(sum, sums);
    }
}

#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 64 bytes long; the loads need no alignment"
)]
fn f32_halves(weights: &[[f32; 1]; OUTPUTS]) -> [__m256; 2] {
    let start = weights.as_ptr().cast();
    unsafe {
        [
            _mm256_loadu_ps(start),
            _mm256_loadu_ps(start.add(OUTPUTS / 2)),
        ]
    }
}

#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 64 bytes long; the stores need no alignment"
)]
fn f32_store([first, second]: [__m256; 2], sums: &mut [f32; OUTPUTS]) {
    let start = sums.as_mut_ptr();
    unsafe {
        _mm256_storeu_ps(start, first);
        _mm256_storeu_ps(start.add(OUTPUTS / 2), second);
    }
}

/// Σ w·x in int8: bytes in memory, widened once per group, then `vpmaddwd`.
pub(super) struct Int8;

/// Weights of 16 outputs × two inputs.
type Pairs = [[i8; 2]; OUTPUTS];

impl Block for Int8 {
    const PEER: &'static str = "int8, prepacked weights, AVX2, in this bench";
    #[cfg(test)]
    const OUTPUTS: usize = OUTPUTS;
    const MOST_ITEMS: usize = MOST_ITEMS;
    const ZERO: Self::Sums = [0; OUTPUTS];
    type Weights = Pairs;
    /// Two inputs as i16.
    type Inputs = i32;
    type Sums = [i32; OUTPUTS];

    fn is_available() -> bool {
        is_x86_feature_detected!("avx2")
    }

    fn pack_weights(shape: (usize, usize), weights: &[i8]) -> Vec<Self::Weights> {
        pack(shape, weights, (|w| w, 0))
    }

    fn pack_inputs(x: &[i8]) -> Vec<i32> {
        steps::<2>(x)
            .map(|[a, b]| i32::from(a) & 0xffff | i32::from(b) << 16)
            .collect()
    }

    #[cfg(test)]
    fn sum(sums: &Self::Sums, k: usize) -> i64 {
        i64::from(sums[k])
    }

    #[expect(
        unsafe_code,
        reason = "only called where the instructions are available"
    )]
    fn multiply(weights: &[Self::Weights], xs: &[i32], sums: &mut [Self::Sums]) {
        unsafe {
            for_items!(sums.len(), int8_block(weights, xs, sums), 1 2 3 4 5 6);
        }
    }
}

#[target_feature(enable = "avx2")]
fn int8_block<const M: usize>(weights: &[Pairs], xs: &[i32], sums: &mut [[i32; OUTPUTS]]) {
    let mut acc = [[_mm256_setzero_si256(); 2]; M];
    for (weights, xs) in weights.iter().zip(xs.as_chunks::<M>().0) {
        let halves = int8_halves(weights);
        for (acc, x) in acc.iter_mut().zip(xs) {
            let x = _mm256_set1_epi32(*x);
            for (acc, half) in acc.iter_mut().zip(halves) {
                *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(half, x));
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        int8_store(acc, sums);
    }
}

#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 32 bytes long; the loads need no alignment"
)]
fn int8_halves(weights: &Pairs) -> [__m256i; 2] {
    let start = weights.as_ptr().cast::<i8>();
    unsafe {
        [
            _mm256_cvtepi8_epi16(_mm_loadu_si128(start.cast())),
            _mm256_cvtepi8_epi16(_mm_loadu_si128(start.add(OUTPUTS).cast())),
        ]
    }
}

#[target_feature(enable = "avx2")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 64 bytes long; the stores need no alignment"
)]
fn int8_store([first, second]: [__m256i; 2], sums: &mut [i32; OUTPUTS]) {
    let start = sums.as_mut_ptr();
    unsafe {
        _mm256_storeu_si256(start.cast(), first);
        _mm256_storeu_si256(start.add(OUTPUTS / 2).cast(), second);
    }
}
