//! Limbs of 16 bits, for kernels that multiply those.

/// Outputs of one block: eight i32 accumulators fill a 256-bit register.
pub(crate) const WORD_OUTPUTS: usize = 8;

/// Inputs of one step: as many as make each byte plane a half lane.
pub(crate) const WORD_STEP_INPUTS: usize = 4;

/// 16 limbs of eight outputs × two inputs, output-major; or the bytes of eight outputs × four
/// inputs, two inputs after the other two, each output-major.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(crate) struct HalfLane(pub(crate) [u8; WORD_OUTPUTS * WORD_STEP_INPUTS]);

/// Puts one output's integer, as bytes, into a step: limbs less 2^15, an odd byte as it is.
pub(super) fn put(step: &mut [HalfLane], (output, input): (usize, usize), integer: &[u8]) {
    let (pair, slot) = (input / 2, input % 2);
    let at = 2 * output + slot;
    let (words, last) = integer.as_chunks::<2>();
    for (half_lanes, [low, high]) in step.chunks_exact_mut(2).zip(words) {
        half_lanes[pair].0[2 * at] = *low;
        half_lanes[pair].0[2 * at + 1] = high ^ 0x80;
    }
    if let ([byte], Some(half_lane)) = (last, step.last_mut()) {
        half_lane.0[2 * WORD_OUTPUTS * pair + at] = *byte;
    }
}
