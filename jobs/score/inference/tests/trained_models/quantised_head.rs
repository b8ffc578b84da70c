//! What an int8 head does to the answers of real models: the price of encrypting it.

use crate::fixture::{Fixture, TINY_BERT, best};
use sealift_quantised_head::{ScaleRange, quantise_activation, quantise_rows};

struct Agreement {
    rows: usize,
    same_label: usize,
    max_logit_error: f64,
}

fn agreement(name: &str) -> Agreement {
    let fixture = Fixture::read(name);
    let body = fixture.body();
    let head = quantise_rows(&fixture.values("classifier.weight"), body.width()).unwrap();
    let bias = fixture.values("classifier.bias");
    let activations = body.activations(&fixture.inputs()).unwrap();
    let mut result = Agreement {
        rows: activations.len(),
        same_label: 0,
        max_logit_error: 0.0,
    };
    for (row, x) in fixture.rows.iter().zip(activations) {
        let x = quantise_activation(&x.unwrap(), ScaleRange::ANY).unwrap();
        let y = head.integer_reference(&x.values).unwrap();
        let logits = head.logits(&y, x.scale, &bias).unwrap();
        result.same_label += usize::from(best(&logits) == best(&row.expected_logits));
        for (found, expected) in logits.iter().zip(&row.expected_logits) {
            let error = (found - f64::from(*expected)).abs();
            result.max_logit_error = result.max_logit_error.max(error);
        }
    }
    result
}

#[test]
fn a_quantised_head_keeps_the_labels_of_models_with_hidden_layers() {
    for (name, least) in [
        (TINY_BERT, 0.995),
        ("breast-cancer-mlp", 0.995),
        ("digits-mlp", 0.995),
    ] {
        let Agreement {
            rows,
            same_label,
            max_logit_error,
        } = agreement(name);
        let told = format!("{name}: {same_label} of {rows}, logits off by {max_logit_error:.4}");
        assert!(same_label as f64 >= least * rows as f64, "{told}");
    }
}

/// Features in their own units, from thousandths to thousands, do not share one int8 grid. A
/// protection report measures this before a head is chosen for encryption.
#[test]
fn a_head_on_raw_features_of_mixed_units_does_not_keep_its_labels() {
    let Agreement {
        rows, same_label, ..
    } = agreement("breast-cancer-logreg");
    assert!(same_label * 10 < rows * 9, "{same_label} of {rows}");
}
