//! Plaintext products to compare with: as good as we can make them, because a slow peer would
//! flatter the encrypted layer.

#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_storeu_ps, _mm512_storeu_si512,
};
use std::{hint::black_box, num::NonZeroUsize, thread};

/// Outputs of one block: two registers.
const OUTPUTS: usize = 32;

/// Items of one group: 24 accumulators.
const ITEMS: usize = 12;

/// Inputs of one step of the int8 product.
const QUAD: usize = 4;

/// Chains of additions for a single item, so that it waits for memory only.
const CHAINS: usize = 4;

/// One block's sums of one item.
type Sums<T> = [T; OUTPUTS];

/// y = W·x in f32: weights packed for 32 outputs × 12 items.
pub(super) struct F32 {
    d_in: usize,
    batch: usize,
    weights: Vec<[f32; OUTPUTS]>,
    groups: Vec<Group<f32>>,
    sums: Vec<Sums<f32>>,
}

/// Σ (w + 128)·x in int8 by `vpdpbusd`. The constant 128·Σx, one subtraction per output, is not
/// taken off: the peer does slightly less than a layer would.
pub(super) struct Int8 {
    d_in: usize,
    batch: usize,
    weights: Vec<[[u8; QUAD]; OUTPUTS]>,
    groups: Vec<Group<i32>>,
    sums: Vec<Sums<i32>>,
}

/// Items that are multiplied together, step by step.
enum Group<T> {
    Twelve(Vec<[T; ITEMS]>),
    Four(Vec<[T; 4]>),
    One(Vec<[T; 1]>),
}

impl<T: Copy> Group<T> {
    /// Cuts items, each a list of steps, into groups.
    fn cut(mut items: &[Vec<T>]) -> Vec<Self> {
        let mut groups = Vec::new();
        while !items.is_empty() {
            let taken;
            (groups, taken) = match items.len() {
                ITEMS.. => (with(groups, Self::Twelve(together(items))), ITEMS),
                4.. => (with(groups, Self::Four(together(items))), 4),
                _ => (with(groups, Self::One(together(items))), 1),
            };
            items = &items[taken..];
        }
        groups
    }
}

fn with<T>(mut groups: Vec<Group<T>>, group: Group<T>) -> Vec<Group<T>> {
    groups.push(group);
    groups
}

fn together<T: Copy, const M: usize>(items: &[Vec<T>]) -> Vec<[T; M]> {
    let steps = items.first().map_or(0, Vec::len);
    (0..steps)
        .map(|step| std::array::from_fn(|m| items[m][step]))
        .collect()
}

impl F32 {
    pub(super) fn packed((d_in, d_out): (usize, usize), w: &[i8], xs: &[&[i8]]) -> Option<Self> {
        let blocks = d_out.div_ceil(OUTPUTS);
        let mut weights = vec![[0.0; OUTPUTS]; d_in * blocks];
        for (k, row) in w.chunks_exact(d_in).enumerate() {
            for (j, w) in row.iter().enumerate() {
                weights[k / OUTPUTS * d_in + j][k % OUTPUTS] = f32::from(*w);
            }
        }
        let items: Vec<Vec<f32>> = xs
            .iter()
            .map(|x| x.iter().map(|v| f32::from(*v)).collect())
            .collect();
        let (groups, sums) = (Group::cut(&items), vec![[0.0; OUTPUTS]; blocks * xs.len()]);
        let batch = xs.len();
        is_x86_feature_detected!("avx512f").then_some(Self {
            d_in,
            batch,
            weights,
            groups,
            sums,
        })
    }

    #[expect(unsafe_code, reason = "the constructor found the instructions")]
    pub(super) fn multiply(&mut self, threads: NonZeroUsize) {
        let groups = &self.groups;
        let each = |weights: &[[f32; OUTPUTS]], mut sums: &mut [Sums<f32>]| {
            for group in groups {
                sums = match group {
                    Group::Twelve(xs) => unsafe { f32_block(weights, xs, sums) },
                    Group::Four(xs) => unsafe { f32_block(weights, xs, sums) },
                    Group::One(xs) => unsafe { f32_single(weights, xs, sums) },
                };
            }
        };
        split(
            (&self.weights, self.d_in),
            (&mut self.sums, self.batch),
            threads,
            each,
        );
        black_box(&self.sums);
    }
}

