//! Every opened integer equals W·x.

use std::num::NonZeroUsize;

use proptest::prelude::*;
use sealift_fhe_layer::ParameterSet;

use super::{S, Sealed, Stream, logits, reference, seal};
use crate::Undecryptable;

fn assert_exact(sealed: &Sealed, weights: &[i8], x: &[i8]) {
    let row = sealed.row(x);
    let opened = sealed.secrets.open(&row).unwrap();
    let found: Vec<i128> = opened.integers().iter().map(|y| i128::from(*y)).collect();
    assert_eq!(found, reference(weights, x));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_layers_open_to_the_exact_product(
        set in prop::sample::select(ParameterSet::ALL.to_vec()),
        d_in in 1_usize..40,
        d_out in 1_usize..70,
        seed: u64,
    ) {
        let mut stream = Stream(seed);
        let weights = stream.int8(d_in * d_out);
        let x = stream.int8(d_in);
        assert_exact(&seal(set, d_in, &weights), &weights, &x);
    }
}

#[test]
fn every_tail_of_inputs_and_outputs_is_exact() {
    for (d_in, d_out) in [
        (4, 16),
        (5, 17),
        (6, 31),
        (7, 1),
        (8, 15),
        (1, 1),
        (3, 2048),
        (2, 2049),
    ] {
        for set in ParameterSet::ALL {
            let mut stream = Stream(d_in as u64);
            let weights = stream.extremes(d_in * d_out);
            let x = stream.extremes(d_in);
            assert_exact(&seal(set, d_in, &weights), &weights, &x);
        }
    }
}

#[test]
fn the_default_set_is_exact_at_its_widest_with_extreme_weights_and_activations() {
    let (d_in, d_out) = (1350, 2048 + 33);
    let mut stream = Stream(7);
    let mut weights = stream.extremes(d_in * d_out);
    weights[..d_in].fill(127);
    weights[d_in..2 * d_in].fill(-127);
    let sealed = seal(ParameterSet::P48B40, d_in, &weights);
    assert_exact(&sealed, &weights, &vec![127; d_in]);
    assert_exact(&sealed, &weights, &vec![-127; d_in]);
    assert_exact(&sealed, &weights, &stream.extremes(d_in));
    assert_exact(&sealed, &weights, &stream.int8(d_in));
    assert_exact(&sealed, &weights, &vec![0; d_in]);
}

#[test]
fn the_full_set_is_exact_at_the_widest_input() {
    let (d_in, d_out) = (8192, 3);
    let mut weights = vec![127; d_in * d_out];
    weights[d_in..2 * d_in].fill(-127);
    let sealed = seal(ParameterSet::P48, d_in, &weights);
    assert_exact(&sealed, &weights, &vec![127; d_in]);
    assert_exact(&sealed, &weights, &vec![-127; d_in]);
}

#[test]
fn wide_layers_are_exact_up_to_their_norm_bound() {
    for (set, d_in) in [(ParameterSet::P48B40, 4096), (ParameterSet::P48B32, 384)] {
        let mut stream = Stream(3);
        let weights: Vec<i8> = stream.int8(d_in * 40).into_iter().map(|w| w / 2).collect();
        let sealed = seal(set, d_in, &weights);
        let rms = (sealed.secrets.meta().norm_bound() as f64 / d_in as f64).sqrt();
        let largest = rms.floor() as i8;
        let signs = stream.extremes(d_in);
        let x: Vec<i8> = signs
            .into_iter()
            .map(|sign| sign.signum() * largest)
            .collect();
        assert!(
            sealed
                .layer
                .meta()
                .check_activation(&vec![127; d_in])
                .is_err(),
            "{set:?}"
        );
        assert_exact(&sealed, &weights, &x);
    }
}

