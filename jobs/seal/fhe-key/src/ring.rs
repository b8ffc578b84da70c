//! Masks, noise, secrets and products in Z_q[X]/(X^N + 1), q = 2^48, N = 2048.

use aws_lc_rs::rand;
use pulp::Arch;
use sealift_fhe_layer::{LOG2_MODULUS, MaskSeed, NOISE_BOUND_LOG2, RING_DIMENSION};
use tfhe::core_crypto::commons::math::random::{RandomGenerator, Seed};
use tfhe::core_crypto::prelude::{
    CiphertextModulus, DefaultRandomGenerator, GlweDimension, GlweSecretKey, PolynomialSize,
    SecretRandomGenerator, TUniform, generate_binary_glwe_secret_key,
};
use tfhe_ntt::prime64::Plan;
use zeroize::Zeroizing;

/// N coefficients that are wiped when dropped. Lives on the heap so that moving it copies nothing.
pub(crate) type Polynomial = Zeroizing<Vec<u64>>;

/// The polynomial 0.
pub(crate) fn zero() -> Polynomial {
    Zeroizing::new(vec![0; RING_DIMENSION])
}

/// Coefficients are residues modulo q.
pub(crate) const MODULUS_MASK: u64 = (1 << LOG2_MODULUS) - 1;

/// The prime of the number-theoretic transform for whole masks, 2^61 − 77823, with 4096th roots of
/// unity.
///
/// A product of a mask (below 2^48) and a binary secret has coefficients within ±2^59, so one
/// prime above 2^60 gives them exactly; below 2^62 its arithmetic is three times faster.
const WIDE_PRIME: u64 = (1 << 61) - 77_823;

/// The prime of the transform for half masks, just below 2^50.
///
/// With AVX-512 IFMA two products of half masks (below 2^24, hence within ±2^35) modulo a prime
/// below 2^51 take a third of the time of one product modulo [`WIDE_PRIME`].
const NARROW_PRIME: u64 = 1_125_899_881_086_977;

/// Bytes of one block secret: a bit per coefficient.
pub(crate) const SECRET_BYTES: usize = RING_DIMENSION / 8;

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness; no key was made")]
pub struct NoRandomness;

/// Fills `bytes` with randomness of the operating system.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    rand::fill(bytes).map_err(|_| NoRandomness)
}

/// A fresh seed for one of tfhe's generators.
fn fresh_seed() -> Result<Zeroizing<u128>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; 16]);
    fill_random(&mut *bytes)?;
    Ok(Zeroizing::new(u128::from_le_bytes(*bytes)))
}

/// A fresh public seed of masks.
pub(crate) fn fresh_mask_seed() -> Result<MaskSeed, NoRandomness> {
    fresh_seed().map(|seed| MaskSeed::from_bytes(seed.to_le_bytes()))
}

/// The binary secret of one block of outputs, coefficient i in bit i mod 8 of byte i / 8.
pub(crate) struct BlockSecret(Zeroizing<Vec<u8>>);

impl BlockSecret {
    /// A uniform binary secret from tfhe's generator under a fresh seed.
    pub(crate) fn generate() -> Result<Self, NoRandomness> {
        let seed = Seed(*fresh_seed()?);
        let mut generator = SecretRandomGenerator::<DefaultRandomGenerator>::new(seed);
        let mut bits = zero();
        let size = PolynomialSize(RING_DIMENSION);
        let mut key = GlweSecretKey::from_container(bits.as_mut_slice(), size);
        debug_assert_eq!(key.glwe_dimension(), GlweDimension(1));
        generate_binary_glwe_secret_key(&mut key, &mut generator);
        let byte = |bits: &[u64]| {
            bits.iter()
                .enumerate()
                .map(|(i, bit)| (*bit as u8) << i)
                .sum()
        };
        Ok(Self(Zeroizing::new(
            bits.chunks_exact(8).map(byte).collect(),
        )))
    }

