//! A matrix of little-endian limbs, laid out as the kernels read it.

mod words;

use std::num::{NonZeroUsize, Wrapping};

use zeroize::Zeroize;

use crate::kernel::Kernel;
use crate::row::Sums;

pub(crate) use self::words::{HalfLane, WORD_OUTPUTS, WORD_STEP_INPUTS};

/// Outputs of one lane: 16 i32 accumulators fill a 512-bit register.
pub(crate) const LANE_OUTPUTS: usize = 16;

/// Inputs of one lane: one step of the kernel adds four products per accumulator.
pub(crate) const LANE_INPUTS: usize = 4;

/// One byte plane of 16 outputs × 4 inputs, output-major.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Lane(pub(crate) [u8; LANE_OUTPUTS * LANE_INPUTS]);

/// A matrix B [d_in, d_out] of unsigned integers of L bytes each, laid out for one kernel.
///
/// As byte planes: `[⌈d_out/16⌉][⌈d_in/4⌉][L]` lanes of 64 bytes, so that each plane is an
/// ordinary u8 × i8 product. As 16-bit limbs: `[⌈d_out/8⌉][⌈d_in/4⌉][L]` half lanes of 32 bytes,
/// of which each limb fills two, one for each two inputs, and an odd byte the last. Missing rows
/// and columns are zero.
pub struct LimbMatrix {
    d_in: usize,
    d_out: usize,
    planes: usize,
    kernel: Kernel,
    limbs: Limbs,
}

/// The two layouts.
enum Limbs {
    Bytes(Vec<Lane>),
    Words(Vec<HalfLane>),
}

/// Ciphertexts need no wiping; what a key manager derives from its secrets does.
impl Zeroize for LimbMatrix {
    fn zeroize(&mut self) {
        match &mut self.limbs {
            Limbs::Bytes(lanes) => lanes.iter_mut().for_each(|lane| lane.0.zeroize()),
            Limbs::Words(halves) => halves.iter_mut().for_each(|half| half.0.zeroize()),
        }
    }
}

impl LimbMatrix {
    /// Y_k = Σ_j x_j·B[j,k] for each x, exact, not reduced. Output columns are split over up to
    /// `threads` threads; every kernel and every split gives the same bits.
    ///
    /// `sums` is overwritten; what it holds is used again where it can be, because fresh memory
    /// for wide layers costs as much as the product.
    ///
    /// # Panics
    /// If an x does not have d_in values; callers check activations first.
    pub fn sums(&self, xs: &[&[i8]], threads: NonZeroUsize, sums: &mut Vec<Sums>) {
        let fits = xs.iter().all(|x| x.len() == self.d_in);
        assert!(fits, "activations are checked before they are evaluated");
        let wide = self.planes > 5;
        sums.resize_with(xs.len(), || Sums::zero(wide, 0));
        for row in sums.iter_mut() {
            row.reset(wide, self.d_out);
        }
        let kernel = self.kernel;
        if wide {
            let mut rows = sums.iter_mut().filter_map(Sums::as_i128).collect();
            kernel.run(self, xs, &mut rows, threads);
        } else {
            let mut rows = sums.iter_mut().filter_map(Sums::as_i64).collect();
            kernel.run(self, xs, &mut rows, threads);
        }
    }

    /// As [`Self::sums`] on one thread, but modulo 2^64: of a matrix whose integers are residues.
    /// Each of `sums`, one for each x, is overwritten and gets d_out values.
    ///
    /// # Panics
    /// If an x does not have d_in values, or there are not as many sums.
    pub fn wrapping_sums(&self, xs: &[&[i8]], sums: &mut [Vec<Wrapping<i64>>]) {
        let fits = xs.iter().all(|x| x.len() == self.d_in) && xs.len() == sums.len();
        assert!(fits, "activations are checked before they are evaluated");
        for row in sums.iter_mut() {
            row.resize(self.d_out, Wrapping(0));
        }
        let mut rows = sums.iter_mut().map(Vec::as_mut_slice).collect();
        self.kernel.run(self, xs, &mut rows, NonZeroUsize::MIN);
    }

    /// Bytes that a matrix takes in memory, whatever kernel it is laid out for: the least upper
    /// bound over all, so that one machine can say it for another.
    pub const fn memory_bytes(d_in: usize, d_out: usize, planes: usize) -> usize {
        d_in.next_multiple_of(LANE_INPUTS) * d_out.next_multiple_of(LANE_OUTPUTS) * planes
    }

    /// Inputs.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Outputs.
    pub fn d_out(&self) -> usize {
        self.d_out
    }

    /// L, bytes of one integer.
    pub fn planes(&self) -> usize {
        self.planes
    }

