//! Encrypted layers: from posted rows to answers that only the user reads.
//!
//! Nothing here logs or returns to the guest what depends on a decrypted value.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use sealift_encrypted_batch::{Labels, MAX_DECIMALS, Outcome, OutputPolicy, RowFault};
pub(crate) use sealift_fhe_key::HeldRows;
use sealift_fhe_key::LayerSecrets;
use sealift_fhe_layer::{EncryptedRow, ParameterSet, Sums};
use sealift_kbs_protocol::{FheBundle, call::FheRow};
use sealift_signed_document::Digest;

use crate::refusal::Refusal;

/// Layers that are kept ready: transformed secrets and expanded masks of a layer take some ten
/// megabytes and a noticeable time.
const MAX_READY: usize = 8;

/// A layer with its secrets, ready to check and open rows.
pub(crate) struct ReadyLayer {
    secrets: Arc<LayerSecrets>,
    labels: Labels,
}

/// The layers used last.
#[derive(Default)]
pub(crate) struct Layers(Mutex<VecDeque<(String, Arc<ReadyLayer>)>>);

impl Layers {
    /// The layer of a version (by its register document) and name; `bundle` is read if it is not
    /// ready yet.
    pub(crate) fn ready(
        &self,
        (register, name): (Digest, &str),
        bundle: &[u8],
    ) -> Result<Arc<ReadyLayer>, Refusal> {
        let key = format!("{register}/{name}");
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, layer)) = ready.iter().find(|(known, _)| *known == key) {
            return Ok(Arc::clone(layer));
        }
        let bundle = FheBundle::parse(bundle).map_err(Refusal::Bundle)?;
        let layer = Arc::new(ReadyLayer::new(name, &bundle)?);
        if ready.len() >= MAX_READY {
            ready.pop_front();
        }
        ready.push_back((key, Arc::clone(&layer)));
        Ok(layer)
    }

    /// Drops every layer of a version, by its register document.
    pub(crate) fn forget(&self, register: &Digest) {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_version = format!("{register}/");
        ready.retain(|(known, _)| !known.starts_with(&of_version));
    }
}

/// Checks the secret of a layer when it is pushed, so that its owner learns of a mistake.
pub(crate) fn check_layer(layer: &str, bundle: &FheBundle) -> Result<(), Refusal> {
    ReadyLayer::new(layer, bundle).map(drop)
}

impl ReadyLayer {
    fn new(name: &str, bundle: &FheBundle) -> Result<Self, Refusal> {
        let bad = || Refusal::BadLayer(name.to_owned());
        let secrets = LayerSecrets::from_bytes(bundle.expose()).map_err(|_| bad())?;
        let labels = bundle.labels().cloned().ok_or_else(bad)?;
        if secrets.meta().layer() != name || secrets.meta().d_out() != labels.outputs() {
            return Err(bad());
        }
        let secrets = Arc::new(secrets);
        Ok(Self { secrets, labels })
    }

    /// Names of the outputs of each head, in order.
    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Checks every row before anything of it is decrypted, and keeps what was checked.
    pub(crate) fn check(&self, rows: &[FheRow]) -> Result<HeldRows, Refusal> {
        let set = self.secrets.meta().set();
        let posted: Vec<EncryptedRow> = rows
            .iter()
            .map(|row| posted(row, set))
            .collect::<Result<_, _>>()?;
        self.secrets
            .check_held(posted)
            .map_err(|refused| Refusal::DishonestRow {
                row: rows[refused.index].row,
                reason: refused.reason.to_string(),
            })
    }
}

/// Decrypts checked rows, rescales them and rounds them as `policy` demands.
pub(crate) fn open(rows: &HeldRows, policy: OutputPolicy) -> Result<Vec<Outcome>, Refusal> {
    let grid = match policy {
        OutputPolicy::Label => None,
        OutputPolicy::DangerousFullScores { decimals } => {
            let step = 10_f32.powi(-i32::from(decimals.min(MAX_DECIMALS)));
            let grid = rows.secrets().rounding_grid(step);
            Some(grid.map_err(|_| Refusal::OtherRows)?)
        }
    };
    let mut outcomes = Vec::new();
    rows.checked().logits(grid.as_ref(), |logits| {
        // A row that decrypts to the impossible depends on decrypted values, so it becomes that
        // row's answer to the user, and the guest sees no difference.
        outcomes.push(match logits {
            Ok(logits) => Outcome::Scores(logits.to_vec()),
            Err(_) => Outcome::Fault(RowFault::NotFinite),
        });
    });
    Ok(outcomes)
}

/// Reads a row of the wire. Its length is part of the check: a wrong one is no accident either.
fn posted(row: &FheRow, set: ParameterSet) -> Result<EncryptedRow, Refusal> {
    let dishonest = || Refusal::DishonestRow {
        row: row.row,
        reason: "malformed".to_owned(),
    };
    let x = row.x.0.iter().map(|byte| byte.cast_signed()).collect();
    if !row.y.0.len().is_multiple_of(set.sum_bytes()) {
        return Err(dishonest());
    }
    let sums = row.y.0.chunks_exact(set.sum_bytes()).map(sign_extended);
    let sums = if set.sum_bytes() == size_of::<i64>() {
        Sums::from_i64(sums.map(|sum| sum as i64).collect())
    } else {
        Sums::from_i128(sums.collect())
    };
    EncryptedRow::from_parts(set, x, row.s, sums).ok_or_else(dishonest)
}

/// A two's complement number of up to 16 bytes, little-endian.
fn sign_extended(bytes: &[u8]) -> i128 {
    let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[..bytes.len()].copy_from_slice(bytes);
    i128::from_le_bytes(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_their_sign() {
        for value in [
            0,
            1,
            -1,
            i128::from(i64::MAX),
            i128::from(i64::MIN),
            -(1 << 68),
        ] {
            assert_eq!(sign_extended(&value.to_le_bytes()[..12]), value);
        }
        assert_eq!(sign_extended(&(-2_i64).to_le_bytes()), -2);
    }
}