#[test]
fn rows_opened_together_are_opened_as_one_by_one() {
    let (d_in, d_out) = (10, 2100);
    let weights = Stream(14).int8(d_in * d_out);
    let layers = [
        seal(ParameterSet::P48B40, d_in, &weights),
        seal(ParameterSet::P48, d_in, &weights),
    ];
    let mut stream = Stream(15);
    for layer in layers {
        let xs: Vec<_> = (1..38).map(|_| stream.int8(d_in)).collect();
        let scales = (1..38).map(|row| row as f32 * 0.002);
        let items: Vec<_> = xs.iter().map(Vec::as_slice).zip(scales).collect();
        let rows = layer.layer.evaluate_rows(&items, NonZeroUsize::MIN);
        let rows = rows.unwrap();
        let mut together = Vec::new();
        let checked = layer.secrets.check(&rows).unwrap();
        checked.logits(None, |row| together.push(row.unwrap().to_vec()));
        assert_eq!(together.len(), rows.len());
        for (row, found) in rows.iter().zip(together) {
            assert_eq!(found, logits(&layer.secrets, row, None));
            let integers = layer.secrets.open(row).unwrap();
            let integers: Vec<i128> = integers.integers().iter().map(|y| (*y).into()).collect();
            assert_eq!(integers, reference(&weights, row.x()));
        }
        let none = layer.secrets.check(&[]).unwrap();
        none.logits(None, |_| panic!("there is no row"));
    }
}

#[test]
fn a_row_that_decrypts_to_the_impossible_leaves_the_others_their_answers() {
    let (d_in, d_out) = (6, 20);
    let weights = Stream(16).int8(d_in * d_out);
    let mut layer = seal(ParameterSet::P48B40, d_in, &weights);
    let rows = [[1; 6], [127; 6], [-1; 6]].map(|x| layer.row(&x));
    let honest: Vec<_> = rows
        .iter()
        .map(|row| logits(&layer.secrets, row, None))
        .collect();
    let largest = |x: i128| {
        let products = reference(&weights, &[x as i8; 6]);
        products.into_iter().map(i128::abs).max().unwrap()
    };
    assert!(largest(1) < largest(127));
    layer.secrets.message_bound = largest(1) as u64;
    let mut found = Vec::new();
    let checked = layer.secrets.check(&rows).unwrap();
    checked.logits(None, |row| found.push(row.map(<[f32]>::to_vec)));
    let [first, impossible, last] = &found[..] else {
        panic!("{} answers", found.len());
    };
    assert_eq!(first.as_ref(), Ok(&honest[0]));
    assert_eq!(*impossible, Err(Undecryptable));
    assert_eq!(last.as_ref(), Ok(&honest[2]));
}

#[test]
fn logits_are_the_integers_by_both_scales_plus_bias() {
    let weights = Stream(1).int8(8 * 20);
    let sealed = seal(ParameterSet::P48B40, 8, &weights);
    let row = sealed.row(&[1, -2, 3, -4, 5, -6, 7, -8]);
    let opened = sealed.secrets.open(&row).unwrap();
    let found = logits(&sealed.secrets, &row, None);
    for (k, (y, logit)) in opened.integers().iter().zip(found).enumerate() {
        let (scale, bias) = (0.01 + k as f32 * 1e-6, k as f32 * 0.25 - 3.0);
        let expected = *y as f64 * f64::from(scale) * f64::from(S) + f64::from(bias);
        assert!((expected - f64::from(logit)).abs() < 1e-5);
    }
}

#[test]
fn no_scale_makes_the_rounding_grid_finer() {
    let weights = Stream(2).int8(8 * 20);
    let sealed = seal(ParameterSet::P48B40, 8, &weights);
    let grid = sealed.secrets.rounding_grid(0.499_9).unwrap();
    let x = [90, -20, 33, -40, 51, -6, 7, -8];
    // 0.4999 / (0.01 · 0.1) makes 500 units of y, whatever the row's own scale.
    for s in [0.001, 0.05, 0.1] {
        let rows = [(&x[..], s)];
        let row = sealed
            .layer
            .evaluate_rows(&rows, NonZeroUsize::MIN)
            .unwrap()
            .remove(0);
        let opened = sealed.secrets.open(&row).unwrap();
        let rounded = logits(&sealed.secrets, &row, Some(&grid))[0];
        let unit = ((rounded + 3.0) / (0.01 * s)).round();
        assert_eq!(unit as i64 % 500, 0, "s = {s}");
        assert!((unit - opened.integers()[0] as f32).abs() <= 250.0);
    }
    for step in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(sealed.secrets.rounding_grid(step).is_err());
    }
}