    /// The lanes of the 16 outputs from 16·`block`: for each four inputs, L planes.
    pub(crate) fn lanes(&self, block: usize) -> &[Lane] {
        let length = self.d_in.div_ceil(LANE_INPUTS) * self.planes;
        match &self.limbs {
            Limbs::Bytes(lanes) => &lanes[block * length..(block + 1) * length],
            Limbs::Words(_) => unreachable!("laid out for a kernel of 16-bit limbs"),
        }
    }

    /// The half lanes of the eight outputs from 8·`block`: for each four inputs, L of them.
    pub(crate) fn half_lanes(&self, block: usize) -> &[HalfLane] {
        let length = self.d_in.div_ceil(WORD_STEP_INPUTS) * self.planes;
        match &self.limbs {
            Limbs::Words(halves) => &halves[block * length..(block + 1) * length],
            Limbs::Bytes(_) => unreachable!("laid out for a kernel of byte planes"),
        }
    }

    /// Bytes of the lanes of one block of 16 outputs.
    pub(crate) fn lane_bytes(&self) -> usize {
        self.d_in.div_ceil(LANE_INPUTS) * self.planes * size_of::<Lane>()
    }

    /// Bytes of the half lanes of one block of eight outputs.
    pub(crate) fn half_lane_bytes(&self) -> usize {
        self.d_in.div_ceil(WORD_STEP_INPUTS) * self.planes * size_of::<HalfLane>()
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        match &self.limbs {
            Limbs::Bytes(lanes) => size_of_val(&lanes[..]),
            Limbs::Words(halves) => size_of_val(&halves[..]),
        }
    }
}

/// Fills a [`LimbMatrix`] input by input.
pub struct LimbMatrixBuilder {
    matrix: LimbMatrix,
    next: usize,
}

impl LimbMatrixBuilder {
    /// A matrix of `d_in` × `d_out` integers of `planes` bytes, 4 to 6, for the fastest kernel.
    pub fn new(d_in: usize, d_out: usize, planes: usize) -> Self {
        Self::for_kernel(Kernel::fastest(), (d_in, d_out, planes))
    }

    /// As [`Self::new`] for a kernel of choice.
    pub fn for_kernel(kernel: Kernel, (d_in, d_out, planes): (usize, usize, usize)) -> Self {
        let steps = d_in.div_ceil(LANE_INPUTS) * planes;
        let limbs = if kernel.multiplies_words() {
            let zero = HalfLane([0; WORD_OUTPUTS * WORD_STEP_INPUTS]);
            Limbs::Words(vec![zero; d_out.div_ceil(WORD_OUTPUTS) * steps])
        } else {
            let zero = Lane([0; LANE_OUTPUTS * LANE_INPUTS]);
            Limbs::Bytes(vec![zero; d_out.div_ceil(LANE_OUTPUTS) * steps])
        };
        let matrix = LimbMatrix {
            d_in,
            d_out,
            planes,
            kernel,
            limbs,
        };
        Self { matrix, next: 0 }
    }

    /// Takes the integers of the next input: d_out × L bytes, little-endian.
    ///
    /// # Panics
    /// If the column has another length, or there are d_in columns already.
    pub fn push_column(&mut self, column: &[u8]) {
        let LimbMatrix {
            d_in,
            d_out,
            planes,
            ..
        } = self.matrix;
        assert!(
            self.next < d_in && column.len() == d_out * planes,
            "a column of the matrix"
        );
        let (quad, slot) = (self.next / LANE_INPUTS, self.next % LANE_INPUTS);
        let block_lanes = d_in.div_ceil(LANE_INPUTS) * planes;
        let step = quad * planes..(quad + 1) * planes;
        match &mut self.matrix.limbs {
            Limbs::Bytes(lanes) => {
                let blocks = lanes.chunks_exact_mut(block_lanes);
                for (lanes, outputs) in blocks.zip(column.chunks(LANE_OUTPUTS * planes)) {
                    for (output, limbs) in outputs.chunks_exact(planes).enumerate() {
                        for (lane, limb) in lanes[step.clone()].iter_mut().zip(limbs) {
                            lane.0[output * LANE_INPUTS + slot] = *limb;
                        }
                    }
                }
            }
            Limbs::Words(halves) => {
                let blocks = halves.chunks_exact_mut(block_lanes);
                for (halves, outputs) in blocks.zip(column.chunks(WORD_OUTPUTS * planes)) {
                    for (output, limbs) in outputs.chunks_exact(planes).enumerate() {
                        words::put(&mut halves[step.clone()], (output, slot), limbs);
                    }
                }
            }
        }
        self.next += 1;
    }

    /// The matrix, or `None` while columns are missing.
    pub fn finish(self) -> Option<LimbMatrix> {
        (self.next == self.matrix.d_in).then_some(self.matrix)
    }
}
