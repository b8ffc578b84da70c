//! Every held-out row of every fixture against the logits that its training framework computed.

use std::num::NonZeroUsize;

use crate::fixture::{ALL, Fixture, TINY_BERT, best, distance};
use sealift_inference::{Input, RowError};

/// Forty times the largest difference that was seen between engines.
const TOLERANCE: f32 = 1e-4;

#[test]
fn every_row_has_the_expected_logits_and_label() {
    for name in ALL {
        let fixture = Fixture::read(name);
        let model = fixture.model();
        let logits = model.logits(&fixture.inputs()).unwrap();
        assert_eq!(logits.len(), fixture.rows.len());
        for (row, logits) in fixture.rows.iter().zip(logits) {
            let logits = logits.unwrap();
            let difference = distance(&logits, &row.expected_logits);
            assert!(difference <= TOLERANCE, "{name}: off by {difference}");
            assert_eq!(
                model.labels().single().unwrap()[best(&logits)],
                row.expected_label,
                "{name}"
            );
        }
    }
}

#[test]
fn a_row_is_answered_alike_alone_and_in_a_batch() {
    let fixture = Fixture::read(TINY_BERT);
    let model = fixture.model();
    let together = model.logits(&fixture.inputs()).unwrap();
    for (row, together) in fixture.rows.iter().zip(together) {
        let alone = model.logits(&[row.input()]).unwrap().remove(0).unwrap();
        assert!(distance(&alone, &together.unwrap()) <= 1e-5);
    }
}

#[test]
fn an_encoder_gives_the_same_bits_alone_and_in_a_batch() {
    let fixture = Fixture::read(TINY_BERT);
    let body = fixture.body();
    let together = body.activations(&fixture.inputs()).unwrap();
    for (row, together) in fixture.rows.iter().zip(together) {
        let alone = body.activations(&[row.input()]).unwrap().remove(0);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(alone.unwrap()), bits(together.unwrap()));
    }
}

#[test]
fn threads_change_no_answer() {
    let fixture = Fixture::read(TINY_BERT);
    let alone = fixture.model().logits(&fixture.inputs()).unwrap();
    let threads = NonZeroUsize::new(3).unwrap();
    let shared = fixture.model().with_threads(threads);
    for (alone, shared) in alone.iter().zip(shared.logits(&fixture.inputs()).unwrap()) {
        assert!(distance(alone.as_ref().unwrap(), &shared.unwrap()) <= 1e-5);
    }
}

#[test]
fn a_body_without_its_head_gives_what_the_head_needs() {
    for name in ALL {
        let fixture = Fixture::read(name);
        let body = fixture.body();
        let weight = fixture.values("classifier.weight");
        let bias = fixture.values("classifier.bias");
        let activations = body.activations(&fixture.inputs()).unwrap();
        for (row, x) in fixture.rows.iter().zip(activations) {
            let x = x.unwrap();
            assert_eq!(x.len(), body.width());
            let logits: Vec<f32> = weight
                .chunks_exact(x.len())
                .zip(&bias)
                .map(|(w, b)| w.iter().zip(&x).map(|(w, x)| w * x).sum::<f32>() + b)
                .collect();
            assert!(
                distance(&logits, &row.expected_logits) <= TOLERANCE,
                "{name}"
            );
        }
    }
}

#[test]
fn a_bad_row_gets_its_own_error_and_no_other_row_suffers() {
    let fixture = Fixture::read("breast-cancer-mlp");
    let model = fixture.model();
    let good = fixture.rows[0].features.as_deref().unwrap();
    let mut spoiled = good.to_vec();
    spoiled[3] = f32::NAN;
    let overflowing = vec![f32::MAX; good.len()];
    let rows = [
        Input::Text("not a tumour"),
        Input::Features(&good[1..]),
        Input::Features(good),
        Input::Features(&spoiled),
        Input::Features(&overflowing),
    ];
    let answers = model.logits(&rows).unwrap();
    assert_eq!(answers[0], Err(RowError::ExpectsFeatures));
    assert_eq!(
        answers[1],
        Err(RowError::Width {
            expected: 30,
            found: 29
        })
    );
    assert_eq!(answers[3], Err(RowError::NotFinite));
    assert_eq!(answers[4], Err(RowError::NotFinite));
    let logits = answers[2].as_ref().unwrap();
    assert!(distance(logits, &fixture.rows[0].expected_logits) <= TOLERANCE);
}

#[test]
fn features_for_a_text_model_are_refused() {
    let model = Fixture::read(TINY_BERT).model();
    let answers = model.logits(&[Input::Features(&[1.0])]).unwrap();
    assert_eq!(answers[0], Err(RowError::ExpectsText));
}

#[test]
fn empty_and_overlong_texts_are_answered() {
    let model = Fixture::read(TINY_BERT).model();
    let long = "good ".repeat(5_000);
    let cut = "good ".repeat(126);
    let texts = [
        Input::Text(""),
        Input::Text(&long),
        Input::Text(&cut),
        Input::Text("\u{1f600}"),
    ];
    let answers = model.logits(&texts).unwrap();
    assert!(answers.iter().all(Result::is_ok));
    let (long, cut) = (answers[1].as_ref().unwrap(), answers[2].as_ref().unwrap());
    assert!(distance(long, cut) <= 1e-5);
}

#[test]
fn no_rows_get_no_answers() {
    for name in ALL {
        assert!(Fixture::read(name).model().logits(&[]).unwrap().is_empty());
    }
}
