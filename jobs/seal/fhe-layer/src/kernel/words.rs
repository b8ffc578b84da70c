//! Products of 16-bit limbs, as `vpmaddwd` and `smlal` multiply them.
//!
//! Bytes would have to be widened at every load. Limbs of 16 bits need only L/2 multiplications
//! where L bytes need L, take the same memory, and the odd byte plane is widened once for all
//! items of a group. The limbs of an unsigned integer are stored less 2^15, so that they are
//! signed; what that takes off, 2^15·Σ_j x_j per limb, is added once per output.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;

use super::Word;
use super::order::{panel_groups, runs};
use crate::limbs::{HalfLane, LimbMatrix, WORD_OUTPUTS, WORD_STEP_INPUTS};

/// Steps whose products an i32 accumulator takes: 504 inputs, 504·2^15·2^7 < 2^31. An x of -128
/// is thus no danger either.
const MOST_STEPS: usize = 126;

/// Bytes of the steps that all items of a panel pass before the next steps: with the panel they
/// fill a first-level cache of 32 KiB.
const PART_BYTES: usize = 20 << 10;

/// The limbs' sums of eight outputs of one item.
type Limbs<const P: usize> = [[i32; WORD_OUTPUTS]; P];

/// The inputs of one step for M items: two pairs of i16.
type Inputs<const M: usize> = [[i32; M]; 2];

/// What the instructions of a machine do.
trait Accumulate {
    /// Writes the products of the steps, summed, limb by limb, of matrices of L bytes in P limbs.
    ///
    /// # Safety
    /// The machine has the instructions.
    #[expect(
        unsafe_code,
        reason = "a trait's method cannot say which instructions it needs"
    )]
    unsafe fn accumulate<const L: usize, const P: usize, const M: usize>(
        steps: &[[HalfLane; L]],
        inputs: &[Inputs<M>],
        sums: &mut [Limbs<P>; M],
    );

    /// Begins to bring limbs into a second-level cache, where the machine can be told to.
    fn prefetch(_limbs: &[HalfLane]) {}
}

/// Writes the sums of the blocks of eight outputs from `first` that `rows` have room for.
///
/// Inlined into a caller that has the machine's instructions, and so compiled with them.
#[expect(
    clippy::inline_always,
    reason = "compiled once per instruction set, in its caller"
)]
#[inline(always)]
fn run<A: Accumulate, W: Word>(
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
                for group in panel {
                    sums.extend_from_slice(&group.sums);
                }
                let half_lanes = matrix.half_lanes(first + block);
                let next = block + run.len();
                let ahead = Ahead {
                    limbs: if batch.reads_ahead() && next < blocks {
                        matrix.half_lanes(first + next)
                    } else {
                        &[]
                    },
                    items: batch.items,
                };
                match matrix.planes() {
                    4 => run_block::<A, 4, 2>(half_lanes, (panel, ahead), &mut sums),
                    5 => run_block::<A, 5, 3>(half_lanes, (panel, ahead), &mut sums),
                    6 => run_block::<A, 6, 3>(half_lanes, (panel, ahead), &mut sums),
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
#[expect(
    clippy::inline_always,
    reason = "compiled once per instruction set, in its caller"
)]
#[inline(always)]
fn run_block<A: Accumulate, const L: usize, const P: usize>(
    block: &[HalfLane],
    (panel, ahead): (&[Group], Ahead<'_>),
    sums: &mut [Sums],
) {
    let (block, _) = block.as_chunks::<L>();
    let most = MOST_STEPS.min(PART_BYTES / size_of::<[HalfLane; L]>());
    let steps = block.len().div_ceil(block.len().div_ceil(most));
    for (part, block) in block.chunks(steps).enumerate() {
        let first = part * steps;
        let mut rest = &mut *sums;
        for group in panel {
            if part == 0 {
                A::prefetch(ahead.share(group));
            }
            let (sums, others) = rest.split_at_mut(group.sums.len());
            match sums.len() {
                1 => run_group::<A, L, P, 1>(block, (group, first), sums),
                2 => run_group::<A, L, P, 2>(block, (group, first), sums),
                3 => run_group::<A, L, P, 3>(block, (group, first), sums),
                4 => run_group::<A, L, P, 4>(block, (group, first), sums),
                5 => run_group::<A, L, P, 5>(block, (group, first), sums),
                6 => run_group::<A, L, P, 6>(block, (group, first), sums),
                items => unreachable!("a group has 1 to 6 items, not {items}"),
            }
            rest = others;
        }
    }
}

/// The steps of a part, from step `first` of the group's inputs.
#[expect(
    clippy::inline_always,
    reason = "compiled once per instruction set, in its caller"
)]
#[inline(always)]
fn run_group<A: Accumulate, const L: usize, const P: usize, const M: usize>(
    steps: &[[HalfLane; L]],
    (group, first): (&Group, usize),
    sums: &mut [Sums],
) {
    let (inputs, _) = group.pairs.as_chunks::<M>();
    let (inputs, _) = inputs.as_chunks::<2>();
    let mut limbs = [[[0; WORD_OUTPUTS]; P]; M];
    #[expect(
        unsafe_code,
        reason = "inlined into a caller that has the instructions"
    )]
    unsafe {
        A::accumulate(steps, &inputs[first..], &mut limbs);
    }
    for (sums, limbs) in sums.iter_mut().zip(&limbs) {
        sums.add::<L, P>(limbs);
    }
}

