//! Exact products of an integer matrix with int8 activations, as products of its limbs: byte
//! planes, each one u8 × i8 product, or where the machine only multiplies 16 bits, such limbs.
//!
//! All kernels give the same bits: sums are integers and no step can overflow. A byte plane's
//! accumulator stays within 255·128·8192 < 2^31; 16-bit limbs are summed in short runs.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod i8mm;
mod order;
mod portable;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod words;

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::num::{NonZeroUsize, Wrapping};

use self::order::{panel_groups, runs};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::limbs::WORD_OUTPUTS;
use crate::limbs::{LANE_INPUTS, LANE_OUTPUTS, Lane, LimbMatrix};

/// Which instructions evaluate. A value exists only where the machine has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Instructions);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instructions {
    /// `vpdpbusd` on 512-bit registers.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// `vpmaddwd` on limbs of 16 bits; `vpmaddubsw` would saturate with bytes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// `usdot` of the I8MM extension.
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
    /// `smlal` on limbs of 16 bits.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain Rust.
    Portable,
}

impl Kernel {
    /// The fastest that this machine has.
    pub fn fastest() -> Self {
        Self::available()[0]
    }

    /// All that this machine has, fastest first, plain Rust last.
    pub fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
                kernels.push(Self(Instructions::Avx512Vnni));
            }
            if is_x86_feature_detected!("avx2") {
                kernels.push(Self(Instructions::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if cfg!(target_endian = "little") {
            if is_aarch64_feature_detected!("i8mm") {
                kernels.push(Self(Instructions::NeonI8mm));
            }
            if is_aarch64_feature_detected!("neon") {
                kernels.push(Self(Instructions::Neon));
            }
        }
        kernels.push(Self(Instructions::Portable));
        kernels
    }

    /// A name for logs and measurements.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Instructions::NeonI8mm => "neon-i8mm",
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => "neon",
            Instructions::Portable => "portable",
        }
    }

    /// Whether it multiplies limbs of 16 bits, not byte planes.
    pub(crate) fn multiplies_words(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => true,
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => true,
            _ => false,
        }
    }

    /// Writes Σ_j x_j·B[j,k] for each x into its row of `sums`, each [d_out].
    pub(crate) fn run<W: Word>(
        self,
        matrix: &LimbMatrix,
        xs: &[&[i8]],
        sums: &mut Vec<&mut [W]>,
        threads: NonZeroUsize,
    ) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if self.multiplies_words() {
            let batch = words::Batch::new(xs, matrix.planes());
            return split(sums, WORD_OUTPUTS, threads, |first, rows| {
                run_words(matrix, first, &batch, rows);
            });
        }
        let batch = PackedBatch::new(xs, most_items(matrix.planes()));
        split(sums, LANE_OUTPUTS, threads, |first, rows| {
            self.run_blocks(matrix, first, &batch, rows);
        });
    }

    /// The blocks from `first` that `rows` have room for.
    fn run_blocks<W: Word>(
        self,
        matrix: &LimbMatrix,
        first: usize,
        batch: &PackedBatch,
        rows: &mut [&mut [W]],
    ) {
        match matrix.planes() {
            4 => self.run_planes::<4, W>(matrix, first, batch, rows),
            5 => self.run_planes::<5, W>(matrix, first, batch, rows),
            6 => self.run_planes::<6, W>(matrix, first, batch, rows),
            planes => unreachable!("a limb matrix has 4 to 6 planes, not {planes}"),
        }
    }

    fn run_planes<const L: usize, W: Word>(
        self,
        matrix: &LimbMatrix,
        first: usize,
        batch: &PackedBatch,
        rows: &mut [&mut [W]],
    ) {
        let outputs = rows.first().map_or(0, |row| row.len());
        let mut part = Part {
            rows,
            from: 0,
            products: [Products::ZERO; MOST_ITEMS],
        };
        let blocks = outputs.div_ceil(LANE_OUTPUTS);
        for run in runs(blocks, matrix.lane_bytes()) {
            for panel in batch.panels() {
                for block in run.clone() {
                    part.from = block * LANE_OUTPUTS;
                    self.run_panel::<L, W>(matrix.lanes(first + block), panel, &mut part);
                }
            }
        }
    }

    fn run_panel<const L: usize, W: Word>(
        self,
        lanes: &[Lane],
        panel: &[Group],
        part: &mut Part<'_, '_, W>,
    ) {
        for group in panel {
            match group {
                Group::One(x) => self.run_group::<L, 1, W>(lanes, x, part),
                Group::Two(x) => self.run_group::<L, 2, W>(lanes, x, part),
                Group::Four(x) => self.run_group::<L, 4, W>(lanes, x, part),
                Group::Six(x) => self.run_group::<L, 6, W>(lanes, x, part),
            }
        }
    }

    fn run_group<const L: usize, const M: usize, W: Word>(
        self,
        lanes: &[Lane],
        xs: &Items<M>,
        part: &mut Part<'_, '_, W>,
    ) {
        let products = part.products.first_chunk_mut().expect("no group is larger");
        self.multiply::<L, M>(lanes, &xs.quads, products);
        for (row, products) in part.rows[xs.first..].iter_mut().zip(products) {
            W::join(products, &mut row[part.from..]);
        }
    }

    fn multiply<const L: usize, const M: usize>(
        self,
        lanes: &[Lane],
        xs: &[[Quad; M]],
        products: &mut [Products; M],
    ) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            #[expect(
                unsafe_code,
                reason = "the instructions were found before the value was made"
            )]
            Instructions::Avx512Vnni => unsafe { avx512::multiply::<L, M>(lanes, xs, products) },
            #[cfg(target_arch = "aarch64")]
            #[expect(
                unsafe_code,
                reason = "the instructions were found before the value was made"
            )]
            Instructions::NeonI8mm => unsafe { i8mm::multiply::<L, M>(lanes, xs, products) },
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unreachable!("it multiplies limbs of 16 bits"),
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => unreachable!("it multiplies limbs of 16 bits"),
            Instructions::Portable => portable::multiply::<L, M>(lanes, xs, products),
        }
    }
}

