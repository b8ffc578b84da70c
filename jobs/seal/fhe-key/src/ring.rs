//! Masks, noise and secrets in Z_q[X]/(X^N + 1), q = 2^48, N = 2048.

use aws_lc_rs::rand;
use sealift_fhe_layer::{LOG2_MODULUS, MaskSeed, NOISE_BOUND_LOG2, RING_DIMENSION};
use tfhe::core_crypto::commons::math::random::{RandomGenerator, Seed};
use tfhe::core_crypto::prelude::{
    CiphertextModulus, DefaultRandomGenerator, GlweDimension, GlweSecretKey, PolynomialSize,
    SecretRandomGenerator, TUniform, generate_binary_glwe_secret_key,
};
use zeroize::Zeroizing;

/// N coefficients that are wiped when dropped. Lives on the heap so that moving it copies nothing.
pub(crate) type Polynomial = Zeroizing<Vec<u64>>;

/// The polynomial 0.
pub(crate) fn zero() -> Polynomial {
    Zeroizing::new(vec![0; RING_DIMENSION])
}

/// Coefficients are residues modulo q.
pub(crate) const MODULUS_MASK: u64 = (1 << LOG2_MODULUS) - 1;

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
