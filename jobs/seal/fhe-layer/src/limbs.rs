//! A matrix of little-endian byte limbs, laid out as the kernels read it.

use std::num::NonZeroUsize;

use zeroize::Zeroize;

use crate::kernel::Kernel;
use crate::row::Sums;

/// Outputs of one lane: 16 i32 accumulators fill a 512-bit register.
pub(crate) const LANE_OUTPUTS: usize = 16;

/// Inputs of one lane: one step of the kernel adds four products per accumulator.
pub(crate) const LANE_INPUTS: usize = 4;

/// One byte plane of 16 outputs × 4 inputs, output-major.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Lane(pub(crate) [u8; LANE_OUTPUTS * LANE_INPUTS]);

/// A matrix B [d_in, d_out] of unsigned integers of L bytes each, as byte planes.
///
/// Layout: `[⌈d_out/16⌉][⌈d_in/4⌉][L]` lanes of 64 bytes, missing rows and columns zero, so that
/// each plane is an ordinary u8 × i8 product.
pub struct LimbMatrix {
    d_in: usize,
    d_out: usize,
    planes: usize,
    lanes: Vec<Lane>,
}

/// Ciphertexts need no wiping; what a key manager derives from its secrets does.
impl Zeroize for LimbMatrix {
    fn zeroize(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.0.zeroize());
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
    pub fn sums(
        &self,
        xs: &[&[i8]],
        (kernel, threads): (Kernel, NonZeroUsize),
        sums: &mut Vec<Sums>,
    ) {
        let fits = xs.iter().all(|x| x.len() == self.d_in);
        assert!(fits, "activations are checked before they are evaluated");
        let wide = self.planes > 5;
        sums.resize_with(xs.len(), || Sums::zero(wide, 0));
        for row in sums.iter_mut() {
            row.reset(wide, self.d_out);
        }
        if wide {
            kernel.run(
                self,
                xs,
                &mut sums.iter_mut().filter_map(Sums::as_i128).collect(),
                threads,
            );
        } else {
            kernel.run(
                self,
                xs,
                &mut sums.iter_mut().filter_map(Sums::as_i64).collect(),
                threads,
            );
        }
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
    pub(crate) fn block(&self, block: usize) -> &[Lane] {
        let length = self.d_in.div_ceil(LANE_INPUTS) * self.planes;
        &self.lanes[block * length..(block + 1) * length]
    }
}

/// Fills a [`LimbMatrix`] input by input.
pub struct LimbMatrixBuilder {
    matrix: LimbMatrix,
    next: usize,
}

impl LimbMatrixBuilder {
    /// A matrix of `d_in` × `d_out` integers of `planes` bytes, 4 to 6.
    pub fn new(d_in: usize, d_out: usize, planes: usize) -> Self {
        let lanes = d_out.div_ceil(LANE_OUTPUTS) * d_in.div_ceil(LANE_INPUTS) * planes;
        let zero = Lane([0; LANE_OUTPUTS * LANE_INPUTS]);
        Self {
            matrix: LimbMatrix {
                d_in,
                d_out,
                planes,
                lanes: vec![zero; lanes],
            },
            next: 0,
        }
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
        let blocks = self.matrix.lanes.chunks_exact_mut(block_lanes);
        for (lanes, outputs) in blocks.zip(column.chunks(LANE_OUTPUTS * planes)) {
            let lanes = &mut lanes[quad * planes..(quad + 1) * planes];
            for (output, limbs) in outputs.chunks_exact(planes).enumerate() {
                for (lane, limb) in lanes.iter_mut().zip(limbs) {
                    lane.0[output * LANE_INPUTS + slot] = *limb;
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