/// The one kernel of this architecture that multiplies limbs of 16 bits.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn run_words<W: Word>(
    matrix: &LimbMatrix,
    first: usize,
    batch: &words::Batch,
    rows: &mut [&mut [W]],
) {
    #[expect(
        unsafe_code,
        reason = "a matrix has limbs of 16 bits only where the instructions were found"
    )]
    unsafe {
        #[cfg(target_arch = "x86_64")]
        words::avx2::run(matrix, first, batch, rows);
        #[cfg(target_arch = "aarch64")]
        words::neon::run(matrix, first, batch, rows);
    }
}

/// Calls `run` with the number of the first block and the rows' part from there, for the shares
/// of up to `threads` threads. They split outputs, so that every byte of the matrix is read once.
fn split<W: Word>(
    sums: &mut Vec<&mut [W]>,
    block_outputs: usize,
    threads: NonZeroUsize,
    run: impl Fn(usize, &mut [&mut [W]]) + Sync,
) {
    let outputs = sums.first().map_or(0, |row| row.len());
    let blocks = outputs.div_ceil(block_outputs);
    let share = blocks.div_ceil(threads.get()).max(1);
    if share >= blocks {
        return run(0, sums);
    }
    std::thread::scope(|scope| {
        for first in (0..blocks).step_by(share) {
            let mut rows: Vec<&mut [W]> = sums
                .iter_mut()
                .map(|rest| {
                    let outputs = rest.len().min(share * block_outputs);
                    rest.split_off_mut(..outputs)
                        .expect("at most all that is left")
                })
                .collect();
            let run = &run;
            scope.spawn(move || run(first, &mut rows));
        }
    });
}

/// Four neighbouring inputs of one activation.
pub(crate) type Quad = [i8; LANE_INPUTS];

/// The sums of 16 outputs for one item: planes 0 to 4 together, and plane 5.
#[derive(Clone, Copy)]
pub(crate) struct Products {
    low: [i64; LANE_OUTPUTS],
    top: [i32; LANE_OUTPUTS],
}

impl Products {
    const ZERO: Self = Self {
        low: [0; LANE_OUTPUTS],
        top: [0; LANE_OUTPUTS],
    };
}

