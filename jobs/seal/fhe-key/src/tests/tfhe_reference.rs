//! Our fast paths against tfhe's own encryption, expansion and decryption, bit for bit.

use std::num::Wrapping;

use proptest::prelude::*;
use sealift_fhe_layer::{EncryptedLayer, ParameterSet, RING_DIMENSION, TRANSFORM_ERROR};
use tfhe::core_crypto::commons::math::random::{CompressionSeed, Seed};
use tfhe::core_crypto::commons::noise_formulas::secure_noise;
use tfhe::core_crypto::prelude::*;

use super::{Sealed, Stream, reference, seal};
use crate::check_vector::CheckVector;
use crate::product::{Multiplication, NearMultiplication};
use crate::ring::{BlockSecret, Masks, zero};

const UNUSED_BITS: u32 = 16;

/// The representative modulo 2^48 in [-2^47, 2^47).
fn centred(residue: u64) -> i64 {
    (residue << UNUSED_BITS).cast_signed() >> UNUSED_BITS
}

fn modulus() -> CiphertextModulus<u64> {
    CiphertextModulus::try_new_power_of_2(48).unwrap()
}

fn tfhe_key(secret: &BlockSecret) -> GlweSecretKeyOwned<u64> {
    let bits = secret.coefficients().to_vec();
    GlweSecretKey::from_container(bits, PolynomialSize(RING_DIMENSION))
}

fn tfhe_seed(sealed: &Sealed) -> Seed {
    Seed(u128::from_le_bytes(
        *sealed.bytes.meta.mask_seed().as_bytes(),
    ))
}

/// tfhe's seeded list of `messages` (d_in polynomials) under one block secret.
fn tfhe_list(
    seed: Seed,
    key: &GlweSecretKeyOwned<u64>,
    messages: Vec<u64>,
) -> SeededGlweCiphertextListOwned<u64> {
    let count = GlweCiphertextCount(messages.len() / RING_DIMENSION);
    let size = PolynomialSize(RING_DIMENSION);
    let mut list = SeededGlweCiphertextList::new(
        0,
        GlweSize(2),
        size,
        count,
        CompressionSeed::from(seed),
        modulus(),
    );
    let mut seeder = new_seeder();
    let mut generator =
        EncryptionRandomGenerator::<DefaultRandomGenerator>::new(seed, seeder.as_mut());
    encrypt_seeded_glwe_ciphertext_list_with_pre_seeded_generator(
        key,
        &mut list,
        &PlaintextList::from_container(messages),
        DynamicDistribution::new_t_uniform(3),
        &mut generator,
    );
    list
}

/// tfhe's phase of (mask, body), both below 2^48.
fn tfhe_phase(key: &GlweSecretKeyOwned<u64>, mask: &[u64], body: &[u64]) -> Vec<u64> {
    let words: Vec<u64> = mask
        .iter()
        .chain(body)
        .map(|word| word << UNUSED_BITS)
        .collect();
    let ciphertext =
        GlweCiphertext::from_container(words, PolynomialSize(RING_DIMENSION), modulus());
    let mut phase = PlaintextList::new(0, PlaintextCount(RING_DIMENSION));
    decrypt_glwe_ciphertext(key, &ciphertext, &mut phase);
    phase.into_container()
}

#[test]
fn masks_are_those_of_a_seeded_list_of_tfhe() {
    let sealed = seal(ParameterSet::P48, 3, &Stream(5).int8(3 * 10));
    let key = tfhe_key(&sealed.secrets.blocks[0]);
    let list = tfhe_list(tfhe_seed(&sealed), &key, vec![0; 3 * RING_DIMENSION]);
    let mut masks = Masks::new(sealed.bytes.meta.mask_seed());
    let mut mask = zero();
    for ciphertext in list.decompress_into_glwe_ciphertext_list().iter() {
        masks.next_into(&mut mask);
        let expected: Vec<u64> = ciphertext
            .get_mask()
            .as_ref()
            .iter()
            .map(|a| a >> UNUSED_BITS)
            .collect();
        assert_eq!(*mask, expected);
    }
}

