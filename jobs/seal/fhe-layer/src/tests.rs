//! Kernels against integers, and the forms against spoiled bytes.

mod evaluation;
mod forms;

use crate::{LayerMeta, MaskSeed, ParameterSet, ScaleRange};

fn meta(set: ParameterSet, d_in: usize, d_out: usize) -> LayerMeta {
    let scale = ScaleRange::new(0.001, 0.1).unwrap();
    let bound = 127 * 127 * d_in as u64;
    LayerMeta::new(
        "head.weight",
        (set, d_in, d_out),
        MaskSeed::from_bytes([7; 16]),
        scale,
        bound,
    )
    .unwrap()
}
