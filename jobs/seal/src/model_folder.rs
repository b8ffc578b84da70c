//! A plain model on the owner's disk: weights and the small files that travel with them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use sealift_lora_adapter::{AdapterError, AdapterFiles, MergedModel};
use sealift_sealed_model::{FileName, NameError, SourceModel};

/// Small files that are published beside the weights, where the model has them.
const PUBLIC_FILES: [&str; 5] = [
    "config.json",
    "labels.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Largest small file: tokenizers of large vocabularies stay below.
const MAX_PUBLIC_FILE_BYTES: u64 = 256 << 20;

/// Why a model folder is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFolderError {
    /// The weights.
    #[error("the weights of `{}` are not usable", path.display())]
    Weights {
        /// The folder.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: Box<AdapterError>,
    },
    /// A small file.
    #[error("`{}` cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system answered.
        #[source]
        source: io::Error,
    },
    /// A small file that is not small.
    #[error("`{}` has {bytes} bytes; files beside the weights have at most 256 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A file name that cannot be published.
    #[error("a file name cannot be published")]
    Name(#[from] NameError),
}

/// An opened model folder.
pub struct ModelFolder {
    path: PathBuf,
    model: MergedModel,
}

impl ModelFolder {
    /// Opens the weights of the folder at `path`, with its adapter merged in.
    pub fn open(path: &Path) -> Result<Self, ModelFolderError> {
        let model = MergedModel::open(path).map_err(|source| ModelFolderError::Weights {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        Ok(Self {
            path: path.to_owned(),
            model,
        })
    }

    /// The weights.
    pub fn source(&self) -> &SourceModel {
        self.model.source()
    }

    /// The adapter that is in the weights.
    pub fn adapter(&self) -> Option<&AdapterFiles> {
        self.model.adapter()
    }

    /// The small files that are published as they are.
    pub fn public_files(&self) -> Result<BTreeMap<FileName, Vec<u8>>, ModelFolderError> {
        let mut files = BTreeMap::new();
        for name in PUBLIC_FILES {
            if let Some(bytes) = self.file(name)? {
                files.insert(name.parse()?, bytes);
            }
        }
        Ok(files)
    }

    /// A small file, if the model has it.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>, ModelFolderError> {
        let path = self.path.join(name);
        let failed = |source| ModelFolderError::File {
            path: path.clone(),
            source,
        };
        let bytes = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if bytes > MAX_PUBLIC_FILE_BYTES {
            return Err(ModelFolderError::TooLarge { path, bytes });
        }
        fs::read(&path).map(Some).map_err(failed)
    }
}
