//! AVX-512, for int8 with VNNI: 32 outputs, two registers, × up to 12 items; 24 accumulators of
//! 32 registers.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_storeu_ps, _mm512_storeu_si512,
};

use super::packed::{Block, pack, steps};

const OUTPUTS: usize = 32;

const MOST_ITEMS: usize = 12;

/// Inputs of one step of the int8 product.
const QUAD: usize = 4;

/// Chains of additions for a single item, so that it waits for memory only.
const CHAINS: usize = 4;

/// Calls a product for groups of 1 to 12 items with their number as a constant.
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
    const PEER: &'static str = "f32, prepacked weights, AVX-512, in this bench";
    #[cfg(test)]
    const OUTPUTS: usize = OUTPUTS;
    const MOST_ITEMS: usize = MOST_ITEMS;
    const ZERO: Self::Sums = [0.0; OUTPUTS];
    type Weights = [[f32; 1]; OUTPUTS];
    type Inputs = f32;
    type Sums = [f32; OUTPUTS];

    fn is_available() -> bool {
        is_x86_feature_detected!("avx512f")
    }

    fn pack_weights(shape: (usize, usize), weights: &[i8]) -> Vec<Self::Weights> {
        pack(shape, weights, (|w| f32::from(w), 0.0))
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
            for_items!(sums.len(), f32_block(weights, xs, sums), 2 3 4 5 6 7 8 9 10 11 12);
        }
    }
}

#[target_feature(enable = "avx512f")]
fn f32_block<const M: usize>(
    weights: &[[[f32; 1]; OUTPUTS]],
    xs: &[f32],
    sums: &mut [[f32; OUTPUTS]],
) {
    let mut acc = [[_mm512_setzero_ps(); 2]; M];
    for (weights, xs) in weights.iter().zip(xs.as_chunks::<M>().0) {
        let halves = f32_halves(weights);
        for (acc, x) in acc.iter_mut().zip(xs) {
            let x = _mm512_set1_ps(*x);
            for (acc, half) in acc.iter_mut().zip(halves) {
                *acc = _mm512_fmadd_ps(half, x, *acc);
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        f32_store(acc, sums);
    }
}

/// As [`f32_block`] for one item, in several chains.
#[target_feature(enable = "avx512f")]
fn f32_single(weights: &[[[f32; 1]; OUTPUTS]], xs: &[f32], sums: &mut [[f32; OUTPUTS]]) {
    let mut acc = [[_mm512_setzero_ps(); 2]; CHAINS];
    for (weights, xs) in weights.chunks(CHAINS).zip(xs.chunks(CHAINS)) {
        for ((acc, weights), x) in acc.iter_mut().zip(weights).zip(xs) {
            let x = _mm512_set1_ps(*x);
            for (acc, half) in acc.iter_mut().zip(f32_halves(weights)) {
                *acc = _mm512_fmadd_ps(half, x, *acc);
            }
        }
    }
    let mut sum = [_mm512_setzero_ps(); 2];
    for acc in acc {
        for (sum, acc) in sum.iter_mut().zip(acc) {
            *sum = _mm512_add_ps(*sum, acc);
        }
    }
    for sums in sums {
        f32_store(sum, sums);
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 128 bytes long; the loads need no alignment"
)]
fn f32_halves(weights: &[[f32; 1]; OUTPUTS]) -> [__m512; 2] {
    let start = weights.as_ptr().cast();
    unsafe {
        [
            _mm512_loadu_ps(start),
            _mm512_loadu_ps(start.add(OUTPUTS / 2)),
        ]
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 128 bytes long; the stores need no alignment"
)]
fn f32_store([first, second]: [__m512; 2], sums: &mut [f32; OUTPUTS]) {
    let start = sums.as_mut_ptr();
    unsafe {
        _mm512_storeu_ps(start, first);
        _mm512_storeu_ps(start.add(OUTPUTS / 2), second);
    }
}

/// Σ (w + 128)·x in int8 by `vpdpbusd`. The constant 128·Σx, one subtraction per output, is not
/// taken off: the peer does slightly less than a layer would.
pub(super) struct Int8;

/// Weights of 32 outputs × four inputs.
type Quads = [[u8; QUAD]; OUTPUTS];

impl Block for Int8 {
    const PEER: &'static str = "int8, prepacked weights, AVX-512 VNNI, in this bench";
    #[cfg(test)]
    const OUTPUTS: usize = OUTPUTS;
    const MOST_ITEMS: usize = MOST_ITEMS;
    const ZERO: Self::Sums = [0; OUTPUTS];
    type Weights = Quads;
    /// Four inputs as bytes.
    type Inputs = i32;
    type Sums = [i32; OUTPUTS];

    fn is_available() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")
    }

    fn pack_weights(shape: (usize, usize), weights: &[i8]) -> Vec<Self::Weights> {
        pack(shape, weights, (|w| w.cast_unsigned() ^ 0x80, 0))
    }

    fn pack_inputs(x: &[i8]) -> Vec<i32> {
        steps::<QUAD>(x)
            .map(|quad| i32::from_le_bytes(quad.map(i8::cast_unsigned)))
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
            for_items!(sums.len(), int8_block(weights, xs, sums), 1 2 3 4 5 6 7 8 9 10 11 12);
        }
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_block<const M: usize>(weights: &[Quads], xs: &[i32], sums: &mut [[i32; OUTPUTS]]) {
    let mut acc = [[_mm512_setzero_si512(); 2]; M];
    for (weights, xs) in weights.iter().zip(xs.as_chunks::<M>().0) {
        let halves = int8_halves(weights);
        for (acc, x) in acc.iter_mut().zip(xs) {
            let x = _mm512_set1_epi32(*x);
            for (acc, half) in acc.iter_mut().zip(halves) {
                *acc = _mm512_dpbusd_epi32(*acc, half, x);
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        int8_store(acc, sums);
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 128 bytes long; the loads need no alignment"
)]
fn int8_halves(weights: &Quads) -> [__m512i; 2] {
    let start = weights.as_ptr().cast::<u8>();
    unsafe {
        [
            _mm512_loadu_si512(start.cast()),
            _mm512_loadu_si512(start.add(QUAD * OUTPUTS / 2).cast()),
        ]
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 128 bytes long; the stores need no alignment"
)]
fn int8_store([first, second]: [__m512i; 2], sums: &mut [i32; OUTPUTS]) {
    let start = sums.as_mut_ptr();
    unsafe {
        _mm512_storeu_si512(start.cast(), first);
        _mm512_storeu_si512(start.add(OUTPUTS / 2).cast(), second);
    }
}
