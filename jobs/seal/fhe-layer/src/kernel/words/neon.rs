//! NEON: `smlal` multiplies limbs one by one and adds; the two inputs of an output stand beside
//! each other and are added at the end.

use std::arch::aarch64::{
    int16x8_t, int32x4_t, vdupq_n_s32, vget_low_s16, vld1_u8, vld1q_u8, vmlal_high_s16, vmlal_s16,
    vmovl_u8, vpaddq_s32, vreinterpretq_s16_s32, vreinterpretq_s16_u8, vreinterpretq_s16_u16,
    vst1q_s32,
};

use super::{Accumulate, Batch, Inputs, Limbs, Word};
use crate::limbs::{HalfLane, LimbMatrix, WORD_OUTPUTS};

/// Outputs of one pass: with three items all accumulators stay in registers.
const PASS_OUTPUTS: usize = WORD_OUTPUTS / 2;

/// Bytes of a pass's limbs of two inputs: one register.
const PASS_BYTES: usize = 4 * PASS_OUTPUTS;

/// Writes the sums of the blocks of eight outputs from `first` that `rows` have room for.
#[target_feature(enable = "neon")]
pub(in crate::kernel) fn run<W: Word>(
    matrix: &LimbMatrix,
    first: usize,
    batch: &Batch,
    rows: &mut [&mut [W]],
) {
    super::run::<Neon, W>(matrix, first, batch, rows);
}

struct Neon;

impl Accumulate for Neon {
    #[inline(never)]
    #[expect(unsafe_code, reason = "the caller has the instructions")]
    unsafe fn accumulate<const L: usize, const P: usize, const M: usize>(
        steps: &[[HalfLane; L]],
        inputs: &[Inputs<M>],
        sums: &mut [Limbs<P>; M],
    ) {
        unsafe {
            accumulate::<L, P, M>(steps, inputs, (0, sums));
            accumulate::<L, P, M>(steps, inputs, (1, sums));
        }
    }
}

/// The accumulators of P limbs for M items, of one half of the eight outputs.
#[target_feature(enable = "neon")]
#[inline(never)]
fn accumulate<const L: usize, const P: usize, const M: usize>(
    steps: &[[HalfLane; L]],
    inputs: &[Inputs<M>],
    (pass, sums): (usize, &mut [Limbs<P>; M]),
) {
    let mut acc = [[[vdupq_n_s32(0); 2]; P]; M];
    for (step, inputs) in steps.iter().zip(inputs) {
        for (pair, inputs) in inputs.iter().enumerate() {
            let mut limbs = [vreinterpretq_s16_s32(vdupq_n_s32(0)); P];
            for (l, limb) in limbs.iter_mut().enumerate() {
                *limb = load(step, l, (pair, pass));
            }
            for (acc, x) in acc.iter_mut().zip(inputs) {
                let x = vreinterpretq_s16_s32(vdupq_n_s32(*x));
                for ([low, high], limb) in acc.iter_mut().zip(limbs) {
                    *low = vmlal_s16(*low, vget_low_s16(limb), vget_low_s16(x));
                    *high = vmlal_high_s16(*high, limb, x);
                }
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for (sums, [low, high]) in sums.iter_mut().zip(acc) {
            let (passes, _) = sums.as_chunks_mut::<PASS_OUTPUTS>();
            store(vpaddq_s32(low, high), &mut passes[pass]);
        }
    }
}

/// Limb `l` of a pass's four outputs × two inputs: half of a half lane, or a quarter of the last
/// one, of bytes.
#[target_feature(enable = "neon")]
#[inline]
#[expect(unsafe_code, reason = "the arrays have as many bytes as are read")]
fn load<const L: usize>(step: &[HalfLane; L], l: usize, (pair, pass): (usize, usize)) -> int16x8_t {
    if 2 * l + 1 < L {
        let (passes, _) = step[2 * l + pair].0.as_chunks::<PASS_BYTES>();
        vreinterpretq_s16_u8(unsafe { vld1q_u8(passes[pass].as_ptr()) })
    } else {
        let (passes, _) = step[L - 1].0.as_chunks::<{ PASS_BYTES / 2 }>();
        let bytes = unsafe { vld1_u8(passes[2 * pair + pass].as_ptr()) };
        vreinterpretq_s16_u16(vmovl_u8(bytes))
    }
}

#[target_feature(enable = "neon")]
#[inline]
#[expect(unsafe_code, reason = "the array has the register's size")]
fn store(register: int32x4_t, to: &mut [i32; PASS_OUTPUTS]) {
    unsafe { vst1q_s32(to.as_mut_ptr(), register) }
}
