//! What products over prepacked weights share: packing, groups of items, threads.

use std::{hint::black_box, num::NonZeroUsize, thread};

use super::{Problem, Product};

/// One instruction set's product of a block of outputs with a group of items.
pub(super) trait Block {
    /// What it is, for the figures.
    const PEER: &'static str;

    /// Outputs of one block.
    #[cfg(test)]
    const OUTPUTS: usize;

    /// The most items of one group.
    const MOST_ITEMS: usize;

    /// Weights of one step: all outputs of a block, one or a few inputs.
    type Weights: Copy + Sync;

    /// One item's inputs of one step.
    type Inputs: Copy + Sync;

    /// The sums of one item for one block.
    type Sums: Copy + Send;

    /// Zero sums.
    const ZERO: Self::Sums;

    /// Whether this machine has the instructions.
    fn is_available() -> bool;

    /// The steps of every block, block by block.
    fn pack_weights(shape: (usize, usize), weights: &[i8]) -> Vec<Self::Weights>;

    /// The steps of one item.
    fn pack_inputs(x: &[i8]) -> Vec<Self::Inputs>;

    /// The sum of output `k` of a block, exact.
    #[cfg(test)]
    fn sum(sums: &Self::Sums, k: usize) -> i64;

    /// Multiplies one block with one group: its `inputs` step by step, as many items as `sums`.
    ///
    /// Only called where [`Self::is_available`].
    fn multiply(weights: &[Self::Weights], inputs: &[Self::Inputs], sums: &mut [Self::Sums]);
}

/// A product over prepacked weights.
pub(super) struct Packed<B: Block> {
    steps: usize,
    batch: usize,
    weights: Vec<B::Weights>,
    groups: Vec<Group<B::Inputs>>,
    sums: Vec<B::Sums>,
}

/// Items that are multiplied together.
struct Group<I> {
    items: usize,
    inputs: Vec<I>,
}

impl<B: Block> Packed<B> {
    /// `None` where the machine lacks the instructions.
    pub(super) fn new(problem: Problem<'_>) -> Option<Self> {
        if !B::is_available() {
            return None;
        }
        let items: Vec<Vec<B::Inputs>> = problem.xs.iter().map(|x| B::pack_inputs(x)).collect();
        let steps = items.first().map_or(0, Vec::len);
        let weights = B::pack_weights(problem.shape, problem.weights);
        let batch = items.len();
        Some(Self {
            steps,
            batch,
            sums: vec![B::ZERO; weights.len() / steps * batch],
            weights,
            groups: cut(&items, B::MOST_ITEMS),
        })
    }
}

/// Cuts items into groups of nearly the same size: a small last group would be a slow one.
fn cut<I: Copy>(items: &[Vec<I>], most: usize) -> Vec<Group<I>> {
    let groups = items.len().div_ceil(most);
    let bounds = |group: usize| group * items.len() / groups;
    (0..groups)
        .map(|group| {
            let items = &items[bounds(group)..bounds(group + 1)];
            let steps = 0..items[0].len();
            Group {
                items: items.len(),
                inputs: steps
                    .flat_map(|step| items.iter().map(move |item| item[step]))
                    .collect(),
            }
        })
        .collect()
}

impl<B: Block> Product for Packed<B> {
    fn peer(&self) -> &'static str {
        B::PEER
    }

    fn multiply(&mut self, threads: NonZeroUsize) {
        let (steps, batch, groups) = (self.steps, self.batch, &self.groups);
        let run = |weights: &[B::Weights], sums: &mut [B::Sums]| {
            let blocks = weights.chunks_exact(steps);
            for (weights, mut sums) in blocks.zip(sums.chunks_exact_mut(batch)) {
                for group in groups {
                    let (head, rest) = sums.split_at_mut(group.items);
                    B::multiply(weights, &group.inputs, head);
                    sums = rest;
                }
            }
        };
        if threads == NonZeroUsize::MIN {
            run(&self.weights, &mut self.sums);
        } else {
            let share = (self.weights.len() / steps).div_ceil(threads.get());
            thread::scope(|scope| {
                let weights = self.weights.chunks(share * steps);
                for (weights, sums) in weights.zip(self.sums.chunks_mut(share * batch)) {
                    let run = &run;
                    scope.spawn(move || run(weights, sums));
                }
            });
        }
        black_box(&self.sums);
    }

    #[cfg(test)]
    fn sums(&self, item: usize) -> Vec<i64> {
        let blocks = self.sums.iter().skip(item).step_by(self.batch);
        blocks
            .flat_map(|sums| (0..B::OUTPUTS).map(|k| B::sum(sums, k)))
            .collect()
    }
}

/// Weights [d_out, d_in] as steps of `OUTPUTS` outputs × `INPUTS` inputs, missing ones `zero`.
pub(super) fn pack<T: Copy, const OUTPUTS: usize, const INPUTS: usize>(
    (d_in, d_out): (usize, usize),
    weights: &[i8],
    (convert, zero): (impl Fn(i8) -> T, T),
) -> Vec<[[T; INPUTS]; OUTPUTS]> {
    let steps = d_in.div_ceil(INPUTS);
    let mut packed = vec![[[zero; INPUTS]; OUTPUTS]; steps * d_out.div_ceil(OUTPUTS)];
    for (k, row) in weights.chunks_exact(d_in).enumerate() {
        for (j, w) in row.iter().enumerate() {
            let step = &mut packed[k / OUTPUTS * steps + j / INPUTS];
            step[k % OUTPUTS][j % INPUTS] = convert(*w);
        }
    }
    packed
}

/// Inputs in steps of `INPUTS`, missing ones zero.
pub(super) fn steps<const INPUTS: usize>(x: &[i8]) -> impl Iterator<Item = [i8; INPUTS]> {
    x.chunks(INPUTS).map(|chunk| {
        let mut step = [0; INPUTS];
        step[..chunk.len()].copy_from_slice(chunk);
        step
    })
}
