//! From an evaluated row to logits: every check, then decryption and rescaling.

use std::slice;
use std::sync::Arc;

use pulp::Arch;
use sealift_fhe_layer::{ActivationError, EncryptedRow, Sums};
use zeroize::Zeroizing;

use crate::decrypt::{Decryption, ROWS_AT_ONCE};
use crate::logits::{RoundingGrid, rescale};
use crate::secrets::LayerSecrets;

/// Rows that passed every check of this layer; the only thing that can be decrypted.
///
/// The caller reserves the rows in its budget between check and decryption. There is no other
/// way to make them:
///
/// ```compile_fail,E0451
/// # use sealift_fhe_key::{CheckedRows, LayerSecrets};
/// # use sealift_fhe_layer::EncryptedRow;
/// fn skip<'a>(secrets: &'a LayerSecrets, rows: &'a [EncryptedRow]) -> CheckedRows<'a> {
///     CheckedRows { secrets, rows }
/// }
/// ```
pub struct CheckedRows<'a> {
    secrets: &'a LayerSecrets,
    rows: &'a [EncryptedRow],
}

impl LayerSecrets {
    /// Checks rows: shape, range of x, ‖x‖², scale, |Y|, and last the check vector, which only
    /// Σ_j x_j·b_j over the published bodies satisfies.
    ///
    /// A refusal is the same to the guest whatever its reason: answer nothing, end the session
    /// and quarantine guest and batch.
    pub fn check<'a>(&'a self, rows: &'a [EncryptedRow]) -> Result<CheckedRows<'a>, RefusedRow> {
        for (index, row) in rows.iter().enumerate() {
            self.check_row(row)
                .map_err(|reason| RefusedRow { index, reason })?;
        }
        Ok(CheckedRows {
            secrets: self,
            rows,
        })
    }

    /// As [`Self::check`], for a caller that cannot borrow: what comes of it holds secrets and rows.
    pub fn check_held(self: &Arc<Self>, rows: Vec<EncryptedRow>) -> Result<HeldRows, RefusedRow> {
        self.check(&rows)?;
        Ok(HeldRows {
            secrets: Arc::clone(self),
            rows,
        })
    }

    /// y_k = Σ_j w[k,j]·x_j of one row, exact, after every check. For callers without a budget.
    pub fn open(&self, row: &EncryptedRow) -> Result<Opened, Refusal> {
        let checked = self
            .check(slice::from_ref(row))
            .map_err(|refused| refused.reason)?;
        checked.first_integers().map_err(Refusal::Undecryptable)
    }

    fn check_row(&self, row: &EncryptedRow) -> Result<(), Refusal> {
        self.check_public(row)?;
        if self.check.holds(row.x(), row.y()) {
            Ok(())
        } else {
            Err(Refusal::CheckVector)
        }
    }

    /// The checks that need no secret.
    fn check_public(&self, row: &EncryptedRow) -> Result<(), Refusal> {
        if row.set() != self.meta.set() {
            return Err(Refusal::OtherSet);
        }
        if row.y().len() != self.meta.d_out() {
            return Err(Refusal::Outputs {
                expected: self.meta.d_out(),
                found: row.y().len(),
            });
        }
        self.meta.check_activation(row.x())?;
        if !self.meta.scale().contains(row.s()) {
            return Err(Refusal::Scale);
        }
        let norm_1 = row.x().iter().map(|v| u64::from(v.unsigned_abs())).sum();
        let bound = self.meta.set().sum_bound(norm_1);
        if all_within(row.y(), bound) {
            Ok(())
        } else {
            Err(Refusal::SumRange)
        }
    }
}

/// Whether every |Y| is at most `bound`.
fn all_within(sums: &Sums, bound: i128) -> bool {
    let Some(sums) = sums.narrow() else {
        return sums.all_within(bound);
    };
    let (least, greatest) = Arch::new().dispatch(|| {
        let ends = (i64::MAX, i64::MIN);
        sums.iter().fold(ends, |(least, greatest), y| {
            (least.min(*y), greatest.max(*y))
        })
    });
    sums.is_empty() || (-bound <= i128::from(least) && i128::from(greatest) <= bound)
}

/// Rows that passed every check of their layer, kept until a budget is reserved for them.
///
/// [`LayerSecrets::check_held`] is the only way to make them.
pub struct HeldRows {
    secrets: Arc<LayerSecrets>,
    rows: Vec<EncryptedRow>,
}

impl HeldRows {
    /// The secrets that they were checked against.
    pub fn secrets(&self) -> &LayerSecrets {
        &self.secrets
    }