impl Int8 {
    pub(super) fn packed((d_in, d_out): (usize, usize), w: &[i8], xs: &[&[i8]]) -> Option<Self> {
        let (blocks, quads) = (d_out.div_ceil(OUTPUTS), d_in.div_ceil(QUAD));
        let mut weights = vec![[[0; QUAD]; OUTPUTS]; quads * blocks];
        for (k, row) in w.chunks_exact(d_in).enumerate() {
            for (j, w) in row.iter().enumerate() {
                let step = &mut weights[k / OUTPUTS * quads + j / QUAD];
                step[k % OUTPUTS][j % QUAD] = w.cast_unsigned() ^ 0x80;
            }
        }
        let quad = |x: &[i8]| {
            let mut bytes = [0; QUAD];
            bytes
                .iter_mut()
                .zip(x)
                .for_each(|(byte, x)| *byte = x.cast_unsigned());
            i32::from_le_bytes(bytes)
        };
        let items: Vec<Vec<i32>> = xs
            .iter()
            .map(|x| x.chunks(QUAD).map(quad).collect())
            .collect();
        let (groups, sums) = (Group::cut(&items), vec![[0; OUTPUTS]; blocks * xs.len()]);
        let (d_in, batch) = (quads, xs.len());
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")).then_some(
            Self {
                d_in,
                batch,
                weights,
                groups,
                sums,
            },
        )
    }

    #[expect(unsafe_code, reason = "the constructor found the instructions")]
    pub(super) fn multiply(&mut self, threads: NonZeroUsize) {
        let groups = &self.groups;
        let each = |weights: &[[[u8; QUAD]; OUTPUTS]], mut sums: &mut [Sums<i32>]| {
            for group in groups {
                sums = match group {
                    Group::Twelve(xs) => unsafe { int8_block(weights, xs, sums) },
                    Group::Four(xs) => unsafe { int8_block(weights, xs, sums) },
                    Group::One(xs) => unsafe { int8_block(weights, xs, sums) },
                };
            }
        };
        split(
            (&self.weights, self.d_in),
            (&mut self.sums, self.batch),
            threads,
            each,
        );
        black_box(&self.sums);
    }
}

/// Gives every block of outputs to `each`, with the sums of its items; threads split blocks.
fn split<W: Sync, S: Send>(
    (weights, steps): (&[W], usize),
    (sums, batch): (&mut [S], usize),
    threads: NonZeroUsize,
    each: impl Fn(&[W], &mut [S]) + Sync,
) {
    let share = (weights.len() / steps).div_ceil(threads.get());
    let run = |weights: &[W], sums: &mut [S]| {
        let blocks = weights
            .chunks_exact(steps)
            .zip(sums.chunks_exact_mut(batch));
        blocks.for_each(|(weights, sums)| each(weights, sums));
    };
    if threads == NonZeroUsize::MIN {
        return run(weights, sums);
    }
    thread::scope(|scope| {
        for (weights, sums) in weights
            .chunks(share * steps)
            .zip(sums.chunks_mut(share * batch))
        {
            let run = &run;
            scope.spawn(move || run(weights, sums));
        }
    });
}

/// Writes the sums of M items and returns the room after them.
#[target_feature(enable = "avx512f")]
fn f32_block<'a, const M: usize>(
    weights: &[[f32; OUTPUTS]],
    xs: &[[f32; M]],
    sums: &'a mut [Sums<f32>],
) -> &'a mut [Sums<f32>] {
    let mut acc = [[_mm512_setzero_ps(); 2]; M];
    for (weights, xs) in weights.iter().zip(xs) {
        let halves = f32_halves(weights);
        for (acc, x) in acc.iter_mut().zip(xs) {
            let x = _mm512_set1_ps(*x);
            for (acc, half) in acc.iter_mut().zip(halves) {
                *acc = _mm512_fmadd_ps(half, x, *acc);
            }
        }
    }
    let (head, rest) = sums.split_at_mut(M);
    head.iter_mut()
        .zip(acc)
        .for_each(|(sums, acc)| f32_store(acc, sums));
    rest
}

