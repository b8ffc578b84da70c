//! AVX2: `vpmaddwd` multiplies eight outputs' limbs of two inputs and adds the two.

use std::arch::x86_64::{
    __m256i, _mm_load_si128, _mm256_add_epi32, _mm256_cvtepu8_epi16, _mm256_load_si256,
    _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256,
};
use std::mem::transmute;

use super::{Batch, Group, MOST_STEPS, Sums, Word};
use crate::limbs::{HalfLane, LimbMatrix, WORD_OUTPUTS};

/// Writes the sums of the blocks of eight outputs from `first` that `rows` have room for.
#[target_feature(enable = "avx2")]
pub(in crate::kernel) fn run<W: Word>(
    matrix: &LimbMatrix,
    first: usize,
    batch: &Batch,
    rows: &mut [&mut [W]],
) {
    let outputs = rows.first().map_or(0, |row| row.len());
    for (block, from) in (0..outputs).step_by(WORD_OUTPUTS).enumerate() {
        let half_lanes = matrix.half_lanes(first + block);
        let to = (&mut *rows, from);
        match matrix.planes() {
            4 => run_block::<4, 2, W>(half_lanes, batch, to),
            5 => run_block::<5, 3, W>(half_lanes, batch, to),
            6 => run_block::<6, 3, W>(half_lanes, batch, to),
            planes => unreachable!("a limb matrix has 4 to 6 planes, not {planes}"),
        }
    }
}

#[target_feature(enable = "avx2")]
fn run_block<const L: usize, const P: usize, W: Word>(
    block: &[HalfLane],
    batch: &Batch,
    (rows, from): (&mut [&mut [W]], usize),
) {
    for group in &batch.groups {
        let to = (&mut rows[group.first..], from);
        match group.sums.len() {
            1 => run_group::<L, P, 1, W>(block, group, to),
            2 => run_group::<L, P, 2, W>(block, group, to),
            3 => run_group::<L, P, 3, W>(block, group, to),
            4 => run_group::<L, P, 4, W>(block, group, to),
            5 => run_group::<L, P, 5, W>(block, group, to),
            6 => run_group::<L, P, 6, W>(block, group, to),
            items => unreachable!("a group has 1 to 6 items, not {items}"),
        }
    }
}

#[target_feature(enable = "avx2")]
fn run_group<const L: usize, const P: usize, const M: usize, W: Word>(
    block: &[HalfLane],
    group: &Group,
    (rows, from): (&mut [&mut [W]], usize),
) {
    let (block, _) = block.as_chunks::<L>();
    let (inputs, _) = group.pairs.as_chunks::<M>();
    let (inputs, _) = inputs.as_chunks::<2>();
    let mut sums: [Sums; M] = std::array::from_fn(|m| group.sums[m]);
    let steps = block.len().div_ceil(block.len().div_ceil(MOST_STEPS));
    for (block, inputs) in block.chunks(steps).zip(inputs.chunks(steps)) {
        let mut limbs = [[_mm256_setzero_si256(); P]; M];
        accumulate(block, inputs, &mut limbs);
        for (sums, limbs) in sums.iter_mut().zip(limbs) {
            sums.add::<L, P>(&limbs.map(integers));
        }
    }
    for (row, sums) in rows.iter_mut().zip(&sums) {
        sums.write(&mut row[from..]);
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
    inputs: &[[[i32; M]; 2]],
    sums: &mut [[__m256i; P]; M],
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
    *sums = acc;
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

#[inline]
#[expect(unsafe_code, reason = "both are 32 bytes of plain integers")]
fn integers(register: __m256i) -> [i32; WORD_OUTPUTS] {
    unsafe { transmute(register) }
}