    /// The rows, to be decrypted.
    pub fn checked(&self) -> CheckedRows<'_> {
        CheckedRows {
            secrets: &self.secrets,
            rows: &self.rows,
        }
    }
}

#[cfg(test)]
impl<'a> CheckedRows<'a> {
    /// Rows that nobody checked, to show what the check is for.
    pub(crate) fn unchecked(secrets: &'a LayerSecrets, row: &'a EncryptedRow) -> Self {
        let rows = slice::from_ref(row);
        Self { secrets, rows }
    }
}

impl CheckedRows<'_> {
    /// Decrypts, rounding each phase to a multiple of Δ, and gives `take` the logits of one row
    /// after the other: y_k · row scale · s + bias, with y_k first rounded to `grid`, if any.
    ///
    /// One piece of memory holds the logits of a few rows in turn, and is wiped at the end. Many
    /// rows together take a fraction of the time each.
    pub fn logits(
        &self,
        grid: Option<&RoundingGrid>,
        mut take: impl FnMut(Result<&[f32], Undecryptable>),
    ) {
        let outputs = self.secrets.meta.d_out();
        let at_once = self.rows.len().min(ROWS_AT_ONCE);
        let mut logits = Zeroizing::new(vec![0.0; at_once * outputs]);
        Decryption::new(self.secrets).rows(
            self.rows,
            &mut logits,
            |logits, (row, place), integers| {
                let s = self.rows[row].s();
                let logits = &mut logits[row % ROWS_AT_ONCE * outputs..][..outputs];
                rescale(self.secrets, (place, integers), (grid, s), logits);
            },
            |logits, decrypted| {
                for (decrypted, logits) in decrypted.iter().zip(logits.chunks(outputs)) {
                    take(decrypted.map(|()| logits));
                }
            },
        );
    }

    fn first_integers(&self) -> Result<Opened, Undecryptable> {
        let mut integers = Zeroizing::new(vec![0; self.secrets.meta.d_out()]);
        let mut first = Ok(());
        Decryption::new(self.secrets).rows(
            &self.rows[..1],
            &mut integers,
            |integers, (_, from), block| {
                for (integer, y) in integers[from..].iter_mut().zip(block) {
                    *integer = *y as i64;
                }
            },
            |_, decrypted| first = decrypted[0],
        );
        first.map(|()| Opened { integers })
    }

    /// The integers of the first row.
    #[cfg(test)]
    pub(crate) fn open_first(&self) -> Result<Opened, Undecryptable> {
        self.first_integers()
    }

    /// The phases of the first row, for the statistics of their noise.
    #[cfg(test)]
    pub(crate) fn phases_for_statistics(&self) -> Zeroizing<Vec<i64>> {
        Zeroizing::new(Decryption::new(self.secrets).phases(&self.rows[0]))
    }
}

/// The integers of one row. For the model user only, and only under the output policy.
pub struct Opened {
    integers: Zeroizing<Vec<i64>>,
}

impl Opened {
    /// y_0, y_1, …
    pub fn integers(&self) -> &[i64] {
        &self.integers
    }
}

/// The first row that is not one of this layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {index} was not decrypted")]
pub struct RefusedRow {
    /// Its position.
    pub index: usize,
    /// What is wrong with it.
    #[source]
    pub reason: Refusal,
}

/// Why a row is not decrypted. Only for the audit log: to the guest all are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Evaluated from bodies of another parameter set.
    #[error("the row was evaluated under another parameter set")]
    OtherSet,
    /// Of another layer.
    #[error("the row has {found} outputs, the layer {expected}")]
    Outputs {
        /// Outputs of the layer.
        expected: usize,
        /// Outputs of the row.
        found: usize,
    },
    /// Shape, range or norm of x.
    #[error("the row's activation is not one that this layer accepts")]
    Activation(#[from] ActivationError),
    /// Outside the manifest's range, or not a number.
    #[error("the row's activation scale is outside the range of the manifest")]
    Scale,
    /// No evaluation of this activation is that large.
    #[error("a sum of the row is larger than any evaluation of its activation")]
    SumRange,
    /// Not Σ_j x_j·b_j: altered, of another row, of another layer, or of an earlier sealing.
    #[error("the row's sums are not those of this layer's columns")]
    CheckVector,
    /// The check vector held and the answer is still impossible.
    #[error(transparent)]
    Undecryptable(#[from] Undecryptable),
}

/// A checked row decrypted to more than |W|·|x| can be.
///
/// Checked sums are honest ones, so this is a failure of at most 2^-64 per output, or secrets
/// that do not belong to the bodies. It depends on decrypted values: never tell the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row decrypts to an impossible value; the layer's secrets do not fit its bodies")]
pub struct Undecryptable;