    pub(crate) fn from_bytes(bytes: &[u8; SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The coefficients, each 0 or 1.
    pub(crate) fn coefficients(&self) -> Polynomial {
        let mut bits = zero();
        for (i, bit) in bits.iter_mut().enumerate() {
            *bit = u64::from(self.0[i / 8] >> (i % 8) & 1);
        }
        bits
    }
}

/// The masks a_0, a_1, … of a public seed: tfhe's stream of uniform residues modulo q.
pub(crate) struct Masks {
    generator: RandomGenerator<DefaultRandomGenerator>,
    modulus: CiphertextModulus<u64>,
}

impl Masks {
    pub(crate) fn new(seed: MaskSeed) -> Self {
        let seed = Seed(u128::from_le_bytes(*seed.as_bytes()));
        let modulus = CiphertextModulus::try_new_power_of_2(LOG2_MODULUS as usize)
            .expect("2^48 is a modulus of u64");
        Self {
            generator: RandomGenerator::new(seed),
            modulus,
        }
    }

    /// Writes the mask of the next column.
    pub(crate) fn next_into(&mut self, mask: &mut [u64]) {
        self.generator
            .fill_slice_with_random_uniform_custom_mod(mask, self.modulus);
    }
}

/// Fresh noise, TUniform(3), from tfhe's generator under a fresh seed.
pub(crate) struct Noise(RandomGenerator<DefaultRandomGenerator>);

impl Noise {
    pub(crate) fn new() -> Result<Self, NoRandomness> {
        Ok(Self(RandomGenerator::new(Seed(*fresh_seed()?))))
    }

    /// Writes the next samples, two's complement.
    pub(crate) fn next_into(&mut self, noise: &mut [u64]) {
        let distribution = TUniform::<u64>::new(NOISE_BOUND_LOG2);
        self.0
            .fill_slice_with_random_from_distribution(noise, distribution);
    }
}

/// Products in the ring by number-theoretic transform: of whole masks, or of their halves where
/// that is faster. Both are exact, so the choice does not show in any result.
pub(crate) struct Ring {
    plan: Plan,
    /// Bits of the parts that masks are cut into.
    part_bits: u32,
}

/// A mask in the transformed domain, cut into parts, the lowest first.
pub(crate) struct TransformedMask(Vec<Polynomial>);

/// A binary secret in the transformed domain.
pub(crate) struct TransformedSecret(Polynomial);

/// Room for a product of a mask and a secret, to be used again.
pub(crate) struct Product {
    value: Polynomial,
    part: Polynomial,
}

impl Product {
    pub(crate) fn new() -> Self {
        let (value, part) = (zero(), zero());
        Self { value, part }
    }

    /// Modulo q.
    pub(crate) fn coefficients(&self) -> &[u64] {
        &self.value
    }
}

impl Ring {
    pub(crate) fn new() -> Self {
        Self::narrow()
            .filter(|ring| ring.plan.use_ifma())
            .unwrap_or_else(Self::wide)
    }

    fn narrow() -> Option<Self> {
        let plan = Plan::try_new(RING_DIMENSION, NARROW_PRIME)?;
        let part_bits = LOG2_MODULUS / 2;
        Some(Self { plan, part_bits })
    }

    fn wide() -> Self {
        let plan = Plan::try_new(RING_DIMENSION, WIDE_PRIME);
        Self {
            plan: plan.expect("the prime has 4096th roots of unity"),
            part_bits: LOG2_MODULUS,
        }
    }

    /// Transforms a mask with coefficients below 2^48.
    pub(crate) fn transform_mask(&self, mask: &[u64]) -> TransformedMask {
        let parts = (0..LOG2_MODULUS).step_by(self.part_bits as usize);
        let part = |shift: u32| {
            let mut part = zero();
            for (part, coefficient) in part.iter_mut().zip(mask) {
                *part = coefficient >> shift & ((1 << self.part_bits) - 1);
            }
            self.plan.fwd(&mut part);
            part
        };
        TransformedMask(parts.map(part).collect())
    }

    /// Transforms a binary secret.
    pub(crate) fn transform_secret(&self, mut secret: Polynomial) -> TransformedSecret {
        self.plan.fwd(&mut secret);
        TransformedSecret(secret)
    }

    /// Computes mask·secret modulo q.
    pub(crate) fn multiply(
        &self,
        mask: &TransformedMask,
        secret: &TransformedSecret,
        product: &mut Product,
    ) {
        let Product { value, part } = product;
        for (i, transformed) in mask.0.iter().enumerate().rev() {
            part.copy_from_slice(transformed);
            self.plan.mul_assign_normalize(part, &secret.0);
            self.plan.inv(part);
            let is_highest = i + 1 == mask.0.len();
            self.append(value, part, is_highest);
        }
    }

    /// Puts the next lower part of a product under the parts above it.
    fn append(&self, value: &mut [u64], part: &[u64], is_highest: bool) {
        let (prime, half) = (self.plan.modulus(), self.plan.modulus() / 2);
        let kept = if is_highest { 0 } else { MODULUS_MASK };
        let shift = self.part_bits;
        Arch::new().dispatch(|| {
            for (value, part) in value.iter_mut().zip(part) {
                // The representative in ±p/2 is the integer; modulo q it needs no other care.
                let above_half = half.wrapping_sub(*part) >> (u64::BITS - 1);
                let part = part.wrapping_sub(prime & above_half.wrapping_neg());
                *value = ((*value & kept) << shift).wrapping_add(part) & MODULUS_MASK;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_whole_and_of_half_masks_are_the_same() {
        let (wide, narrow) = (Ring::wide(), Ring::narrow().unwrap());
        let mut uniform = zero();
        Masks::new(fresh_mask_seed().unwrap()).next_into(&mut uniform);
        let largest = vec![MODULUS_MASK; RING_DIMENSION];
        let secrets = [
            BlockSecret::generate().unwrap(),
            BlockSecret::from_bytes(&[0xff; SECRET_BYTES]),
        ];
        for mask in [uniform.as_slice(), &largest] {
            for secret in &secrets {
                let [a, b] = [&wide, &narrow].map(|ring| {
                    let mut product = Product::new();
                    let secret = ring.transform_secret(secret.coefficients());
                    ring.multiply(&ring.transform_mask(mask), &secret, &mut product);
                    product
                });
                assert_eq!(a.coefficients(), b.coefficients());
            }
        }
    }
}
