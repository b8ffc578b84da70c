//! Layers whose weights stay encrypted while they are evaluated: formats and the evaluation
//! kernel. What the confidential guest links.
//!
//! A layer is y = W·x with W encrypted and x plain. The body of column j and output k is
//! b[j,k] = a_j·s_k + e + Δ·w[k,j], rounded to whole bytes; the guest computes the exact integers
//! Y_k = Σ_j x_j·b[j,k] and nothing else, and needs no key for it. Whoever sees Y together with
//! the public mask seed can compute x, so rows leave the guest only inside its session with the
//! key manager.
//!
//! | module | holds |
//! |---|---|
//! | [`set`](ParameterSet) | ring, modulus, planes, security figures of each parameter set |
//! | [`noise`](NoisePlan) | what keeps decryption exact: message bound, Δ, norm bound |
//! | [`meta`](LayerMeta), [`header`](LayerHeader) | the facts of a layer, in manifest and file |
//! | [`layer`](EncryptedLayer) | reading bodies, evaluating rows |
//! | [`row`](EncryptedRow) | one evaluated row and its wire form |
//! | [`limbs`](LimbMatrix), kernel | byte planes and the product u8 × i8 over them |
//!
//! There is no secret-key type in this crate.

mod header;
mod kernel;
mod layer;
mod limbs;
mod meta;
mod noise;
mod row;
mod set;
#[cfg(test)]
mod tests;

pub use header::{HeaderError, LayerHeader};
pub use kernel::Kernel;
pub use layer::{BodyError, EncryptedLayer, EvaluationError, LayerReader};
pub use limbs::{LimbMatrix, LimbMatrixBuilder};
pub use meta::{ActivationError, LayerMeta, MaskSeed, MetaError, Packing, ScaleError, ScaleRange};
pub use noise::{NoNoiseMargin, NoisePlan, RowNorms, TRANSFORM_ERROR};
pub use row::{EncryptedRow, RowError, Sums};
pub use set::{
    CURVE_SECURITY_BITS, ESTIMATOR_DUAL_HYBRID_BITS, ESTIMATOR_USVP_BITS, LOG2_MODULUS, MAX_BLOCKS,
    MAX_D_IN, MAX_D_OUT, NOISE_BOUND, NOISE_BOUND_LOG2, ParameterSet, RING_DIMENSION,
    SECURITY_FLOOR, promised_security_bits,
};
