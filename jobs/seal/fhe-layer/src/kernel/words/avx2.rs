//! AVX2: `vpmaddwd` multiplies eight outputs' limbs of two inputs and adds the two.

use std::arch::x86_64::{
    __m256i, _mm_load_si128, _mm256_add_epi32, _mm256_cvtepu8_epi16, _mm256_load_si256,
    _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256,
};
use std::mem::transmute;

use super::{Batch, Group, MOST_STEPS, PART_BYTES, Sums, Word};
use crate::kernel::order::runs;
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
    let blocks = outputs.div_ceil(WORD_OUTPUTS);
    let mut sums = Vec::new();
    for run in runs(blocks, matrix.half_lane_bytes()) {
        for panel in batch.panels() {
            for block in run.clone() {
                sums.clear();
                sums.extend(panel.iter().flat_map(Group::starting_sums));
                let half_lanes = matrix.half_lanes(first + block);
                match matrix.planes() {
                    4 => run_block::<4, 2>(half_lanes, panel, &mut sums),
                    5 => run_block::<5, 3>(half_lanes, panel, &mut sums),
                    6 => run_block::<6, 3>(half_lanes, panel, &mut sums),
                    planes => unreachable!("a limb matrix has 4 to 6 planes, not {planes}"),
                }
                let rows = rows[panel[0].first..].iter_mut();
                for (row, sums) in rows.zip(&sums) {
                    sums.write(&mut row[block * WORD_OUTPUTS..]);
                }
            }
        }
    }
}

/// Adds the products of one block to `sums`, one for each item of the panel.
///
/// All items pass one part of the steps before the next: it stays in the first-level cache.
#[target_feature(enable = "avx2")]
fn run_block<const L: usize, const P: usize>(
    block: &[HalfLane],
    panel: &[Group],
    sums: &mut [Sums],
) {
    let (block, _) = block.as_chunks::<L>();
    let most = MOST_STEPS.min(PART_BYTES / size_of::<[HalfLane; L]>());
    let steps = block.len().div_ceil(block.len().div_ceil(most));
    for (part, block) in block.chunks(steps).enumerate() {
        let first = part * steps;
        let mut rest = &mut *sums;
        for group in panel {
            let (sums, others) = rest.split_at_mut(group.sums.len());
            match sums.len() {
                1 => run_group::<L, P, 1>(block, (group, first), sums),
                2 => run_group::<L, P, 2>(block, (group, first), sums),
                3 => run_group::<L, P, 3>(block, (group, first), sums),
                4 => run_group::<L, P, 4>(block, (group, first), sums),
                5 => run_group::<L, P, 5>(block, (group, first), sums),
                6 => run_group::<L, P, 6>(block, (group, first), sums),
                items => unreachable!("a group has 1 to 6 items, not {items}"),
            }
            rest = others;
        }
    }
}

/// The steps of a part, from step `first` of the group's inputs.
#[target_feature(enable = "avx2")]
fn run_group<const L: usize, const P: usize, const M: usize>(
    steps: &[[HalfLane; L]],
    (group, first): (&Group, usize),
    sums: &mut [Sums],
) {
    let (inputs, _) = group.pairs.as_chunks::<M>();
    let (inputs, _) = inputs.as_chunks::<2>();
    let mut limbs = [[_mm256_setzero_si256(); P]; M];
    accumulate(steps, &inputs[first..], &mut limbs);
    for (sums, limbs) in sums.iter_mut().zip(limbs) {
        sums.add::<L, P>(&limbs.map(integers));
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