#[test]
fn tfhe_decrypts_our_bodies_to_the_message_and_t_uniform_noise() {
    let (d_in, d_out) = (5, 2 * RING_DIMENSION);
    let weights = Stream(6).int8(d_in * d_out);
    let sealed = seal(ParameterSet::P48, d_in, &weights);
    let mut masks = Masks::new(sealed.bytes.meta.mask_seed());
    let mut mask = zero();
    for j in 0..d_in {
        masks.next_into(&mut mask);
        for (block, body) in sealed.column(j).chunks_exact(RING_DIMENSION).enumerate() {
            let key = tfhe_key(&sealed.secrets.blocks[block]);
            for (i, phase) in tfhe_phase(&key, &mask, body).into_iter().enumerate() {
                let weight = weights[(block * RING_DIMENSION + i) * d_in + j];
                let message = sealed
                    .secrets
                    .delta
                    .wrapping_mul(i64::from(weight).cast_unsigned());
                let noise = centred(phase.wrapping_sub(message));
                assert!(noise.abs() <= 8, "{noise}");
            }
        }
    }
}

#[test]
fn a_layer_encrypted_by_tfhe_is_evaluated_and_opened_by_us() {
    let (d_in, d_out) = (7, RING_DIMENSION + 5);
    let weights = Stream(8).int8(d_in * d_out);
    for set in [ParameterSet::P48, ParameterSet::P48B40] {
        let mut sealed = seal(set, d_in, &weights);
        let mut body = vec![0; sealed.bytes.body.len()];
        for (block, secret) in sealed.secrets.blocks.iter().enumerate() {
            let first = block * RING_DIMENSION;
            let message = |j: usize, i: usize| {
                let weight = weights
                    .get((first + i) * d_in + j)
                    .copied()
                    .unwrap_or_default();
                sealed
                    .secrets
                    .delta
                    .wrapping_mul(i64::from(weight).cast_unsigned())
                    & ((1 << 48) - 1)
            };
            let messages = (0..d_in).flat_map(|j| (0..RING_DIMENSION).map(move |i| (j, i)));
            let messages = messages.map(|(j, i)| message(j, i)).collect();
            let list = tfhe_list(tfhe_seed(&sealed), &tfhe_key(secret), messages);
            for (j, ciphertext) in list.iter().enumerate() {
                for (i, b) in ciphertext.get_body().as_ref().iter().enumerate() {
                    if first + i < d_out {
                        let b = crate::keys::round(b >> UNUSED_BITS, set.dropped_bits());
                        let planes = set.body_planes();
                        let at = (j * d_out + first + i) * planes;
                        body[at..at + planes].copy_from_slice(&b.to_le_bytes()[..planes]);
                    }
                }
            }
        }
        sealed.layer = EncryptedLayer::from_bytes(sealed.bytes.meta.clone(), &body).unwrap();
        sealed.bytes.body = body;
        let mut check = CheckVector::generate(set, d_in, d_out).unwrap();
        for j in 0..d_in {
            let column = sealed.column(j).into_iter();
            check.push_column(&column.map(u64::cast_signed).collect::<Vec<_>>());
        }
        sealed.secrets.check = check;

        let x = [127, -127, 5, 0, -99, 64, 1];
        let row = sealed.row(&x);
        let opened = sealed.secrets.open(&row).unwrap();
        let found: Vec<i128> = opened.integers().iter().map(|y| i128::from(*y)).collect();
        assert_eq!(found, reference(&weights, &x));
    }
}

