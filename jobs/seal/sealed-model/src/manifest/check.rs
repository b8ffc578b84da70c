//! What a manifest may not say.

use std::collections::{BTreeMap, BTreeSet};

use sealift_fhe_layer::LayerMeta;

use super::{FileRole, MANIFEST_FILE, Manifest, ManifestFile, ManifestTensor, Protection};
use crate::{
    dtype::Dtype,
    header::is_tensor_name,
    limits::{FILE_BYTES_MAX, FILES_MAX, JSON_INTEGER_MAX, RANK_MAX, TENSORS_MAX},
    signature::SIGNATURE_FILE,
};

/// Longest free text in bytes: the tool, the base model's name.
const TEXT_BYTES_MAX: usize = 512;

/// How a manifest contradicts itself or leaves the limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestProblem {
    /// A number that canonical JSON cannot hold.
    #[error("{0} is above 2^53 - 1")]
    Number(&'static str),
    /// A text that is empty, too long or has control characters.
    #[error("{0} is empty, longer than 512 bytes or has control characters")]
    Text(&'static str),
    /// More than [`TENSORS_MAX`] tensors or [`FILES_MAX`] files.
    #[error("it names {0} {1}, more than the limit")]
    TooMany(usize, &'static str),
    /// Files not by ascending name, or one twice.
    #[error("its files are not listed once each by ascending name, at `{0}`")]
    FileOrder(String),
    /// A file that no manifest can list.
    #[error("it lists `{0}`, which it cannot know the digest of")]
    ReservedFile(String),
    /// A file beyond [`FILE_BYTES_MAX`].
    #[error("`{0}` is larger than 2^48 bytes")]
    FileTooLarge(String),
    /// Two tensors of one name.
    #[error("it lists tensor `{0}` twice")]
    DuplicateTensor(String),
    /// A tensor beyond the limits of the container.
    #[error("tensor `{0}` has a name, rank or shape beyond the limits")]
    Tensor(String),
    /// A tensor in a file that is not listed, or not of the right role.
    #[error("tensor `{tensor}` is `{protection}` but `{file}` is no listed file for such tensors")]
    TensorFile {
        /// The tensor.
        tensor: String,
        /// Its protection.
        protection: Protection,
        /// The file.
        file: String,
    },
    /// Tensors of one file are not together.
    #[error("the tensors of `{0}` do not stand together")]
    Scattered(String),
    /// A tensor file without tensors.
    #[error("`{0}` is a tensor file but no tensor stands in it")]
    EmptyFile(String),
    /// A root where none belongs, or none where one belongs.
    #[error("tensor `{0}`: `plain` and `fhe` tensors have a chunks_root, `sealed` ones do not")]
    ChunksRoot(String),
    /// `fhe` tensors and layers do not match one to one.
    #[error("the `fhe` tensor or layer `{0}` has no counterpart of the same shape")]
    FheLayer(String),
    /// Layers not by ascending name, or one twice.
    #[error("its `fhe` layers are not listed once each by ascending name, at `{0}`")]
    FheOrder(String),
    /// Two layers under one mask seed.
    #[error("the `fhe` layers `{0}` and `{1}` share a mask seed")]
    SharedMaskSeed(String, String),
    /// Not exactly one protection report with the right digest.
    #[error("it does not list exactly one report, with the digest report_sha256")]
    Report,
}

impl Manifest {
    pub(super) fn check(&self) -> Result<(), ManifestProblem> {
        self.check_values()?;
        self.check_files()?;
        self.check_tensors()?;
        self.check_fhe()
    }

    fn check_values(&self) -> Result<(), ManifestProblem> {
        for (name, value) in [
            ("serial", self.serial),
            ("revision", self.revision),
            ("created", self.created),
            ("output_head.outputs", self.output_head.outputs),
        ] {
            if value > JSON_INTEGER_MAX {
                return Err(ManifestProblem::Number(name));
            }
        }
        let base = self.base.as_ref().map(|base| ("base.name", &base.name));
        for (name, text) in [
            ("tool", &self.tool),
            ("output_head.layer", &self.output_head.layer),
        ]
        .into_iter()
        .chain(base)
        {
            if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control)
            {
                return Err(ManifestProblem::Text(name));
            }
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), ManifestProblem> {
        if self.files.len() > FILES_MAX {
            return Err(ManifestProblem::TooMany(self.files.len(), "files"));
        }
        for pair in self.files.windows(2) {
            if pair[0].name >= pair[1].name {
                return Err(ManifestProblem::FileOrder(pair[1].name.to_string()));
            }
        }
        for ManifestFile { name, bytes, .. } in &self.files {
            if [MANIFEST_FILE, SIGNATURE_FILE].contains(&name.as_str()) {
                return Err(ManifestProblem::ReservedFile(name.to_string()));
            }
            if *bytes > FILE_BYTES_MAX {
                return Err(ManifestProblem::FileTooLarge(name.to_string()));
            }
        }
        let mut reports = self
            .files
            .iter()
            .filter(|file| file.role == FileRole::Report);
        match (reports.next(), reports.next()) {
            (Some(report), None) if report.sha256 == self.report_sha256 => Ok(()),
            _ => Err(ManifestProblem::Report),
        }
    }

    fn check_tensors(&self) -> Result<(), ManifestProblem> {
        if self.tensors.len() > TENSORS_MAX {
            return Err(ManifestProblem::TooMany(self.tensors.len(), "tensors"));
        }
        let roles: BTreeMap<_, _> = self
            .files
            .iter()
            .map(|file| (&file.name, file.role))
            .collect();
        let (mut names, mut begun) = (BTreeSet::new(), BTreeSet::new());
        let mut last = None;
        for tensor in &self.tensors {
            check_tensor(tensor)?;
            if !names.insert(&tensor.name) {
                return Err(ManifestProblem::DuplicateTensor(tensor.name.clone()));
            }
            let role = match tensor.protection {
                Protection::Plain | Protection::Sealed => FileRole::Weights,
                Protection::Fhe => FileRole::Fhe,
            };
            if roles.get(&tensor.file) != Some(&role) {
                return Err(ManifestProblem::TensorFile {
                    tensor: tensor.name.clone(),
                    protection: tensor.protection,
                    file: tensor.file.to_string(),
                });
            }
            if last.replace(&tensor.file) != Some(&tensor.file) && !begun.insert(&tensor.file) {
                return Err(ManifestProblem::Scattered(tensor.file.to_string()));
            }
        }
        let empty = roles.iter().find(|(name, role)| {
            matches!(role, FileRole::Weights | FileRole::Fhe) && !begun.contains(*name)
        });
        empty.map_or(Ok(()), |(name, _)| {
            Err(ManifestProblem::EmptyFile(name.to_string()))
        })
    }

    fn check_fhe(&self) -> Result<(), ManifestProblem> {
        let mut bodies: BTreeMap<_, _> = self
            .tensors
            .iter()
            .filter(|tensor| tensor.protection == Protection::Fhe)
            .map(|tensor| (tensor.name.as_str(), tensor))
            .collect();
        for pair in self.fhe.windows(2) {
            if pair[0].layer() >= pair[1].layer() {
                return Err(ManifestProblem::FheOrder(pair[1].layer().to_owned()));
            }
        }
        let mut seeds = BTreeMap::new();
        for layer in &self.fhe {
            if !bodies
                .remove(body_name(layer.layer()).as_str())
                .is_some_and(|body| holds(body, layer))
            {
                return Err(ManifestProblem::FheLayer(layer.layer().to_owned()));
            }
            if let Some(first) = seeds.insert(*layer.mask_seed().as_bytes(), layer.layer()) {
                let second = layer.layer().to_owned();
                return Err(ManifestProblem::SharedMaskSeed(first.to_owned(), second));
            }
        }
        match bodies.into_keys().next() {
            Some(surplus) => Err(ManifestProblem::FheLayer(surplus.to_owned())),
            None => Ok(()),
        }
    }
}

/// The tensor that holds the body of the `fhe` layer `layer`.
pub(crate) fn body_name(layer: &str) -> String {
    format!("{layer}.body")
}

fn check_tensor(tensor: &ManifestTensor) -> Result<(), ManifestProblem> {
    let named = is_tensor_name(&tensor.name);
    let shaped = tensor.shape.len() <= RANK_MAX
        && tensor.shape.iter().all(|&side| side <= JSON_INTEGER_MAX)
        && tensor
            .dtype
            .tensor_bytes(&tensor.shape)
            .is_some_and(|bytes| bytes <= FILE_BYTES_MAX);
    if !(named && shaped) {
        return Err(ManifestProblem::Tensor(tensor.name.clone()));
    }
    if tensor.chunks_root.is_some() == (tensor.protection == Protection::Sealed) {
        return Err(ManifestProblem::ChunksRoot(tensor.name.clone()));
    }
    Ok(())
}

fn holds(body: &ManifestTensor, layer: &LayerMeta) -> bool {
    body.dtype == Dtype::U8 && body.shape == layer.body_shape().map(|side| side as u64)
}
