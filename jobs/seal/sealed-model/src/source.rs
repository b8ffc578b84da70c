//! The plain safetensors model that is going to be sealed.

mod error;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::Path,
};

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use zeroize::Zeroizing;

use crate::{
    dtype::Dtype,
    finite::first_non_finite,
    header::{Header, TensorEntry},
    limits::{FILES_MAX, TENSORS_MAX},
    name::FileName,
    range_read::{FileRange, RangeRead, ReplacedRange, read_whole},
};

pub use error::SourceError;

/// The one file of an unsharded model, by the convention of `transformers`.
const SINGLE_FILE: &str = "model.safetensors";

/// The list of a sharded model's files, by the same convention.
const INDEX_FILE: &str = "model.safetensors.index.json";

/// Largest index in bytes: some 200 for each of 65,536 tensors.
const INDEX_BYTES_MAX: u64 = 16 << 20;

/// What is read at once when a whole tensor is scanned.
const SCAN_BYTES: usize = 1 << 20;

/// A plain model whose headers are checked: every file, every tensor, and the index if it has
/// one.
pub struct SourceModel {
    files: Vec<SourceFile>,
    index: BTreeMap<String, (usize, usize)>,
}

/// One safetensors file of a plain model.
pub struct SourceFile {
    name: FileName,
    content: Box<dyn RangeRead>,
    header: Header,
}

/// One tensor of a plain model.
#[derive(Clone, Copy)]
pub struct SourceTensor<'a> {
    /// The file that holds it.
    pub file: &'a SourceFile,
    /// Name, type, shape and place.
    pub entry: &'a TensorEntry,
}

/// A tensor that an architecture needs.
#[derive(Clone, Copy, Debug)]
pub struct RequiredTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// The tensor whose weights it shares where the file leaves it out, such as the token
    /// embedding for a language model's head.
    pub tied_to: Option<&'a str>,
}

impl SourceModel {
    /// Opens one `.safetensors` file, or a folder with `model.safetensors` or the files of a
    /// `model.safetensors.index.json`.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        if !path.is_dir() {
            let file_name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let name = file_name.parse().map_err(SourceError::IndexFile)?;
            return Self::from_files(vec![(name, open_file(path)?)]);
        }
        let index = path.join(INDEX_FILE);
        match (path.join(SINGLE_FILE).exists(), index.exists()) {
            (true, false) => Self::open(&path.join(SINGLE_FILE)),
            (false, true) => Self::open_sharded(path, &index),
            (true, true) => Err(SourceError::TwoModels(path.to_owned())),
            (false, false) => Err(SourceError::NoModel(path.to_owned())),
        }
    }

    /// Takes files that are open already, in the order given.
    pub fn from_files(files: Vec<(FileName, Box<dyn RangeRead>)>) -> Result<Self, SourceError> {
        if files.len() > FILES_MAX {
            return Err(SourceError::TooManyFiles(files.len()));
        }
        let mut model = Self {
            files: Vec::new(),
            index: BTreeMap::new(),
        };
        for (name, content) in files {
            let header = Header::read(content.as_ref()).map_err(|source| SourceError::Header {
                file: name.to_string(),
                source,
            })?;
            model.add(SourceFile {
                name,
                content,
                header,
            })?;
        }
        Ok(model)
    }

    fn add(&mut self, file: SourceFile) -> Result<(), SourceError> {
        for (place, entry) in file.header.tensors().iter().enumerate() {
            let place = (self.files.len(), place);
            if let Some((first, _)) = self.index.insert(entry.name.clone(), place) {
                return Err(SourceError::TensorInTwoFiles {
                    tensor: entry.name.clone(),
                    first: self.files[first].name.clone(),
                    second: file.name,
                });
            }
        }
        if self.index.len() > TENSORS_MAX {
            return Err(SourceError::TooManyTensors(self.index.len()));
        }
        self.files.push(file);
        Ok(())
    }

    fn open_sharded(folder: &Path, index: &Path) -> Result<Self, SourceError> {
        let read = |source| SourceError::Read {
            path: index.to_owned(),
            source,
        };
        let file = File::open(index).and_then(FileRange::new).map_err(read)?;
        let bytes = read_whole(&file, INDEX_BYTES_MAX).map_err(read)?;
        let index: Index = serde_json::from_slice(&bytes).map_err(SourceError::Index)?;
        let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        let mut files = Vec::new();
        for name in names {
            let name: FileName = name.parse().map_err(SourceError::IndexFile)?;
            let content = open_file(&folder.join(name.as_str()))?;
            files.push((name, content));
        }
        let model = Self::from_files(files)?;
        model.check_index(&index)?;
        Ok(model)
    }

    fn check_index(&self, index: &Index) -> Result<(), SourceError> {
        for (tensor, file) in &index.weight_map {
            let found = self
                .tensor(tensor)
                .is_some_and(|found| found.file.name.as_str() == file);
            if !found {
                return Err(SourceError::NotWhereIndexed {
                    tensor: tensor.clone(),
                    file: file.parse().map_err(SourceError::IndexFile)?,
                });
            }
        }
        match self
            .tensors()
            .find(|tensor| !index.weight_map.contains_key(&tensor.entry.name))
        {
            None => Ok(()),
            Some(SourceTensor { file, entry }) => Err(SourceError::NotIndexed {
                tensor: entry.name.clone(),
                file: file.name.clone(),
            }),
        }
    }

    /// The model with another body for the tensor `name`, of the same length. It is held in
    /// memory; the file stays as it is.
    pub fn with_body(mut self, name: &str, bytes: Zeroizing<Vec<u8>>) -> Result<Self, SourceError> {
        let Some(&(file, place)) = self.index.get(name) else {
            return Err(SourceError::Missing {
                tensor: name.to_owned(),
                tied_to: None,
            });
        };
        let SourceFile {
            header, content, ..
        } = &mut self.files[file];
        let entry = &header.tensors()[place];
        if bytes.len() as u64 != entry.bytes() {
            return Err(SourceError::BodyLength {
                tensor: name.to_owned(),
                found: bytes.len() as u64,
                expected: entry.bytes(),
            });
        }
        let begin = header.body_begin() + entry.begin;
        let inner = std::mem::replace(content, Box::new(Bytes::new()));
        *content = Box::new(ReplacedRange {
            content: inner,
            begin,
            bytes,
        });
        Ok(self)
    }

    /// The files, in the order of their names for a sharded model.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Every tensor, file by file in the order of their bodies.
    pub fn tensors(&self) -> impl Iterator<Item = SourceTensor<'_>> {
        self.files.iter().flat_map(|file| {
            file.header
                .tensors()
                .iter()
                .map(move |entry| SourceTensor { file, entry })
        })
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<SourceTensor<'_>> {
        let &(file, place) = self.index.get(name)?;
        let file = &self.files[file];
        Some(SourceTensor {
            file,
            entry: &file.header.tensors()[place],
        })
    }

    /// Checks that every required tensor is there or tied to one that is, and returns the pairs
    /// (absent tensor, the one it is tied to).
    pub fn require_tensors<'a>(
        &self,
        required: &[RequiredTensor<'a>],
    ) -> Result<Vec<(&'a str, &'a str)>, SourceError> {
        let mut tied = Vec::new();
        for &RequiredTensor { name, tied_to } in required {
            match tied_to {
                _ if self.tensor(name).is_some() => {}
                Some(twin) if self.tensor(twin).is_some() => tied.push((name, twin)),
                _ => {
                    return Err(SourceError::Missing {
                        tensor: name.to_owned(),
                        tied_to: tied_to.map(ToOwned::to_owned),
                    });
                }
            }
        }
        Ok(tied)
    }

    /// Reads every floating-point weight and refuses the first that is NaN or infinite.
    pub fn require_finite(&self) -> Result<(), SourceError> {
        let mut buffer = Zeroizing::new(vec![0; SCAN_BYTES]);
        for tensor in self.tensors() {
            let mut at = 0;
            while at < tensor.entry.bytes() {
                let length = (tensor.entry.bytes() - at).min(SCAN_BYTES as u64) as usize;
                let part = &mut buffer[..length];
                tensor.read_part(part, at)?;
                tensor.check_finite(part, at)?;
                at += length as u64;
            }
        }
        Ok(())
    }
}

