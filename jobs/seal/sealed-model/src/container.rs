//! The container of tensors: safetensors files with signed headers, sealed bodies in the form of
//! CryptoTensors version 2 (arXiv 2512.04580; crate and package `cryptotensors` 0.2.3).
//!
//! Stock tools open what is written here. What is read here is held to more than stock tools ask:
//! everything in a header follows from the manifest or is a key, a tag or the signature, and the
//! header has one byte form.

pub(crate) mod bodies;
pub(crate) mod body;
pub(crate) mod facts;
pub(crate) mod metadata;
pub(crate) mod read;
mod secret_body;
pub(crate) mod write;

use crate::{
    dtype::Dtype,
    header::HeaderError,
    limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN},
};

/// Bytes of a sealed tensor that are encrypted together, [`CHUNK_BYTES_MIN`] to
/// [`CHUNK_BYTES_MAX`] and whole elements of every type but those of 6 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSize(u64);

impl ChunkSize {
    /// The size of `bytes`, if it is one.
    pub fn new(bytes: u64) -> Option<Self> {
        ((CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(8))
            .then_some(Self(bytes))
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Chunks of a body; an empty body has one.
    pub(crate) fn count(self, body_bytes: u64) -> u64 {
        body_bytes.div_ceil(self.0).max(1)
    }
}

impl Default for ChunkSize {
    fn default() -> Self {
        Self(crate::limits::CHUNK_BYTES_DEFAULT)
    }
}

/// Why a tensor file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// Not a safetensors file.
    #[error("its header is refused")]
    Header(#[source] HeaderError),
    /// A body could not be read.
    #[error("tensor `{tensor}` cannot be read")]
    Read {
        /// The tensor.
        tensor: String,
        /// What the file system or store answered.
        #[source]
        source: std::io::Error,
    },
    /// The file's length is not the manifest's.
    #[error("it has {found} bytes where the manifest says {expected}")]
    FileLength {
        /// Bytes found.
        found: u64,
        /// Bytes by the manifest.
        expected: u64,
    },
    /// The header says the right things in other bytes.
    #[error("its header is not in the one form that is signed")]
    NotCanonical,
    /// No `__metadata__` or no `__signature__` in it.
    #[error("its header has no signature")]
    Unsigned,
    /// Signed by another key than the manifest's header key, or changed since.
    #[error("its header is not signed by the header key that the manifest names")]
    Signature,
    /// A member of `__metadata__` is missing.
    #[error("its header lacks `{0}`, which the manifest calls for")]
    MissingMember(&'static str),
    /// Sealed by the manifest, plain by the header.
    #[error("tensor `{0}` is sealed by the manifest but the file has no key for it")]
    Downgraded(String),
    /// A member of `__metadata__` that no file of ours, or not this one, has.
    #[error("its header has the member `{0}`, which does not belong there")]
    SurplusMember(String),
    /// A member that says something else than the manifest.
    #[error("`{member}` in its header disagrees with the manifest")]
    Disagrees {
        /// The member.
        member: String,
    },
    /// A tensor that the manifest has not, or not in this place.
    #[error("its header has tensor `{found}` where the manifest has {}", expected.as_ref().map_or_else(|| "none".to_owned(), |name| format!("`{name}`")))]
    UnexpectedTensor {
        /// The tensor by the header.
        found: String,
        /// The tensor by the manifest.
        expected: Option<String>,
    },
    /// A tensor that only the manifest has.
    #[error("its header lacks tensor `{0}` of the manifest")]
    MissingTensor(String),
    /// A tensor of another type or shape.
    #[error("tensor `{tensor}` is {found:?} by its header but {expected:?} by the manifest")]
    TensorForm {
        /// The tensor.
        tensor: String,
        /// Type and shape by the header.
        found: (Dtype, Vec<u64>),
        /// Type and shape by the manifest.
        expected: (Dtype, Vec<u64>),
    },
    /// A metadata member that is not the JSON it has to be.
    #[error("`{member}` in its header is malformed")]
    Malformed {
        /// The member.
        member: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// CryptoTensors version 1, or one that does not exist.
    #[error("it is of CryptoTensors version `{0}`; only version 2 is read")]
    Version(String),
    /// A cipher or signature algorithm other than the two in use.
    #[error("its header asks for `{found}` where only `{expected}` is accepted")]
    Algorithm {
        /// What the header says.
        found: String,
        /// What it has to say.
        expected: &'static str,
    },
    /// A place to fetch keys from.
    #[error(
        "its header names `{0}` as a place to fetch keys from; keys come from the key manager alone"
    )]
    KeyUrl(String),
    /// A name of a key that is not this version's.
    #[error("its header names the key `{found}` where `{expected}` belongs")]
    KeyName {
        /// The name in the header.
        found: String,
        /// This version's name.
        expected: String,
    },
    /// A chunk size out of bounds.
    #[error("its chunks of {0} bytes are not 64 KiB to 64 MiB in steps of 8")]
    ChunkSize(u64),
    /// A policy that is not the fixed one.
    #[error("its `__policy__` is not the one fixed policy")]
    Policy,
    /// `iv` or `tag` of version 1.
    #[error("tensor `{0}` has `iv` or `tag`, which belong to version 1")]
    MonolithicMember(String),
    /// A key, IV or tag that is not base64 of the right length.
    #[error("tensor `{tensor}`: `{member}` is not base64 of the right length")]
    Encoding {
        /// The tensor.
        tensor: String,
        /// The member.
        member: &'static str,
    },
    /// Surplus or missing tags.
    #[error("tensor `{tensor}` has {found} bytes of tags where its chunks need {expected}")]
    Tags {
        /// The tensor.
        tensor: String,
        /// Bytes found.
        found: usize,
        /// Bytes needed.
        expected: u64,
    },
    /// The chunk counter would start again.
    #[error("tensor `{0}` has a base IV that its chunks would wrap")]
    CounterWrap(String),
    /// The data key does not open under the KEK.
    #[error("the key of tensor `{0}` does not open under this version's KEK")]
    KeyUnwrap(String),
    /// Two tensors under one data key.
    #[error("tensors `{0}` and `{1}` share a data key")]
    SharedKey(String, String),
    /// Two tensors with one base IV, or two data keys wrapped under one IV.
    #[error("tensors `{0}` and `{1}` share an initialization vector")]
    SharedIv(String, String),
    /// A chunk was changed, swapped or cut.
    #[error("chunk {chunk} of tensor `{tensor}` is not what was sealed")]
    ChunkTag {
        /// The tensor.
        tensor: String,
        /// Index of the chunk.
        chunk: u64,
    },
    /// A `plain` or `fhe` body was changed.
    #[error("the body of tensor `{0}` is not what the manifest says")]
    ChunksRoot(String),
    /// A body that is not that of its layer. The manifest's own check leaves none such.
    #[error("the body of tensor `{tensor}` does not make its layer")]
    Layer {
        /// The tensor.
        tensor: String,
        /// What does not fit.
        #[source]
        source: sealift_fhe_layer::BodyError,
    },
    /// The model does not fit into memory.
    #[error("there is no memory for the {bytes} bytes of tensor `{tensor}`")]
    Memory {
        /// The tensor.
        tensor: String,
        /// Its bytes.
        bytes: u64,
    },
}
