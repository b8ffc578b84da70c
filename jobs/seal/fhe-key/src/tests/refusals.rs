//! Rows with one thing spoiled are refused for that thing.

use std::slice;

use sealift_fhe_layer::{ActivationError, EncryptedRow, ParameterSet, Sums};

use super::{S, Sealed, Stream, seal, with_sum, with_sums};
use crate::{Refusal, RefusedRow};

const D_IN: usize = 24;
const X: [i8; D_IN] = [
    1, -2, 3, 127, -127, 0, 9, 8, 7, 6, 5, 4, -3, 2, -1, 100, -100, 50, 60, 70, -80, 11, 12, 13,
];

fn sealed(set: ParameterSet) -> Sealed {
    seal(set, D_IN, &Stream(11).int8(D_IN * 50))
}

fn refusal(sealed: &Sealed, row: &EncryptedRow) -> Refusal {
    let refused = sealed.secrets.check(slice::from_ref(row)).err();
    refused.expect("the row is refused").reason
}

fn with_x(row: &EncryptedRow, x: Vec<i8>) -> EncryptedRow {
    EncryptedRow::from_parts(row.set(), x, row.s(), row.y().clone()).unwrap()
}

fn with_s(row: &EncryptedRow, s: f32) -> EncryptedRow {
    EncryptedRow::from_parts(row.set(), row.x().to_vec(), s, row.y().clone()).unwrap()
}

#[test]
fn an_honest_row_is_accepted_again_and_again() {
    for set in ParameterSet::ALL {
        let sealed = sealed(set);
        let rows = [sealed.row(&X)];
        assert!(sealed.secrets.check(&rows).is_ok());
        assert!(
            sealed.secrets.check(&rows).is_ok(),
            "a retry is a matter of the budget"
        );
    }
}

#[test]
fn one_dishonest_row_among_honest_ones_is_named() {
    let sealed = sealed(ParameterSet::P48B40);
    let row = sealed.row(&X);
    let forged = with_sum(&row, 3, |y| y + 1);
    let refused = sealed.secrets.check(&[row.clone(), row, forged]).err();
    let expected = RefusedRow {
        index: 2,
        reason: Refusal::CheckVector,
    };
    assert_eq!(refused, Some(expected));
}

#[test]
fn fhe_body_shifted_by_one_unit_is_refused() {
    for set in ParameterSet::ALL {
        let sealed = sealed(set);
        let row = sealed.row(&X);
        for k in [0, 17, 49] {
            for shift in [1, -1, 1 << 8, 1 << 39, -(1 << 39)] {
                let forged = with_sum(&row, k, |y| y + shift);
                assert_eq!(
                    refusal(&sealed, &forged),
                    Refusal::CheckVector,
                    "{set:?} {k} {shift}"
                );
            }
        }
    }
}

#[test]
fn sums_reduced_modulo_the_body_size_are_refused() {
    let sealed = sealed(ParameterSet::P48B40);
    let row = sealed.row(&X);
    let reduced = row.y().iter().map(|y| y.rem_euclid(1 << 40)).collect();
    assert_eq!(
        refusal(&sealed, &with_sums(&row, reduced)),
        Refusal::CheckVector
    );
}

#[test]
fn sums_swapped_within_a_row_are_refused() {
    let sealed = sealed(ParameterSet::P48B40);
    let row = sealed.row(&X);
    let mut sums: Vec<i128> = row.y().iter().collect();
    sums.swap(3, 4);
    assert_eq!(
        refusal(&sealed, &with_sums(&row, sums)),
        Refusal::CheckVector
    );
}

#[test]
fn sums_of_another_row_are_refused() {
    let sealed = sealed(ParameterSet::P48B40);
    let (row, other) = (sealed.row(&X), sealed.row(&[5; D_IN]));
    let swapped = EncryptedRow::from_parts(row.set(), X.to_vec(), S, other.y().clone()).unwrap();
    assert_eq!(refusal(&sealed, &swapped), Refusal::CheckVector);
    let mut altered = X.to_vec();
    altered[0] += 1;
    assert_eq!(
        refusal(&sealed, &with_x(&row, altered)),
        Refusal::CheckVector
    );
}

#[test]
fn a_row_of_another_layer_or_an_earlier_sealing_is_refused() {
    let (earlier, later) = (sealed(ParameterSet::P48B40), sealed(ParameterSet::P48B40));
    assert_eq!(refusal(&later, &earlier.row(&X)), Refusal::CheckVector);
}