impl SourceFile {
    /// The file's name.
    pub fn name(&self) -> &FileName {
        &self.name
    }

    /// The file's checked header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The tensor that `entry` of this file's header describes.
    pub(crate) fn tensor_at<'a>(&'a self, entry: &'a TensorEntry) -> SourceTensor<'a> {
        SourceTensor { file: self, entry }
    }

    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        self.content
            .read_exact_at(buffer, offset)
            .map_err(|source| SourceError::Read {
                path: self.name.as_str().into(),
                source,
            })
    }
}

impl SourceTensor<'_> {
    /// Reads the whole body.
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        let mut bytes = Zeroizing::new(vec![0; self.entry.bytes() as usize]);
        self.read_part(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Fills `buffer` from `offset` of the body.
    pub fn read_part(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        self.file.read_at(buffer, self.file_offset() + offset)
    }

    /// Where the body begins in the file.
    pub(crate) fn file_offset(&self) -> u64 {
        self.file.header.body_begin() + self.entry.begin
    }

    /// Refuses a part of the body, which begins at `offset`, that holds NaN or infinity.
    pub(crate) fn check_finite(&self, part: &[u8], offset: u64) -> Result<(), SourceError> {
        let Some(index) = first_non_finite(self.entry.dtype, part) else {
            return Ok(());
        };
        Err(SourceError::NotFinite {
            file: self.file.name.clone(),
            tensor: self.entry.name.clone(),
            index: offset * 8 / self.entry.dtype.bits() + index as u64,
        })
    }

    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.entry.dtype
    }
}

fn open_file(path: &Path) -> Result<Box<dyn RangeRead>, SourceError> {
    let read = |source| SourceError::Read {
        path: path.to_owned(),
        source,
    };
    Ok(Box::new(
        File::open(path).and_then(FileRange::new).map_err(read)?,
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    #[serde(rename = "metadata", default)]
    _metadata: Option<IgnoredAny>,
    weight_map: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;