/// Where the sums of 16 outputs go.
struct Part<'a, 'b, W> {
    rows: &'a mut [&'b mut [W]],
    /// The first of the 16.
    from: usize,
    /// Written by every multiplication; kept, so that it is not zeroed each time.
    products: [Products; MOST_ITEMS],
}

/// Activations that are evaluated together: each byte that is loaded is used M times.
struct Items<const M: usize> {
    /// Position of the first in the batch.
    first: usize,
    quads: Vec<[Quad; M]>,
}

impl<const M: usize> Items<M> {
    fn new(xs: &[&[i8]], first: usize) -> Self {
        let items: [&[i8]; M] = std::array::from_fn(|m| xs[first + m]);
        let quads = items[0].len().div_ceil(LANE_INPUTS);
        let quad = |x: &[i8], q: usize| {
            let inputs = &x[q * LANE_INPUTS..x.len().min((q + 1) * LANE_INPUTS)];
            let mut quad = [0; LANE_INPUTS];
            quad[..inputs.len()].copy_from_slice(inputs);
            quad
        };
        let quads = (0..quads).map(|q| items.map(|x| quad(x, q))).collect();
        Self { first, quads }
    }
}

enum Group {
    One(Items<1>),
    Two(Items<2>),
    Four(Items<4>),
    Six(Items<6>),
}

/// A batch cut into groups, the largest first.
struct PackedBatch {
    groups: Vec<Group>,
    /// Groups that are multiplied with a block before the next block is.
    panel_groups: usize,
}

impl PackedBatch {
    fn new(xs: &[&[i8]], most: usize) -> Self {
        let mut groups = Vec::new();
        let mut first = 0;
        while first < xs.len() {
            let (group, items) = match (xs.len() - first).min(most) {
                6.. => (Group::Six(Items::new(xs, first)), 6),
                4.. => (Group::Four(Items::new(xs, first)), 4),
                2.. => (Group::Two(Items::new(xs, first)), 2),
                _ => (Group::One(Items::new(xs, first)), 1),
            };
            groups.push(group);
            first += items;
        }
        let item_bytes = xs.first().map_or(0, |x| x.len());
        Self {
            groups,
            panel_groups: panel_groups(most * item_bytes),
        }
    }

    fn panels(&self) -> impl Iterator<Item = &[Group]> {
        self.groups.chunks(self.panel_groups)
    }
}

/// The largest group.
const MOST_ITEMS: usize = 6;

/// The most items whose accumulators, with L planes, stay in 32 registers.
fn most_items(planes: usize) -> usize {
    if planes == 4 { MOST_ITEMS } else { 4 }
}

/// An integer wide enough for the sums of a set.
pub(crate) trait Word: Copy + Send {
    /// Writes planes 0 to 4 and plane 5 put together to the first 16 of `sums`, or to all.
    fn join(products: &Products, sums: &mut [Self]);

    /// `low` and, where a set has as many limbs, `top`·2^32.
    fn joined(low: i64, top: i64) -> Self;
}

impl Word for i64 {
    fn join(products: &Products, sums: &mut [Self]) {
        if let Some(sums) = sums.first_chunk_mut() {
            *sums = products.low;
        } else {
            sums.copy_from_slice(&products.low[..sums.len()]);
        }
    }

    fn joined(low: i64, _top: i64) -> Self {
        low
    }
}

/// Modulo 2^64.
impl Word for Wrapping<i64> {
    fn join(products: &Products, sums: &mut [Self]) {
        for (sum, (low, top)) in sums.iter_mut().zip(products.low.iter().zip(&products.top)) {
            *sum = Self(low.wrapping_add(i64::from(*top) << 40));
        }
    }

    fn joined(low: i64, top: i64) -> Self {
        Self(low.wrapping_add(top << 32))
    }
}

impl Word for i128 {
    fn join(products: &Products, sums: &mut [Self]) {
        for (sum, (low, top)) in sums.iter_mut().zip(products.low.iter().zip(&products.top)) {
            *sum = Self::from(*low) + (Self::from(*top) << 40);
        }
    }

    fn joined(low: i64, top: i64) -> Self {
        Self::from(low) + (Self::from(top) << 32)
    }
}