#[test]
fn sums_beyond_any_evaluation_are_refused() {
    for set in ParameterSet::ALL {
        let sealed = sealed(set);
        let row = sealed.row(&X);
        let norm_1 = X.iter().map(|v| u64::from(v.unsigned_abs())).sum();
        let bound = set.sum_bound(norm_1);
        for y in [bound + 1, -bound - 1] {
            assert_eq!(
                refusal(&sealed, &with_sum(&row, 7, |_| y)),
                Refusal::SumRange
            );
        }
        assert_eq!(
            refusal(&sealed, &with_sum(&row, 7, |_| bound)),
            Refusal::CheckVector
        );
        // The two neighbours of Y that the check vector alone cannot tell from it.
        let p = (1_i128 << set.check_prime_log2()) - 1;
        for shift in [p, -p] {
            assert_eq!(
                refusal(&sealed, &with_sum(&row, 7, |y| y + shift)),
                Refusal::SumRange
            );
        }
    }
}

#[test]
fn the_smallest_i64_is_refused_without_overflow() {
    let sealed = sealed(ParameterSet::P48B40);
    let row = sealed.row(&X);
    let forged = with_sum(&row, 0, |_| i128::from(i64::MIN));
    assert_eq!(refusal(&sealed, &forged), Refusal::SumRange);
}

#[test]
fn activations_outside_the_layer_are_refused() {
    let sealed = sealed(ParameterSet::P48B40);
    let row = sealed.row(&X);
    let length = ActivationError::Length {
        expected: D_IN,
        found: D_IN - 1,
    };
    assert_eq!(
        refusal(&sealed, &with_x(&row, X[1..].to_vec())),
        Refusal::Activation(length)
    );
    let mut x = X.to_vec();
    x[9] = -128;
    let range = ActivationError::Range { index: 9 };
    assert_eq!(
        refusal(&sealed, &with_x(&row, x)),
        Refusal::Activation(range)
    );
}

#[test]
fn an_activation_over_the_norm_bound_with_honest_sums_is_refused() {
    let weights = Stream(4).int8(384 * 8);
    let sealed = seal(ParameterSet::P48B32, 384, &weights);
    let bound = sealed.secrets.meta().norm_bound();
    let x = vec![127; 384];
    let mut sums = vec![0_i64; 8];
    for j in 0..384 {
        for (sum, body) in sums.iter_mut().zip(sealed.column(j)) {
            *sum += 127 * body.cast_signed();
        }
    }
    let set = ParameterSet::P48B32;
    let row = EncryptedRow::from_parts(set, x, S, Sums::from_i64(sums)).unwrap();
    assert!(
        sealed.secrets.check.holds(row.x(), row.y()),
        "the sums are honest"
    );
    let norm = ActivationError::Norm { bound };
    assert_eq!(refusal(&sealed, &row), Refusal::Activation(norm));
}

#[test]
fn scales_outside_the_manifest_are_refused() {
    let sealed = sealed(ParameterSet::P48B40);
    let row = sealed.row(&X);
    let scales = [
        S * 1000.0,
        0.000_9,
        0.0,
        -S,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
    ];
    for s in scales {
        assert_eq!(refusal(&sealed, &with_s(&row, s)), Refusal::Scale, "{s}");
    }
}

#[test]
fn rows_with_missing_or_surplus_outputs_are_refused() {
    let sealed = sealed(ParameterSet::P48B40);
    let row = sealed.row(&X);
    let mut sums: Vec<i128> = row.y().iter().collect();
    sums.push(0);
    let surplus = Refusal::Outputs {
        expected: 50,
        found: 51,
    };
    assert_eq!(refusal(&sealed, &with_sums(&row, sums.clone())), surplus);
    sums.truncate(49);
    let missing = Refusal::Outputs {
        expected: 50,
        found: 49,
    };
    assert_eq!(refusal(&sealed, &with_sums(&row, sums)), missing);
}

#[test]
fn a_row_of_another_parameter_set_is_refused() {
    let sealed = sealed(ParameterSet::P48B40);
    let row = sealed.row(&X);
    let other =
        EncryptedRow::from_parts(ParameterSet::P48B32, X.to_vec(), S, row.y().clone()).unwrap();
    assert_eq!(refusal(&sealed, &other), Refusal::OtherSet);
}
