//! The byte form of layer secrets.

use proptest::prelude::*;
use sealift_fhe_layer::ParameterSet;

use super::{Sealed, Stream, logits, seal};
use crate::{BundleError, LayerSecrets};

fn sealed(set: ParameterSet) -> Sealed {
    seal(set, 6, &Stream(2).int8(6 * 20))
}

fn refused(bytes: &[u8]) -> BundleError {
    LayerSecrets::from_bytes(bytes).err().expect("refused")
}

/// Where the values after the facts begin.
fn values_at(bytes: &[u8]) -> usize {
    12 + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize
}

#[test]
fn secrets_read_again_open_the_same_rows_to_the_same_logits() {
    for set in ParameterSet::ALL {
        let sealed = sealed(set);
        let bytes = sealed.secrets.to_bytes();
        let again = LayerSecrets::from_bytes(&bytes).unwrap();
        assert_eq!(*again.to_bytes(), *bytes);
        let row = sealed.row(&[1, -2, 3, -4, 5, -6]);
        let [a, b] = [&sealed.secrets, &again].map(|secrets| logits(secrets, &row, None));
        assert_eq!(a, b);
    }
}

#[test]
fn truncated_or_prolonged_secrets_are_refused() {
    let bytes = sealed(ParameterSet::P48B40).secrets.to_bytes();
    for length in [0, 7, 8, 11, 12, 40, bytes.len() - 1] {
        assert!(
            LayerSecrets::from_bytes(&bytes[..length]).is_err(),
            "{length}"
        );
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(matches!(refused(&longer), BundleError::Length));
}

#[test]
fn secrets_of_another_format_are_refused() {
    let mut bytes = sealed(ParameterSet::P48B40).secrets.to_bytes();
    bytes[7] = 2;
    assert!(matches!(refused(&bytes), BundleError::Format));
}

#[test]
fn facts_in_another_byte_form_are_refused() {
    let bytes = sealed(ParameterSet::P48B40).secrets.to_bytes();
    let mut spaced = bytes[..12].to_vec();
    spaced.push(b' ');
    spaced.extend(&bytes[12..]);
    let length = (values_at(&bytes) - 12 + 1) as u32;
    spaced[8..12].copy_from_slice(&length.to_le_bytes());
    assert!(matches!(refused(&spaced), BundleError::Format));
}

#[test]
fn facts_beyond_the_limits_are_refused() {
    let bytes = sealed(ParameterSet::P48B40).secrets.to_bytes();
    let text =
        String::from_utf8_lossy(&bytes[12..values_at(&bytes)]).replace("\"d_in\":6", "\"d_in\":0");
    let mut spoiled = bytes[..12].to_vec();
    spoiled.extend(text.as_bytes());
    spoiled.extend(&bytes[values_at(&bytes)..]);
    assert!(matches!(refused(&spoiled), BundleError::Facts(_)));
}

#[test]
fn impossible_values_are_refused() {
    let bytes = sealed(ParameterSet::P48B40).secrets.to_bytes();
    let values = values_at(&bytes);
    let scales = values + 16 + 256;
    let residues = scales + 2 * 20 * 4;
    let spoiled: [(usize, &[u8], &str); 6] = [
        (values, &[0; 8], "no message bound"),
        (values + 8, &[0; 8], "no delta"),
        (values + 8, &[0xff; 8], "delta over the modulus"),
        (scales, &f32::NAN.to_le_bytes(), "a scale that is no number"),
        (
            scales + 20 * 4,
            &f32::INFINITY.to_le_bytes(),
            "an infinite bias",
        ),
        (
            residues,
            &((1_u64 << 61) - 1).to_le_bytes(),
            "a residue that is p",
        ),
    ];
    for (at, value, name) in spoiled {
        let mut bytes = bytes.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        assert!(matches!(refused(&bytes), BundleError::Values), "{name}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(tail: Vec<u8>, keep_magic: bool) {
        let mut bytes = if keep_magic { b"slfhekb\x01".to_vec() } else { Vec::new() };
        bytes.extend(tail);
        prop_assert!(LayerSecrets::from_bytes(&bytes).is_err());
    }
}
