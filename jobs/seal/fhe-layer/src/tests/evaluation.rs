//! Every kernel gives the exact sums, whatever the shape, the batch and the threads.

use std::num::{NonZeroUsize, Wrapping};

use proptest::prelude::*;

use super::meta;
use crate::{
    ActivationError, BodyError, EncryptedLayer, EvaluationError, Kernel, LayerReader, LimbMatrix,
    LimbMatrixBuilder, ParameterSet, Sums,
};

/// Σ_j x_j·B[j,k] by i128, from the bytes of the tensor.
fn reference(body: &[u8], (d_in, d_out, planes): (usize, usize, usize), x: &[i8]) -> Vec<i128> {
    assert_eq!(body.len(), d_in * d_out * planes);
    let mut sums = vec![0; d_out];
    for (column, x) in body.chunks_exact(d_out * planes).zip(x) {
        for (sum, limbs) in sums.iter_mut().zip(column.chunks_exact(planes)) {
            let value = limbs
                .iter()
                .rev()
                .fold(0_i128, |v, limb| v << 8 | i128::from(*limb));
            *sum += value * i128::from(*x);
        }
    }
    sums
}

fn assert_kernels_agree(
    body: &[u8],
    shape @ (d_in, d_out, planes): (usize, usize, usize),
    xs: &[Vec<i8>],
) {
    let xs: Vec<&[i8]> = xs.iter().map(Vec::as_slice).collect();
    let expected: Vec<Vec<i128>> = xs.iter().map(|x| reference(body, shape, x)).collect();
    let mut sums = vec![Sums::from_i64(vec![5; 99]), Sums::from_i128(vec![5])];
    for kernel in Kernel::available() {
        let mut builder = LimbMatrixBuilder::for_kernel(kernel, shape);
        body.chunks_exact(d_out * planes)
            .for_each(|column| builder.push_column(column));
        let matrix = builder.finish().unwrap();
        assert!(matrix.bytes() <= LimbMatrix::memory_bytes(d_in, d_out, planes));
        for threads in [1, 2, 5] {
            matrix.sums(&xs, NonZeroUsize::new(threads).unwrap(), &mut sums);
            let found: Vec<Vec<i128>> = sums.iter().map(|row| row.iter().collect()).collect();
            assert_eq!(found, expected, "{} on {threads} threads", kernel.name());
        }
        let mut wrapped = vec![vec![Wrapping(5); 2]; xs.len()];
        matrix.wrapping_sums(&xs, &mut wrapped);
        let residues = |row: &Vec<i128>| row.iter().map(|y| Wrapping(*y as i64)).collect();
        let expected: Vec<Vec<_>> = expected.iter().map(residues).collect();
        assert_eq!(wrapped, expected, "{} modulo 2^64", kernel.name());
    }
}

fn int8() -> impl Strategy<Value = i8> {
    prop_oneof![-127_i8..=127, Just(127), Just(-127), Just(0)]
}

fn limb() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), Just(255), Just(0), Just(128), Just(127)]
}

