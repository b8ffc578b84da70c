//! The integer form of a linear output head, y = W·x + b: int8 weights with a scale per row, int8
//! activations with a scale per item, exact integer sums.
//!
//! An encrypted head computes the same sums. What decrypts must therefore equal
//! [`QuantisedRows::integer_reference`] bit for bit, and what is released must equal
//! [`dequantise`] of it: this crate is the reference for both, without any model or key code.

mod activation;
mod rows;

pub use activation::{QuantisedActivation, ScaleRange, quantise_activation};
pub use rows::{QuantisedRows, dequantise, quantise_rows};

/// Largest absolute value of a quantised weight or activation. −128 is never used, so that the
/// range is symmetric and negation exact.
pub const MAX_ABS: i8 = 127;

/// Why a head or an activation has no integer form.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantiseError {
    /// Infinite or not a number.
    #[error("value {index} is not a finite number")]
    NotFinite {
        /// Place of the value, row by row.
        index: usize,
    },
    /// Weights that do not make whole rows.
    #[error("{values} weights do not make rows of {d_in}")]
    Shape {
        /// How many weights there are.
        values: usize,
        /// The width of a row.
        d_in: usize,
    },
    /// An activation or a bias of another width.
    #[error("expected {expected} values, found {found}")]
    Width {
        /// What the head has.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A range that holds no scale.
    #[error("a scale range runs from a positive number to a finite one that is not smaller")]
    Range,
    /// An activation too large for the scales that the head was sealed for.
    #[error("the activation needs scale {needed}, the head allows at most {most}")]
    ScaleOutOfRange {
        /// max|x| / 127.
        needed: f32,
        /// The end of the range.
        most: f32,
    },
}

/// Index of the first value that is not finite.
pub(crate) fn refuse_not_finite(values: &[f32]) -> Result<(), QuantiseError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(QuantiseError::NotFinite { index }),
        None => Ok(()),
    }
}

/// Largest absolute value; 0 for no values.
pub(crate) fn max_abs(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(0.0, |max: f32, value| max.max(value.abs()))
}

/// `value` in units of `scale`, rounded half away from zero and saturated at ±[`MAX_ABS`].
pub(crate) fn quantise(value: f32, scale: f32) -> i8 {
    let limit = f32::from(MAX_ABS);
    (value / scale).round().clamp(-limit, limit) as i8
}
