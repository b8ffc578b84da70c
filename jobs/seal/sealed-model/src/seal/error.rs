//! Why a model was not sealed.

use std::io;

use crate::{
    draft_folder::FolderError, manifest::ManifestError, name::FileName, source::SourceError,
};

/// Why a model was not sealed. Nothing is left of an attempt that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The plain model.
    #[error("the plain model is refused")]
    Source(#[source] SourceError),
    /// A tensor without a plan.
    #[error(
        "the protection plan does not say how to protect tensor `{0}`; every tensor is named, there is no default"
    )]
    NotPlanned(String),
    /// A plan without a tensor.
    #[error(
        "the protection plan names tensor `{0}`, which the model does not have; is it tied to another?"
    )]
    NoSuchTensor(String),
    /// An `fhe` tensor that no encrypted layer stands for.
    #[error(
        "the protection plan says `fhe` for tensor `{0}`, but no encrypted layer stands for it"
    )]
    NotEncrypted(String),
    /// An encrypted layer that stands for something else.
    #[error(
        "the encrypted layer `{layer}` stands for tensor `{tensor}`, which is not planned as `fhe` or has another layer already"
    )]
    FheReplaces {
        /// The layer.
        layer: String,
        /// The tensor.
        tensor: String,
    },
    /// An encrypted layer of the wrong size.
    #[error(
        "the body of the encrypted layer `{layer}` has {found} bytes where its shape needs {expected}"
    )]
    FheBody {
        /// The layer.
        layer: String,
        /// Bytes given.
        found: u64,
        /// Bytes by the shape.
        expected: u64,
    },
    /// Protected weights that also stand in a plain tensor.
    #[error(
        "tensor `{hidden}` is to be protected but `{plain}` publishes the same weights; protect both alike"
    )]
    ExposedTwin {
        /// The protected one.
        hidden: String,
        /// The plain one.
        plain: String,
    },
    /// A public file under a name that is taken.
    #[error("a public file cannot be named `{0}`; the version has a file of that name")]
    FileName(FileName),
    /// A public file beyond the limit.
    #[error("the public file `{0}` is larger than 256 MiB; tensors belong into safetensors files")]
    PublicFileTooLarge(FileName),
    /// A file beyond 2^48 bytes.
    #[error("the file that would hold tensor `{0}` is larger than 2^48 bytes; shard the model")]
    FileTooLarge(String),
    /// A header beyond the limit of safetensors.
    #[error("the header would have {0} bytes, more than the limit of 100,000,000; shard the model")]
    HeaderTooLarge(usize),
    /// A tensor with more chunks than the counter has room for.
    #[error("tensor `{0}` has more than 2^31 chunks; take a larger chunk size")]
    TooManyChunks(String),
    /// The version's facts do not fit together.
    #[error("the version cannot be described")]
    Manifest(#[source] ManifestError),
    /// The folder.
    #[error("the version's folder cannot be written")]
    Folder(#[source] FolderError),
    /// A file could not be written.
    #[error("cannot write the sealed model")]
    Write(#[source] io::Error),
    /// The caller asked to stop.
    #[error("sealing was cancelled")]
    Cancelled,
}
