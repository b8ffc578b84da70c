//! Rows on their way through an encrypted head: quantised, and evaluated part by part.

use std::{num::NonZeroUsize, ops::Range, sync::Arc};

use sealift_encrypted_batch::RowFault;
use sealift_fhe_layer::{EncryptedLayer, EncryptedRow, LayerMeta};
use sealift_kbs_protocol::call::{Bytes, FheFault, FheRow};
use sealift_quantised_head::QuantisedActivation;

use crate::model::ComputeError;

/// Most bytes of rows in one request to the key manager: with the encodings around them they stay
/// below the 64 MiB that it reads.
const MAX_FHE_BYTES: usize = 34 << 20;

/// What a row's names, numbers and JSON take beside its bytes: a `custom_id` has at most 128.
const FHE_ROW_OVERHEAD: usize = 256;

/// A partition whose answers only the key manager can know. What is held are the activations; the
/// ciphertexts, which for a whole vocabulary take a quarter of a megabyte per row and more, are
/// computed when they are sent.
pub(crate) struct EncryptedAnswers {
    pub(crate) layer: Arc<EncryptedLayer>,
    /// Each row's `custom_id`, and its activation or why it has none.
    pub(crate) rows: Vec<(String, Result<QuantisedActivation, RowFault>)>,
    pub(crate) threads: NonZeroUsize,
}

/// The rows of one request to the key manager.
pub(crate) struct EvaluatedRows {
    pub(crate) rows: Vec<FheRow>,
    pub(crate) faults: Vec<FheFault>,
}

impl EncryptedAnswers {
    /// The layer's name in the manifest.
    pub(crate) fn layer(&self) -> &str {
        self.layer.meta().layer()
    }

    /// The rows of each request, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Range<usize>> + Clone + use<> {
        let (rows, most) = (self.rows.len(), rows_per_request(self.layer.meta()));
        (0..rows)
            .step_by(most)
            .map(move |begin| begin..rows.min(begin + most))
    }

    /// How many rows have no activation.
    pub(crate) fn faults(&self) -> usize {
        self.rows.iter().filter(|(_, row)| row.is_err()).count()
    }

    /// Evaluates the rows of one part. Blocks.
    pub(crate) fn evaluate(&self, part: Range<usize>) -> Result<EvaluatedRows, ComputeError> {
        let begin = part.start as u64;
        let part = &self.rows[part];
        let activations = part.iter().filter_map(|(_, row)| row.as_ref().ok());
        let items: Vec<(&[i8], f32)> = activations
            .map(|activation| (activation.values.as_slice(), activation.scale))
            .collect();
        let mut evaluated = self
            .layer
            .evaluate_rows(&items, self.threads)
            .map_err(ComputeError::Evaluation)?
            .into_iter();
        let mut answers = EvaluatedRows {
            rows: Vec::with_capacity(items.len()),
            faults: Vec::new(),
        };
        for (index, (id, outcome)) in (begin..).zip(part) {
            if let Err(fault) = outcome {
                answers.faults.push(FheFault {
                    row: index,
                    id: id.clone(),
                    code: fault.code().to_owned(),
                });
            } else {
                let row = evaluated
                    .next()
                    .expect("one row is evaluated for each activation");
                answers.rows.push(wire(index, id.clone(), &row));
            }
        }
        Ok(answers)
    }
}

/// The widest row of the widest layer takes 3 MiB, so there is always room for one.
fn rows_per_request(meta: &LayerMeta) -> usize {
    let row = meta.d_in() + meta.d_out() * meta.set().sum_bytes() + FHE_ROW_OVERHEAD;
    (MAX_FHE_BYTES / row).max(1)
}

fn wire(row: u64, id: String, evaluated: &EncryptedRow) -> FheRow {
    let width = evaluated.y().value_bytes();
    let sums = evaluated
        .y()
        .iter()
        .flat_map(|y| y.to_le_bytes().into_iter().take(width));
    FheRow {
        row,
        id,
        x: Bytes(evaluated.x().iter().map(|x| x.cast_unsigned()).collect()),
        s: evaluated.s(),
        y: Bytes(sums.collect()),
    }
}