/// A block of the next run, which is fetched from memory while this run is multiplied: the
/// processor's own prefetching ends with each page.
#[derive(Clone, Copy)]
struct Ahead<'a> {
    limbs: &'a [HalfLane],
    /// Items of the batch.
    items: usize,
}

impl<'a> Ahead<'a> {
    /// The part of one group: all at once would keep the loads of the products waiting.
    fn share(self, group: &Group) -> &'a [HalfLane] {
        let bound = |item: usize| self.limbs.len() * item / self.items;
        &self.limbs[bound(group.first)..bound(group.first + group.sums.len())]
    }
}

/// Items of a batch from which on a block takes longer to multiply than to fetch.
const READ_AHEAD_ITEMS: usize = 8;

/// A batch cut into groups of nearly the same size: a small last group would be a slow one.
pub(super) struct Batch {
    groups: Vec<Group>,
    items: usize,
    /// Groups that are multiplied with a block before the next block is.
    panel_groups: usize,
}

/// Items that are multiplied together: each limb that is loaded is used for all of them.
pub(super) struct Group {
    /// Position of the first in the batch.
    first: usize,
    /// Their starting values.
    sums: Vec<Sums>,
    /// Neighbouring inputs as two i16, input by input, for each input item by item.
    pairs: Vec<i32>,
}

impl Batch {
    /// Packs items for a matrix of `planes` bytes.
    pub(super) fn new(xs: &[&[i8]], planes: usize) -> Self {
        let count = xs.len().div_ceil(most_items(planes));
        let bound = |group: usize| group * xs.len() / count;
        let groups: Vec<Group> = (0..count)
            .map(|group| {
                let first = bound(group);
                Group::new(&xs[first..bound(group + 1)], (first, planes))
            })
            .collect();
        let largest = groups.iter().map(|group| size_of_val(&group.pairs[..]));
        let panel_groups = panel_groups(largest.max().unwrap_or(0));
        Self {
            groups,
            items: xs.len(),
            panel_groups,
        }
    }

    fn reads_ahead(&self) -> bool {
        self.items >= READ_AHEAD_ITEMS
    }

    fn panels(&self) -> impl Iterator<Item = &[Group]> {
        self.groups.chunks(self.panel_groups)
    }
}

impl Group {
    fn new(xs: &[&[i8]], (first, planes): (usize, usize)) -> Self {
        let inputs = xs.first().map_or(0, |x| x.len());
        let padded = inputs.next_multiple_of(WORD_STEP_INPUTS);
        let mut pairs = vec![0; padded / 2 * xs.len()];
        for (m, x) in xs.iter().enumerate() {
            let packed = pairs[m..].iter_mut().step_by(xs.len());
            let (whole, last) = x.as_chunks::<2>();
            let last = last.first().map(|last| [*last, 0]);
            for (packed, pair) in packed.zip(whole.iter().copied().chain(last)) {
                let [low, high] = pair.map(i32::from);
                *packed = low & 0xffff | high << 16;
            }
        }
        let sums = xs.iter().map(|x| Sums::of_offsets(x, planes)).collect();
        Self { first, sums, pairs }
    }
}

/// The most items whose accumulators, with L/2 limbs, stay in registers together with the limbs
/// and an input; where the machine adds in a second step, with the products that wait for it.
fn most_items(planes: usize) -> usize {
    let (four, more) = if cfg!(target_arch = "x86_64") {
        (4, 2)
    } else {
        (6, 3)
    };
    if planes == 4 { four } else { more }
}

/// Sums of eight outputs of one item: limbs 0 and 1, and of odd L the last byte; and limb 2 in
/// units of 2^32.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    low: [i64; WORD_OUTPUTS],
    top: [i64; WORD_OUTPUTS],
}

impl Sums {
    /// What the offsets of the limbs take off; a fifth plane, a byte, has none.
    fn of_offsets(x: &[i8], planes: usize) -> Self {
        let sum: i64 = x.iter().map(|v| i64::from(*v)).sum();
        Self {
            low: [(sum << 15) + (sum << 31); WORD_OUTPUTS],
            top: [if planes == 6 { sum << 15 } else { 0 }; WORD_OUTPUTS],
        }
    }

    /// Adds the accumulators of one run of steps, limb by limb.
    #[inline]
    fn add<const L: usize, const P: usize>(&mut self, limbs: &[[i32; WORD_OUTPUTS]; P]) {
        let low = limbs[0].iter().zip(&limbs[1]);
        for (sum, (first, second)) in self.low.iter_mut().zip(low) {
            *sum += i64::from(*first) + (i64::from(*second) << 16);
        }
        let Some(last) = limbs.get(2) else { return };
        let (sums, unit) = if L == 5 {
            (&mut self.low, 32)
        } else {
            (&mut self.top, 0)
        };
        for (sum, limb) in sums.iter_mut().zip(last) {
            *sum += i64::from(*limb) << unit;
        }
    }

    fn write<W: Word>(&self, row: &mut [W]) {
        for (sum, (low, top)) in row.iter_mut().zip(self.low.iter().zip(&self.top)) {
            *sum = W::joined(*low, *top);
        }
    }
}