prop_compose! {
    fn problem()(planes in 4_usize..=6, d_in in 1_usize..=37, d_out in 1_usize..=53, items in 0_usize..=9)(
        body in prop::collection::vec(limb(), planes * d_in * d_out),
        xs in prop::collection::vec(prop::collection::vec(int8(), d_in), items),
        shape in Just((d_in, d_out, planes)),
    ) -> (Vec<u8>, (usize, usize, usize), Vec<Vec<i8>>) {
        (body, shape, xs)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_kernel_gives_the_exact_sums((body, shape, xs) in problem()) {
        assert_kernels_agree(&body, shape, &xs);
    }

    #[test]
    fn a_layer_is_the_same_in_whatever_pieces_it_is_read(cuts in prop::collection::vec(0_usize..=7 * 19 * 5, 0..12)) {
        let meta = meta(ParameterSet::P48B40, 7, 19);
        let body: Vec<u8> = (0..meta.body_bytes()).map(|i| (i * 37 + i / 251) as u8).collect();
        let whole = EncryptedLayer::from_bytes(meta.clone(), &body).unwrap();
        let mut cuts = cuts;
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let mut reader = LayerReader::new(meta);
        for piece in cuts.windows(2) {
            reader.push(&body[piece[0]..piece[1]]).unwrap();
        }
        let pieces = reader.finish().unwrap();
        let x = [1, -2, 3, -4, 5, -6, 127];
        prop_assert!(pieces.evaluate(&x).unwrap() == whole.evaluate(&x).unwrap());
    }
}

#[test]
fn every_tail_of_inputs_outputs_and_items_is_exact() {
    for planes in 4..=6 {
        for d_in in 1..=9 {
            for d_out in [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48] {
                let body: Vec<u8> = (0..d_in * d_out * planes)
                    .map(|i| (i * 131 + 7) as u8)
                    .collect();
                let xs: Vec<_> = [-127, 127, 1, 0, -1, 126, -126, 64, 2][..d_in]
                    .iter()
                    .map(|value| vec![*value; d_in])
                    .collect();
                assert_kernels_agree(&body, (d_in, d_out, planes), &xs);
            }
        }
    }
}

/// More blocks and items than are multiplied in one go.
#[test]
fn layers_and_batches_larger_than_the_caches_are_exact() {
    let (d_in, d_out, planes) = (600, 230, 5);
    let body: Vec<u8> = (0..d_in * d_out * planes)
        .map(|i| (i * 131 + i / 251) as u8)
        .collect();
    let item = |m: usize| (0..d_in).map(move |j| ((m * 31 + j * 7) % 255) as u8 as i8);
    let xs: Vec<Vec<i8>> = (0..70).map(|m| item(m).collect()).collect();
    assert_kernels_agree(&body, (d_in, d_out, planes), &xs);
}

/// 0, 2^15 and 2^16 − 1 in every limb are the extremes of limbs less 2^15; -128 is more than a
/// layer accepts, but a matrix promises exact sums for it too. The widths are where a kernel of
/// 16-bit limbs begins another run.
#[test]
fn the_widest_layers_of_extreme_limbs_and_activations_overflow_nothing() {
    for d_in in [504, 505, 1009, crate::MAX_D_IN] {
        let alternating = |even: i8| (0..d_in).map(move |j| if j % 2 == 0 { even } else { -127 });
        let xs = [
            vec![127; d_in],
            vec![-127; d_in],
            vec![-128; d_in],
            alternating(127).collect(),
            alternating(0).collect(),
        ];
        for planes in 4..=6 {
            for limb in [[0, 0], [255, 255], [0, 128], [255, 127]] {
                let integer: Vec<u8> = limb.into_iter().cycle().take(planes).collect();
                let body = integer.repeat(d_in * 3);
                assert_kernels_agree(&body, (d_in, 3, planes), &xs);
            }
            let body: Vec<u8> = (0..d_in * 3 * planes)
                .map(|i| (i * 131 + i / 251) as u8)
                .collect();
            assert_kernels_agree(&body, (d_in, 3, planes), &xs);
        }
    }
}

#[test]
fn this_machine_always_has_the_portable_kernel() {
    let kernels = Kernel::available();
    assert_eq!(kernels.first(), Some(&Kernel::fastest()));
    assert_eq!(kernels.last().map(|kernel| kernel.name()), Some("portable"));
}

#[test]
fn one_bad_activation_stops_the_batch_before_it_is_evaluated() {
    let meta = meta(ParameterSet::P48, 5, 4);
    let layer = EncryptedLayer::from_bytes(meta.clone(), &vec![1; meta.body_bytes()]).unwrap();
    let good = [1_i8; 5];
    let cases: [(&[i8], ActivationError); 2] = [
        (
            &[1; 4],
            ActivationError::Length {
                expected: 5,
                found: 4,
            },
        ),
        (&[1, 1, -128, 1, 1], ActivationError::Range { index: 2 }),
    ];
    for (bad, source) in cases {
        let refused = layer.evaluate_batch(&[&good, bad], NonZeroUsize::MIN).err();
        assert_eq!(
            refused,
            Some(EvaluationError::Activation { item: 1, source })
        );
    }
    let one = NonZeroUsize::MIN;
    let rows = [(&good[..], 0.01), (&good[..], f32::NAN)];
    let refused = layer.evaluate_rows(&rows, one).err();
    assert_eq!(refused, Some(EvaluationError::Scale { item: 1 }));
    assert!(layer.evaluate_batch(&[], one).unwrap().is_empty());
}

#[test]
fn an_activation_over_the_norm_bound_is_not_evaluated() {
    let scale = meta(ParameterSet::P48B32, 4, 2).scale();
    let seed = crate::MaskSeed::from_bytes([0; 16]);
    let shape = (ParameterSet::P48B32, 4, 2);
    let meta = crate::LayerMeta::new("head", shape, seed, scale, 100).unwrap();
    let layer = EncryptedLayer::from_bytes(meta, &[9; 32]).unwrap();
    assert!(layer.evaluate(&[5, 5, 5, 5]).is_ok());
    let source = ActivationError::Norm { bound: 100 };
    let refused = layer.evaluate(&[5, 5, 5, 6]).err();
    assert_eq!(
        refused,
        Some(EvaluationError::Activation { item: 0, source })
    );
}

#[test]
fn bodies_of_another_length_are_refused() {
    let meta = meta(ParameterSet::P48B40, 6, 10);
    let refused = |length| EncryptedLayer::from_bytes(meta.clone(), &vec![0; length]).err();
    assert_eq!(refused(300), None);
    for found in [0, 1, 299, 301] {
        assert_eq!(
            refused(found),
            Some(BodyError::Length {
                expected: 300,
                found
            })
        );
    }
    for (length, fits) in [(360, ParameterSet::P48), (240, ParameterSet::P48B32)] {
        let declared = ParameterSet::P48B40;
        assert_eq!(
            refused(length),
            Some(BodyError::OtherSet { declared, fits })
        );
    }
}