/// As [`f32_block`] for one item, in several chains.
#[target_feature(enable = "avx512f")]
fn f32_single<'a>(
    weights: &[[f32; OUTPUTS]],
    xs: &[[f32; 1]],
    sums: &'a mut [Sums<f32>],
) -> &'a mut [Sums<f32>] {
    let mut acc = [[_mm512_setzero_ps(); 2]; CHAINS];
    for (weights, xs) in weights.chunks(CHAINS).zip(xs.chunks(CHAINS)) {
        for ((acc, weights), [x]) in acc.iter_mut().zip(weights).zip(xs) {
            let x = _mm512_set1_ps(*x);
            for (acc, half) in acc.iter_mut().zip(f32_halves(weights)) {
                *acc = _mm512_fmadd_ps(half, x, *acc);
            }
        }
    }
    let mut sum = [_mm512_setzero_ps(); 2];
    for acc in acc {
        sum.iter_mut()
            .zip(acc)
            .for_each(|(sum, acc)| *sum = _mm512_add_ps(*sum, acc));
    }
    let (head, rest) = sums.split_at_mut(1);
    for sums in head {
        f32_store(sum, sums);
    }
    rest
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 128 bytes long; the loads need no alignment"
)]
fn f32_halves(weights: &[f32; OUTPUTS]) -> [__m512; 2] {
    let start = weights.as_ptr();
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
fn f32_store([first, second]: [__m512; 2], sums: &mut Sums<f32>) {
    let start = sums.as_mut_ptr();
    unsafe {
        _mm512_storeu_ps(start, first);
        _mm512_storeu_ps(start.add(OUTPUTS / 2), second);
    }
}

/// Writes the sums of M items and returns the room after them.
#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_block<'a, const M: usize>(
    weights: &[[[u8; QUAD]; OUTPUTS]],
    xs: &[[i32; M]],
    sums: &'a mut [Sums<i32>],
) -> &'a mut [Sums<i32>] {
    let mut acc = [[_mm512_setzero_si512(); 2]; M];
    for (weights, xs) in weights.iter().zip(xs) {
        let halves = int8_halves(weights);
        for (acc, x) in acc.iter_mut().zip(xs) {
            let x = _mm512_set1_epi32(*x);
            for (acc, half) in acc.iter_mut().zip(halves) {
                *acc = _mm512_dpbusd_epi32(*acc, half, x);
            }
        }
    }
    let (head, rest) = sums.split_at_mut(M);
    head.iter_mut()
        .zip(acc)
        .for_each(|(sums, acc)| int8_store(acc, sums));
    rest
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 128 bytes long; the loads need no alignment"
)]
fn int8_halves(weights: &[[u8; QUAD]; OUTPUTS]) -> [__m512i; 2] {
    let start = weights.as_ptr();
    unsafe {
        [
            _mm512_loadu_si512(start.cast()),
            _mm512_loadu_si512(start.add(OUTPUTS / 2).cast()),
        ]
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the array is 128 bytes long; the stores need no alignment"
)]
fn int8_store([first, second]: [__m512i; 2], sums: &mut Sums<i32>) {
    let start = sums.as_mut_ptr();
    unsafe {
        _mm512_storeu_si512(start.cast(), first);
        _mm512_storeu_si512(start.add(OUTPUTS / 2).cast(), second);
    }
}

/// y = W·x in f32 by the `gemm` crate, which packs the weights in every call.
pub(super) struct Gemm {
    shape: (usize, usize),
    weights: Vec<f32>,
    xs: Vec<f32>,
    sums: Vec<f32>,
}

impl Gemm {
    pub(super) fn new(shape: (usize, usize), weights: &[i8], xs: &[&[i8]]) -> Self {
        let weights = weights.iter().map(|w| f32::from(*w)).collect();
        let sums = vec![0.0; xs.len() * shape.1];
        let xs = xs
            .iter()
            .flat_map(|x| x.iter().map(|v| f32::from(*v)))
            .collect();
        Self {
            shape,
            weights,
            xs,
            sums,
        }
    }

    #[expect(unsafe_code, reason = "the strides are those of the three matrices")]
    pub(super) fn multiply(&mut self, threads: NonZeroUsize) {
        let (d_in, d_out) = self.shape;
        let items = self.xs.len() / d_in;
        let (row, column) = (d_in.cast_signed(), d_out.cast_signed());
        let parallelism = if threads == NonZeroUsize::MIN {
            gemm::Parallelism::None
        } else {
            gemm::Parallelism::Rayon(threads.get())
        };
        let (sums, weights, xs) = (
            self.sums.as_mut_ptr(),
            self.weights.as_ptr(),
            self.xs.as_ptr(),
        );
        // Yᵀ [d_out, items] = W [d_out, d_in] · Xᵀ [d_in, items]
        unsafe {
            gemm::gemm(
                d_out,
                items,
                d_in,
                sums,
                column,
                1,
                false,
                weights,
                1,
                row,
                xs,
                row,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
        black_box(&self.sums);
    }
}
