//! The parameter sets. They differ only in how many bytes of each body are kept.

use serde::{Deserialize, Serialize};

use crate::limbs::LimbMatrix;

/// N: coefficients of one ring element, bits of one block's binary secret, outputs of one block.
pub const RING_DIMENSION: usize = 2048;

/// log2 of the ciphertext modulus q. Powers of two only: bodies are then plain byte limbs.
pub const LOG2_MODULUS: u32 = 48;

/// b of the noise distribution TUniform(b): integers in [-2^b, 2^b], the two ends half as likely.
///
/// 3 is the least that tfhe's curve allows for n = 2048 and q = 2^48
/// (`minimal_glwe_bound_for_132_bits_security_tuniform` in tfhe 1.8.2).
pub const NOISE_BOUND_LOG2: u32 = 3;

/// The largest noise of one body before rounding.
pub const NOISE_BOUND: i64 = 1 << NOISE_BOUND_LOG2;

/// Security of one block secret by the curve that tfhe ships, in bits.
///
/// `core_crypto::commons::noise_formulas::secure_noise` of tfhe 1.8.2, a fit of the lattice
/// estimator's output for binary secrets.
pub const CURVE_SECURITY_BITS: f64 = 132.0;

/// Security of one block secret against the primal uSVP attack, by the lattice estimator.
///
/// malb/lattice-estimator at commit 27a581bb, default cost model, n = 2048, q = 2^48,
/// σ = 4.08, binary secret, unlimited samples; good to about one bit.
pub const ESTIMATOR_USVP_BITS: f64 = 143.0;

/// As [`ESTIMATOR_USVP_BITS`], against the dual hybrid attack.
pub const ESTIMATOR_DUAL_HYBRID_BITS: f64 = 139.9;

/// The least security that a layer may be promised, in bits, by the curve.
pub const SECURITY_FLOOR: f64 = 125.0;

/// The most block secrets that may share one mask: [`SECURITY_FLOOR`] allows a loss of 7 bits.
pub const MAX_BLOCKS: usize = 128;

/// The widest input: Y stays below 2^60 (5 planes) and accumulators below 2^31.
pub const MAX_D_IN: usize = 8192;

/// The most outputs of one layer: [`MAX_BLOCKS`] blocks; the largest vocabularies in use have
/// 256,000 entries.
pub const MAX_D_OUT: usize = MAX_BLOCKS * RING_DIMENSION;

/// What a layer of `blocks` secrets under one shared mask is promised, in bits.
///
/// The hybrid argument of Peikert, Vaikuntanathan and Waters (CRYPTO 2008) loses a factor of
/// `blocks`; it is a loss of the proof, no attack that uses it is known.
pub fn promised_security_bits(blocks: usize) -> f64 {
    CURVE_SECURITY_BITS - (blocks.max(1) as f64).log2()
}

/// How the bodies of a layer are stored, and with that what its answers promise.
///
/// Ring, modulus, secret and noise are the same for all: N = 2048, k = 1, q = 2^48, binary
/// secrets, TUniform(3). "Exact" is a failure probability of at most 2^-64 per output (Gaussian
/// tail) for every x within the layer's norm bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ParameterSet {
    /// Bodies rounded to 40 bits. Exact for any int8 W and x up to an input width of 1,350,
    /// beyond that for x within the norm bound. The default.
    P48B40,
    /// Bodies as they are. Exact for any int8 W and x up to 8,192; cannot fail up to 2,048.
    P48,
    /// Bodies rounded to 32 bits, the size of an f32 weight. Exact within the norm bound, which
    /// is tight here: an item above it is refused, or quantised with a larger scale.
    P48B32,
}

impl ParameterSet {
    /// Every set, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::P48B40, Self::P48, Self::P48B32];

    /// L: bytes kept of each body, and planes that the kernel multiplies.
    pub const fn body_planes(self) -> usize {
        match self {
            Self::P48B40 => 5,
            Self::P48 => 6,
            Self::P48B32 => 4,
        }
    }

    /// Low bits of a body that are rounded away after encryption.
    pub const fn dropped_bits(self) -> u32 {
        LOG2_MODULUS - 8 * self.body_planes() as u32
    }

    /// Bytes of one Y on the wire: an i64, or for [`Self::P48`] an i96.
    pub const fn sum_bytes(self) -> usize {
        match self {
            Self::P48B40 | Self::P48B32 => 8,
            Self::P48 => 12,
        }
    }

    /// Bytes that the guest holds for the bodies of a layer of this shape, at most.
    pub const fn memory_bytes(self, d_in: usize, d_out: usize) -> usize {
        LimbMatrix::memory_bytes(d_in, d_out, self.body_planes())
    }

    /// The widest input for which every int8 W and x is exact without a tighter norm bound, or
    /// `None` where only a norm bound makes it so.
    pub const fn worst_case_d_in(self) -> Option<usize> {
        match self {
            Self::P48B40 => Some(1350),
            Self::P48 => Some(MAX_D_IN),
            Self::P48B32 => None,
        }
    }

    /// The exponent of the Mersenne prime p of the check vector: p = 2^61 − 1 or 2^89 − 1.
    ///
    /// p has to exceed twice the largest |Y|, or Y and Y ± p would pass for each other.
    pub const fn check_prime_log2(self) -> u32 {
        match self {
            Self::P48B40 | Self::P48B32 => 61,
            Self::P48 => 89,
        }
    }

    /// The largest |Y| that an honest evaluation of an input of this 1-norm can have.
    pub const fn sum_bound(self, x_norm_1: u64) -> i128 {
        x_norm_1 as i128 * ((1_i128 << (8 * self.body_planes())) - 1)
    }

    /// The code of this set in binary forms.
    pub const fn code(self) -> u8 {
        match self {
            Self::P48B40 => 1,
            Self::P48 => 2,
            Self::P48B32 => 3,
        }
    }

    /// The set of a code, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_layer_keeps_the_security_floor() {
        assert!(promised_security_bits(MAX_BLOCKS) >= SECURITY_FLOOR);
        assert!(promised_security_bits(MAX_BLOCKS + 1) < SECURITY_FLOOR);
        assert!(ESTIMATOR_USVP_BITS.min(ESTIMATOR_DUAL_HYBRID_BITS) >= CURVE_SECURITY_BITS);
    }

    #[test]
    fn a_vocabulary_of_30522_in_one_layer_is_promised_128_bits() {
        let blocks = 30_522_usize.div_ceil(RING_DIMENSION);
        assert!(promised_security_bits(blocks) >= 128.0);
    }

    #[test]
    fn the_check_prime_exceeds_twice_every_honest_sum() {
        for set in ParameterSet::ALL {
            let bound = set.sum_bound(127 * MAX_D_IN as u64);
            assert!(
                2 * bound < (1_i128 << set.check_prime_log2()) - 1,
                "{set:?}"
            );
            assert!(bound < 1_i128 << (8 * set.sum_bytes() - 1), "{set:?}");
        }
    }

    #[test]
    fn codes_are_unique_and_reversible() {
        for set in ParameterSet::ALL {
            assert_eq!(ParameterSet::from_code(set.code()), Some(set));
        }
        assert_eq!(ParameterSet::from_code(0), None);
        assert_eq!(ParameterSet::from_code(4), None);
    }
}
