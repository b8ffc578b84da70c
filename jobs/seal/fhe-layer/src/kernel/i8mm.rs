//! NEON with I8MM: `usdot` multiplies 16 bytes of a plane by four inputs, repeated, and adds each
//! output's four products to its accumulator.
//!
//! Every Arm machine with confidential guests has it (Armv9.2-A has RME and I8MM).

use std::arch::aarch64::{
    int8x16_t, int32x4_t, uint8x16_t, vdupq_n_s32, vld1q_u8, vreinterpretq_s8_s32, vst1q_s32,
};
use std::arch::asm;

use super::portable::join_planes;
use super::{Products, Quad};
use crate::limbs::{LANE_INPUTS, LANE_OUTPUTS, Lane};

/// Outputs of one pass: with five planes and four items 20 accumulators, of 32 registers.
const PASS_OUTPUTS: usize = 4;

/// Bytes of a pass in a lane: one register.
const PASS_BYTES: usize = PASS_OUTPUTS * LANE_INPUTS;

/// Multiplies the lanes of 16 outputs with M activations.
#[target_feature(enable = "neon,i8mm")]
pub(super) fn multiply<const L: usize, const M: usize>(
    lanes: &[Lane],
    xs: &[[Quad; M]],
    products: &mut [Products; M],
) {
    let mut sums = [[[0; LANE_OUTPUTS]; L]; M];
    for pass in 0..LANE_OUTPUTS / PASS_OUTPUTS {
        accumulate(lanes, xs, (pass, &mut sums));
    }
    for (products, sums) in products.iter_mut().zip(&sums) {
        *products = join_planes(sums);
    }
}

/// The accumulators of L planes for M activations, of one quarter of the 16 outputs.
#[target_feature(enable = "neon,i8mm")]
#[inline(never)]
fn accumulate<const L: usize, const M: usize>(
    lanes: &[Lane],
    xs: &[[Quad; M]],
    (pass, sums): (usize, &mut [[[i32; LANE_OUTPUTS]; L]; M]),
) {
    let mut acc = [[vdupq_n_s32(0); L]; M];
    let (lanes, _) = lanes.as_chunks::<L>();
    for (lanes, xs) in lanes.iter().zip(xs) {
        let inputs = xs.map(|x| {
            let x = i32::from_le_bytes(x.map(i8::cast_unsigned));
            vreinterpretq_s8_s32(vdupq_n_s32(x))
        });
        for (l, lane) in lanes.iter().enumerate() {
            let plane = load(lane, pass);
            for (acc, input) in acc.iter_mut().zip(inputs) {
                acc[l] = usdot(acc[l], plane, input);
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for (sums, acc) in sums.iter_mut().zip(acc) {
            let (passes, _) = sums.as_chunks_mut::<PASS_OUTPUTS>();
            store(acc, &mut passes[pass]);
        }
    }
}

/// The standard library's own `vusdotq_s32` is not stable.
#[target_feature(enable = "neon,i8mm")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the instruction reads and writes these registers alone"
)]
fn usdot(mut acc: int32x4_t, plane: uint8x16_t, input: int8x16_t) -> int32x4_t {
    unsafe {
        asm!(
            "usdot {acc:v}.4s, {plane:v}.16b, {input:v}.16b",
            acc = inout(vreg) acc,
            plane = in(vreg) plane,
            input = in(vreg) input,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

#[target_feature(enable = "neon")]
#[inline]
#[expect(unsafe_code, reason = "the array has the register's size")]
fn load(lane: &Lane, pass: usize) -> uint8x16_t {
    let (passes, _) = lane.0.as_chunks::<PASS_BYTES>();
    unsafe { vld1q_u8(passes[pass].as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
#[expect(unsafe_code, reason = "the array has the register's size")]
fn store(register: int32x4_t, to: &mut [i32; PASS_OUTPUTS]) {
    unsafe { vst1q_s32(to.as_mut_ptr(), register) }
}
