//! Keys, seeds and noise are used once.

use std::collections::HashSet;
use std::io;

use sealift_fhe_layer::{MAX_BLOCKS, MAX_D_IN, MAX_D_OUT, ParameterSet};

use super::{Stream, scale_range, seal};
use crate::ring::BlockSecret;
use crate::{EncryptError, KeyError, LayerKeys, PlainLayer};

const SET: ParameterSet = ParameterSet::P48B40;

#[test]
fn no_mask_seed_and_no_block_secret_repeats() {
    let mut seeds = HashSet::new();
    let mut secrets = HashSet::new();
    for _ in 0..200 {
        let sealed = seal(SET, 1, &[1; 2049]);
        assert!(seeds.insert(*sealed.bytes.meta.mask_seed().as_bytes()));
        for block in &sealed.secrets.blocks {
            assert!(secrets.insert(block.expose().to_vec()));
        }
    }
    assert_eq!((seeds.len(), secrets.len()), (200, 400));
}

#[test]
fn block_secrets_are_balanced_bits() {
    let sealed = seal(SET, 1, &vec![0; 16 * 2048]);
    let ones: u32 = sealed
        .secrets
        .blocks
        .iter()
        .flat_map(BlockSecret::expose)
        .map(|byte| byte.count_ones())
        .sum();
    // 32,768 bits: 16,384 ± 6 · 90.5.
    assert!(ones.abs_diff(16_384) < 543, "{ones}");
}

#[test]
fn the_same_weights_sealed_twice_share_nothing() {
    let weights = Stream(1).int8(8 * 100);
    let (a, b) = (seal(SET, 8, &weights), seal(SET, 8, &weights));
    let equal = (0..8).flat_map(|j| a.column(j).into_iter().zip(b.column(j)));
    assert_eq!(
        equal.filter(|(a, b)| a == b).count(),
        0,
        "40-bit bodies are all different"
    );
    assert!(a.secrets.check.r().ne(b.secrets.check.r()));
}

/// Takes some bytes and then fails, as a disk does.
struct Failing {
    left: usize,
}

impl io::Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_attempt_that_fails_between_columns_leaves_no_keys() {
    let weights = Stream(1).int8(8 * 100);
    let (ones, zeros) = ([1.0; 100], [0.0; 100]);
    let plain = PlainLayer {
        layer: "head",
        weights: &weights,
        row_scales: &ones,
        bias: &zeros,
        scale: scale_range(),
    };
    let keys = LayerKeys::generate(SET, 8, 100).unwrap();
    // `keys` is moved here: what a second attempt would need no longer exists.
    let failed = keys.encrypt_into(&plain, &mut Failing { left: 3 * 500 });
    assert!(matches!(failed, Err(EncryptError::Write(_))));
}

#[test]
fn keys_beyond_the_limits_are_refused() {
    for (d_in, d_out) in [(0, 1), (1, 0), (MAX_D_IN + 1, 1), (1, MAX_D_OUT + 1)] {
        let refused = LayerKeys::generate(SET, d_in, d_out).err();
        assert_eq!(refused, Some(KeyError::Shape { d_in, d_out }));
    }
    assert_eq!(MAX_D_OUT, MAX_BLOCKS * 2048);
}

#[test]
fn layers_that_do_not_fit_their_keys_are_refused() {
    let weights = [3; 6];
    let (scales, bias) = ([1.0; 3], [0.0; 3]);
    let scale = scale_range();
    let good = PlainLayer {
        layer: "head",
        weights: &weights,
        row_scales: &scales,
        bias: &bias,
        scale,
    };
    let refused = |plain: PlainLayer<'_>| {
        LayerKeys::generate(SET, 2, 3)
            .unwrap()
            .encrypt(&plain)
            .err()
            .map(|e| e.to_string())
    };
    assert_eq!(refused(good), None);
    let spoiled = [
        (
            PlainLayer {
                weights: &weights[1..],
                ..good
            },
            "5 weights",
        ),
        (
            PlainLayer {
                weights: &[3, 3, 3, -128, 3, 3],
                ..good
            },
            "weight [1, 1] is -128",
        ),
        (
            PlainLayer {
                row_scales: &scales[1..],
                ..good
            },
            "2 row scales",
        ),
        (
            PlainLayer {
                bias: &bias[1..],
                ..good
            },
            "2 row scales or biases",
        ),
        (
            PlainLayer {
                row_scales: &[1.0, 0.0, 1.0],
                ..good
            },
            "output 1",
        ),
        (
            PlainLayer {
                row_scales: &[1.0, 1.0, -1.0],
                ..good
            },
            "output 2",
        ),
        (
            PlainLayer {
                bias: &[f32::NAN, 0.0, 0.0],
                ..good
            },
            "output 0",
        ),
        (PlainLayer { layer: "", ..good }, "layer name"),
    ];
    for (plain, fact) in spoiled {
        let refusal = refused(plain).expect("refused");
        assert!(refusal.contains(fact), "{refusal}");
    }
}
