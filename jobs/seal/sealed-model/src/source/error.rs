//! Why a plain model was refused.

use std::{io, path::PathBuf};

use crate::{
    header::HeaderError,
    name::{FileName, NameError},
};

/// Why a plain model was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Neither of the two conventional files.
    #[error("`{}` has neither `model.safetensors` nor `model.safetensors.index.json`", .0.display())]
    NoModel(PathBuf),
    /// Both conventional files, which may disagree.
    #[error("`{}` has both `model.safetensors` and `model.safetensors.index.json`; remove the one that is not meant", .0.display())]
    TwoModels(PathBuf),
    /// A file could not be opened or read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A file is not a good safetensors file.
    #[error("`{file}` is not a good safetensors file")]
    Header {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: HeaderError,
    },
    /// The index is not the JSON of an index.
    #[error("`model.safetensors.index.json` is not an index of tensors")]
    Index(#[source] serde_json::Error),
    /// The index names something that is no file of the folder.
    #[error("`model.safetensors.index.json` names a file that cannot be one")]
    IndexFile(#[source] NameError),
    /// Too many shards.
    #[error("the model has {0} files, more than the limit of 4,096")]
    TooManyFiles(usize),
    /// Too many tensors over all shards.
    #[error("the model has {0} tensors, more than the limit of 65,536")]
    TooManyTensors(usize),
    /// Two files have a tensor of one name.
    #[error("tensor `{tensor}` stands in `{first}` and in `{second}`")]
    TensorInTwoFiles {
        /// The tensor.
        tensor: String,
        /// One file.
        first: FileName,
        /// The other.
        second: FileName,
    },
    /// The index and the files disagree.
    #[error("the index says that tensor `{tensor}` stands in `{file}`, which does not have it")]
    NotWhereIndexed {
        /// The tensor.
        tensor: String,
        /// The file by the index.
        file: FileName,
    },
    /// A file has a tensor that the index leaves out.
    #[error("`{file}` has the tensor `{tensor}`, which the index does not name")]
    NotIndexed {
        /// The tensor.
        tensor: String,
        /// The file.
        file: FileName,
    },
    /// A tensor that is needed is absent.
    #[error("the model has no tensor `{tensor}`{}", tied_to.as_ref().map(|twin| format!(" and none `{twin}` that it could be tied to")).unwrap_or_default())]
    Missing {
        /// The tensor.
        tensor: String,
        /// The tensor that could stand in for it.
        tied_to: Option<String>,
    },
    /// A weight is NaN or infinite.
    #[error(
        "`{file}`: element {index} of tensor `{tensor}` is NaN or infinite; the training went wrong"
    )]
    NotFinite {
        /// The file.
        file: FileName,
        /// The tensor.
        tensor: String,
        /// Index of the first such element.
        index: u64,
    },
    /// A body that is put in the place of another one of a different length.
    #[error("{found} bytes were given for tensor `{tensor}`, which has {expected}")]
    BodyLength {
        /// The tensor.
        tensor: String,
        /// Bytes given.
        found: u64,
        /// Bytes by its type and shape.
        expected: u64,
    },
}
