//! Why a header was refused.

use crate::dtype::Dtype;

/// Why a file's header was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file could not be read there.
    #[error("the header cannot be read")]
    Read(#[source] std::io::Error),
    /// Shorter than a header's length and `{}`.
    #[error("the file has {0} bytes, which is too few for a safetensors header")]
    TooShort(u64),
    /// Beyond [`FILE_BYTES_MAX`].
    #[error("the file has {0} bytes, more than the limit of 2^48")]
    FileTooLarge(u64),
    /// Beyond [`HEADER_BYTES_MAX`].
    #[error("the header claims {0} bytes, more than the limit of 100,000,000")]
    TooLarge(u64),
    /// The length leads beyond the end of the file.
    #[error(
        "the header claims {claimed} bytes but the file ends after {held}; it is truncated or not a safetensors file"
    )]
    Truncated {
        /// Bytes that the length says.
        claimed: u64,
        /// Bytes after the length.
        held: u64,
    },
    /// Not a header's JSON.
    #[error("the header is not safetensors JSON")]
    Json(#[source] serde_json::Error),
    /// Two members of one name.
    #[error("the header names `{0}` twice")]
    Duplicate(String),
    /// Beyond [`TENSORS_MAX`].
    #[error("the header names {0} tensors, more than the limit of 65,536")]
    TooManyTensors(usize),
    /// Empty, too long, or with control characters.
    #[error("the tensor name {0:?} is empty, longer than 512 bytes or has control characters")]
    TensorName(String),
    /// Beyond [`RANK_MAX`].
    #[error("tensor `{tensor}` has {rank} dimensions, more than the limit of 8")]
    Rank {
        /// The tensor.
        tensor: String,
        /// Its dimensions.
        rank: usize,
    },
    /// Type × shape overflows or is no whole number of bytes.
    #[error("tensor `{tensor}`: {dtype} × {shape:?} is no whole number of bytes below 2^64")]
    Size {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// Type × shape is not the length of the body.
    #[error(
        "tensor `{tensor}` needs {needed} bytes by type and shape, but its offsets hold {held}"
    )]
    Length {
        /// The tensor.
        tensor: String,
        /// Bytes by type and shape.
        needed: u64,
        /// Bytes by offsets.
        held: u64,
    },
    /// A gap, an overlap, or an end before the begin.
    #[error(
        "tensor `{tensor}` begins at {begin} where the one before ends at {expected}; bodies may neither overlap nor leave gaps"
    )]
    Offsets {
        /// The tensor.
        tensor: String,
        /// Where it begins.
        begin: u64,
        /// Where it has to begin.
        expected: u64,
    },
    /// The last body does not end the file.
    #[error("the tensors need a file of {needed} bytes, but it has {held}; it is truncated or has something appended{}", last.as_ref().map(|tensor| format!(" (the last tensor is `{tensor}`)")).unwrap_or_default())]
    FileLength {
        /// Bytes by the header.
        needed: u64,
        /// Bytes of the file.
        held: u64,
        /// The tensor whose body ends the file.
        last: Option<String>,
    },
}
