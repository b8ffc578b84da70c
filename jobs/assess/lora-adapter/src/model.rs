//! A model folder whose adapter, if it has one, is merged into the output layer.

use std::{collections::BTreeMap, fs, io, path::Path};

use sealift_output_layer::{Head, OutputLayer, matrix_shape};
use sealift_sealed_model::{Dtype, SourceModel, SourceTensor};
use sealift_signed_document::{Digest, DigestWriter};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    AdapterError,
    config::Config,
    merge::{Rows, add_product},
};

/// The model's configuration in its folder.
const CONFIG_FILE: &str = "config.json";

/// PEFT's two files beside a model.
const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";
const ADAPTER_WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// What PEFT writes before the name of a layer.
const PREFIX: &str = "base_model.model.";

/// Largest configuration that is read.
const MAX_CONFIG_BYTES: u64 = 256 << 20;

/// Bytes of an adapter that are hashed at once.
const HASHED_BYTES: usize = 1 << 20;

/// Which adapter was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterFiles {
    /// SHA-256 of `adapter_config.json`.
    pub config_sha256: Digest,
    /// SHA-256 of `adapter_model.safetensors`.
    pub weights_sha256: Digest,
}

/// The weights of a model folder, with its adapter merged in.
///
/// Merged tensors stand in memory; everything else is read from the files when it is used.
pub struct MergedModel {
    source: SourceModel,
    adapter: Option<AdapterFiles>,
}

impl MergedModel {
    /// Opens a folder as [`SourceModel::open`] does. An adapter beside the weights is merged into
    /// the output layer that `config.json` describes.
    pub fn open(folder: &Path) -> Result<Self, AdapterError> {
        let source = SourceModel::open(folder).map_err(AdapterError::Model)?;
        match adapter_config(folder)? {
            None => Ok(Self {
                source,
                adapter: None,
            }),
            Some(config) => Self::merge(folder, source, &config),
        }
    }

    /// The weights.
    pub fn source(&self) -> &SourceModel {
        &self.source
    }

    /// Which adapter is in the weights.
    pub fn adapter(&self) -> Option<&AdapterFiles> {
        self.adapter.as_ref()
    }

    fn merge(folder: &Path, source: SourceModel, config: &[u8]) -> Result<Self, AdapterError> {
        let model_config = small_file(folder, CONFIG_FILE)?.unwrap_or_default();
        let layer = OutputLayer::from_config(&model_config).map_err(AdapterError::Config)?;
        let path = folder.join(ADAPTER_WEIGHTS_FILE);
        let weights_sha256 = file_digest(&path)?;
        let adapter = Adapter {
            config: Config::parse(config)?,
            weights: SourceModel::open(&path).map_err(AdapterError::Weights)?,
        };
        adapter.refuse_inner_layers(&layer)?;
        let mut merged = source;
        for (tensor, values) in adapter.changes(&merged, &layer)? {
            merged = merged
                .with_body(&tensor, little_endian(&values))
                .map_err(AdapterError::Model)?;
        }
        Ok(Self {
            source: merged,
            adapter: Some(AdapterFiles {
                config_sha256: Digest::of(config),
                weights_sha256,
            }),
        })
    }
}

/// The adapter's configuration, if there is an adapter.
fn adapter_config(folder: &Path) -> Result<Option<Vec<u8>>, AdapterError> {
    let config = small_file(folder, ADAPTER_CONFIG_FILE)?;
    let weights = folder.join(ADAPTER_WEIGHTS_FILE).exists();
    match (config, weights) {
        (Some(config), true) => Ok(Some(config)),
        (None, false) => Ok(None),
        (Some(_), false) => Err(AdapterError::Half {
            found: ADAPTER_CONFIG_FILE,
            missing: ADAPTER_WEIGHTS_FILE,
        }),
        (None, true) => Err(AdapterError::Half {
            found: ADAPTER_WEIGHTS_FILE,
            missing: ADAPTER_CONFIG_FILE,
        }),
    }
}

fn small_file(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, AdapterError> {
    let path = folder.join(name);
    let bytes = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(AdapterError::File { path, source }),
    };
    if bytes > MAX_CONFIG_BYTES {
        return Err(AdapterError::TooLarge { path, bytes });
    }
    fs::read(&path)
        .map(Some)
        .map_err(|source| AdapterError::File { path, source })
}

fn file_digest(path: &Path) -> Result<Digest, AdapterError> {
    let failed = |source| AdapterError::File {
        path: path.to_owned(),
        source,
    };
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut writer = DigestWriter::new();
    let mut buffer = Zeroizing::new(vec![0; HASHED_BYTES]);
    loop {
        match io::Read::read(&mut file, &mut buffer).map_err(failed)? {
            0 => return Ok(writer.finish()),
            length => writer.update(&buffer[..length]),
        }
    }
}

struct Adapter {
    config: Config,
    weights: SourceModel,
}

/// Tensors of the model by what the adapter makes of them.
type Changes = BTreeMap<String, Zeroizing<Vec<f32>>>;

impl Adapter {
    fn refuse_inner_layers(&self, layer: &OutputLayer) -> Result<(), AdapterError> {
        let known = |name: &str| {
            let heads = layer.heads.iter();
            heads.flat_map(adapter_names).any(|known| known == name)
        };
        let other = self
            .weights
            .tensors()
            .find(|tensor| !known(&tensor.entry.name));
        other.map_or(Ok(()), |tensor| {
            Err(AdapterError::InnerLayer {
                tensor: tensor.entry.name.clone(),
                layer: layer.layer.clone(),
            })
        })
    }