#[test]
fn our_phases_are_nearly_those_of_tfhe_decryption() {
    let (d_in, d_out) = (9, 2 * RING_DIMENSION);
    let weights = Stream(12).int8(d_in * d_out);
    for set in ParameterSet::ALL {
        let sealed = seal(set, d_in, &weights);
        let x = Stream(13).int8(d_in);
        let row = sealed.row(&x);
        let mut masks = Masks::new(sealed.bytes.meta.mask_seed());
        let (mut mask, mut sum) = (zero(), zero());
        for x in &x {
            masks.next_into(&mut mask);
            for (sum, a) in sum.iter_mut().zip(mask.iter()) {
                *sum = sum.wrapping_add(a.wrapping_mul(i64::from(*x).cast_unsigned()));
            }
        }
        let bodies: Vec<u64> = row
            .y()
            .iter()
            .map(|y| (y << set.dropped_bits()) as u64)
            .collect();
        let ours = crate::CheckedRows::unchecked(&sealed.secrets, &row).phases_for_statistics();
        for (block, body) in bodies.chunks_exact(RING_DIMENSION).enumerate() {
            let key = tfhe_key(&sealed.secrets.blocks[block]);
            let theirs = tfhe_phase(&key, &sum, body).into_iter().map(centred);
            for (ours, theirs) in ours[block * RING_DIMENSION..].iter().zip(theirs) {
                let error = ours.abs_diff(theirs);
                assert!(error < TRANSFORM_ERROR, "{set:?}: off by {error}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn products_in_the_ring_are_those_of_tfhe(seed: u64, extreme in prop_oneof![Just(None), extreme_mask()]) {
        let (a, s) = factors(seed, extreme);
        let mut expected = Polynomial::new(0_u64, PolynomialSize(RING_DIMENSION));
        polynomial_algorithms::polynomial_wrapping_mul(
            &mut expected,
            &Polynomial::from_container(a.to_vec()),
            &Polynomial::from_container(s.to_vec()),
        );
        let expected: Vec<u64> = expected.into_container().iter().map(|v| v & ((1 << 48) - 1)).collect();
        let mut found = Multiplication::new();
        let s = found.transformed(&s);
        found.set_mask(&a);
        prop_assert_eq!(found.times(&s), &expected);
        let mut near = NearMultiplication::new(2);
        // What is above the modulus does not count.
        let a: Vec<_> = a.iter().map(|a| Wrapping((a | seed << 48).cast_signed())).collect();
        near.set_mask(1, &a);
        for (near, exact) in near.times(1, &s).iter().zip(&expected) {
            let error = centred(near.wrapping_sub(*exact)).unsigned_abs();
            prop_assert!(error < TRANSFORM_ERROR, "off by {}", error);
        }
    }
}

/// Masks whose products with a secret of ones are as large as any.
fn extreme_mask() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        Just(Some((1 << 48) - 1)),
        Just(Some(1 << 47)),
        Just(Some((1 << 47) - 1))
    ]
}

/// A mask, all of one value or random, and a secret, all ones or random.
fn factors(seed: u64, extreme: Option<u64>) -> (crate::ring::Polynomial, crate::ring::Polynomial) {
    let mut stream = Stream(seed);
    let (mut a, mut s) = (zero(), zero());
    a.iter_mut()
        .for_each(|a| *a = extreme.unwrap_or_else(|| stream.next() >> 16));
    s.iter_mut()
        .for_each(|s| *s = u64::from(extreme.is_some()) | stream.next() & 1);
    (a, s)
}

#[test]
fn the_noise_reaches_the_132_bit_curve_of_tfhe() {
    use sealift_fhe_layer::{CURVE_SECURITY_BITS, NOISE_BOUND_LOG2};
    let (dimension, size) = (GlweDimension(1), PolynomialSize(RING_DIMENSION));
    let q = f64::from(48).exp2();
    let least = secure_noise::minimal_glwe_bound_for_132_bits_security_tuniform(dimension, size, q);
    assert!(
        NOISE_BOUND_LOG2 >= least,
        "the curve asks for TUniform({least})"
    );
    assert!((CURVE_SECURITY_BITS - 132.0).abs() < f64::EPSILON);
}