    fn changes(&self, model: &SourceModel, layer: &OutputLayer) -> Result<Changes, AdapterError> {
        let mut changes = Changes::new();
        for head in &layer.heads {
            let [down, up, weight, bias] = adapter_names(head);
            match (self.weights.tensor(&down), self.weights.tensor(&up)) {
                (None, None) => {}
                (Some(_), Some(_)) if self.weights.tensor(&weight).is_some() => {
                    return Err(AdapterError::Unpaired(weight));
                }
                (Some(down), Some(up)) => {
                    let merged = self.product(model, head, (down, up))?;
                    changes.insert(head.weight.clone(), merged);
                }
                (Some(_), None) => return Err(AdapterError::Unpaired(up)),
                (None, Some(_)) => return Err(AdapterError::Unpaired(down)),
            }
            for (saved, name) in [(weight, Some(&head.weight)), (bias, head.bias.as_ref())] {
                if let (Some(saved), Some(name)) = (self.weights.tensor(&saved), name) {
                    changes.insert(name.clone(), replacement(model, name, saved)?);
                }
            }
        }
        Ok(changes)
    }

    /// W + scale · B·A of one head.
    fn product(
        &self,
        model: &SourceModel,
        head: &Head,
        (down, up): (SourceTensor<'_>, SourceTensor<'_>),
    ) -> Result<Zeroizing<Vec<f32>>, AdapterError> {
        let base = required(model, &head.weight)?;
        let (rows, width) = shape(base)?;
        let rank = self.config.rank;
        fits(down, (rank, width))?;
        fits(up, (rows, rank))?;
        let mut merged = floats(base)?;
        let (down, up) = (adapter_floats(down)?, adapter_floats(up)?);
        let rows = |values, width: u64| Rows {
            values,
            width: width as usize,
        };
        add_product(
            &mut merged,
            rows(&up, rank),
            rows(&down, width),
            self.config.scale,
        );
        finite(&head.weight, merged)
    }
}

/// A, B, and the weight and bias that replace a head's own, by the names that PEFT gives them.
fn adapter_names(head: &Head) -> [String; 4] {
    let module = head.weight.trim_end_matches(".weight");
    ["lora_A.weight", "lora_B.weight", "weight", "bias"]
        .map(|part| format!("{PREFIX}{module}.{part}"))
}

/// A tensor of a module that was trained and saved whole (`modules_to_save`).
fn replacement(
    model: &SourceModel,
    name: &str,
    saved: SourceTensor<'_>,
) -> Result<Zeroizing<Vec<f32>>, AdapterError> {
    let expected = &required(model, name)?.entry.shape;
    if saved.entry.shape != *expected {
        return Err(AdapterError::Shape {
            tensor: saved.entry.name.clone(),
            found: saved.entry.shape.clone(),
            expected: expected.clone(),
        });
    }
    finite(name, adapter_floats(saved)?)
}

fn required<'a>(model: &'a SourceModel, name: &str) -> Result<SourceTensor<'a>, AdapterError> {
    let tensor = model
        .tensor(name)
        .ok_or_else(|| AdapterError::NoSuchTensor(name.to_owned()))?;
    match tensor.entry.dtype {
        Dtype::F32 => Ok(tensor),
        _ => Err(other_type(tensor)),
    }
}

fn other_type(tensor: SourceTensor<'_>) -> AdapterError {
    AdapterError::Type {
        tensor: tensor.entry.name.clone(),
        found: format!("{:?}", tensor.entry.dtype),
    }
}

fn shape(tensor: SourceTensor<'_>) -> Result<(u64, u64), AdapterError> {
    matrix_shape(&tensor.entry.shape).map_err(|source| AdapterError::Matrix {
        tensor: tensor.entry.name.clone(),
        source,
    })
}

fn fits(tensor: SourceTensor<'_>, expected: (u64, u64)) -> Result<(), AdapterError> {
    if shape(tensor)? == expected {
        return Ok(());
    }
    Err(AdapterError::Shape {
        tensor: tensor.entry.name.clone(),
        found: tensor.entry.shape.clone(),
        expected: vec![expected.0, expected.1],
    })
}

fn floats(tensor: SourceTensor<'_>) -> Result<Zeroizing<Vec<f32>>, AdapterError> {
    let bytes = tensor.read().map_err(AdapterError::Model)?;
    let values = bytes.as_chunks().0.iter().copied();
    Ok(Zeroizing::new(values.map(f32::from_le_bytes).collect()))
}

fn adapter_floats(tensor: SourceTensor<'_>) -> Result<Zeroizing<Vec<f32>>, AdapterError> {
    match tensor.entry.dtype {
        Dtype::F32 => floats(tensor),
        Dtype::BF16 => {
            let bytes = tensor.read().map_err(AdapterError::Weights)?;
            // A BF16 is the upper half of the f32 of the same value.
            let wide = |half: &[u8; 2]| f32::from_le_bytes([0, 0, half[0], half[1]]);
            Ok(Zeroizing::new(
                bytes.as_chunks().0.iter().map(wide).collect(),
            ))
        }
        _ => Err(other_type(tensor)),
    }
}

fn finite(tensor: &str, values: Zeroizing<Vec<f32>>) -> Result<Zeroizing<Vec<f32>>, AdapterError> {
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(AdapterError::NotFinite(tensor.to_owned()))
    }
}

fn little_endian(values: &[f32]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(values.len() * 4));
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests;
