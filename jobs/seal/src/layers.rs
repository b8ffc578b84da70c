//! The output head as integers, and under homomorphic encryption.

use sealift_kbs_protocol::FheBundle;
use sealift_output_layer::{Head, OutputLayer, ShapeError, matrix_shape};
use sealift_quantised_head::{QuantiseError, QuantisedRows, quantise_rows};
use sealift_sealed_model::{FheTensor, SourceError, SourceModel};
use zeroize::Zeroizing;

/// Why the output head was not encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayersError {
    /// A tensor of the head is missing.
    #[error("the model has no tensor `{0}`")]
    Missing(String),
    /// A tensor of the head cannot be read.
    #[error("a tensor of the output head cannot be read")]
    Source(#[from] SourceError),
    /// A weight that is no matrix.
    #[error("tensor `{tensor}` is no output layer")]
    Matrix {
        /// The tensor.
        tensor: String,
        /// What it is instead.
        #[source]
        source: ShapeError,
    },
    /// The heads are no F32 matrices of one width with a bias per row.
    #[error("tensor `{0}` of the output layer is not F32, or does not fit the layer's others")]
    Shape(String),
    /// Activation scales that are none.
    #[cfg(feature = "fhe")]
    #[error("the output layer accepts no activation scales")]
    Scale,
    /// The head has no integer form.
    #[error("the output head has no 8-bit form")]
    Quantise(#[from] QuantiseError),
    /// This build cannot encrypt layers.
    #[cfg(not(feature = "fhe"))]
    #[error(
        "this build has no homomorphic encryption; build with the feature `fhe`, or seal the head (head: sealed)"
    )]
    NoFhe,
    /// The head does not fit the parameter set.
    #[cfg(feature = "fhe")]
    #[error("the output head does not fit the parameter set")]
    Keys(#[from] sealift_fhe_key::KeyError),
    /// The head was not encrypted.
    #[cfg(feature = "fhe")]
    #[error("the output head was not encrypted")]
    Encrypt(#[from] sealift_fhe_key::EncryptError),
    /// A name that cannot stand in a manifest.
    #[error("`{0}` cannot stand in a manifest")]
    Name(String),
}

/// The output head's weights and bias, read from the plain model and wiped when dropped.
pub(crate) struct PlainHead {
    pub(crate) rows: QuantisedRows,
    pub(crate) bias: Zeroizing<Vec<f32>>,
}

impl PlainHead {
    /// Reads and quantises the heads of `layer`, one after the other.
    pub(crate) fn read(source: &SourceModel, layer: &OutputLayer) -> Result<Self, LayersError> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        let mut width = None;
        for head in &layer.heads {
            let (weight, shape) = floats(source, &head.weight)?;
            let (rows, columns) = matrix_shape(&shape).map_err(|source| LayersError::Matrix {
                tensor: head.weight.clone(),
                source,
            })?;
            if *width.get_or_insert(columns) != columns {
                return Err(LayersError::Shape(head.weight.clone()));
            }
            weights.push(weight);
            biases.push(bias(source, head, rows)?);
        }
        Ok(Self {
            rows: quantise_rows(&joined(weights), width.unwrap_or_default() as usize)?,
            bias: joined(biases),
        })
    }
}

/// A head without a bias has a bias of zeros.
fn bias(source: &SourceModel, head: &Head, rows: u64) -> Result<Zeroizing<Vec<f32>>, LayersError> {
    let Some(name) = &head.bias else {
        return Ok(Zeroizing::new(vec![0.0; rows as usize]));
    };
    let (bias, shape) = floats(source, name)?;
    if shape == [rows] {
        Ok(bias)
    } else {
        Err(LayersError::Shape(name.clone()))
    }
}

/// The parts one after the other, without a growing buffer that leaves copies of weights behind.
fn joined(mut parts: Vec<Zeroizing<Vec<f32>>>) -> Zeroizing<Vec<f32>> {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let values = parts.iter().map(|part| part.len()).sum();
    let mut all = Zeroizing::new(Vec::with_capacity(values));
    for part in parts {
        all.extend_from_slice(&part);
    }
    all
}

fn floats(
    source: &SourceModel,
    name: &str,
) -> Result<(Zeroizing<Vec<f32>>, Vec<u64>), LayersError> {
    let tensor = source
        .tensor(name)
        .ok_or_else(|| LayersError::Missing(name.to_owned()))?;
    if tensor.entry.dtype != sealift_sealed_model::Dtype::F32 {
        return Err(LayersError::Shape(name.to_owned()));
    }
    let bytes = tensor.read()?;
    let values = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok((Zeroizing::new(values.collect()), tensor.entry.shape.clone()))
}

/// An encrypted layer and the secrets that open its sums.
pub(crate) struct EncryptedHead {
    pub(crate) tensor: FheTensor,
    pub(crate) bundle: FheBundle,
}

/// Encrypts the output head under keys that are made here and exist nowhere else.
#[cfg(feature = "fhe")]
pub(crate) fn encrypt_head(
    source: &SourceModel,
    layer: &OutputLayer,
) -> Result<EncryptedHead, LayersError> {
    use sealift_fhe_key::{LayerKeys, PlainLayer};
    use sealift_fhe_layer::{ParameterSet, ScaleRange};

    // Activation scales to accept: the largest activation of a layer lies between 2^-13 and 1016.
    const LEAST_SCALE: f32 = 1.0 / (1 << 20) as f32;
    const MOST_SCALE: f32 = 8.0;

    let head = PlainHead::read(source, layer)?;
    let keys = LayerKeys::generate(ParameterSet::P48B40, head.rows.d_in(), head.rows.d_out())?;
    let scale = ScaleRange::new(LEAST_SCALE, MOST_SCALE).map_err(|_| LayersError::Scale)?;
    let (encrypted, secrets) = keys.encrypt(&PlainLayer {
        layer: &layer.layer,
        weights: head.rows.weights(),
        row_scales: head.rows.scales(),
        bias: &head.bias,
        scale,
    })?;
    let name = |text: &str| text.parse().map_err(|_| LayersError::Name(text.to_owned()));
    let tensor = FheTensor {
        meta: encrypted.meta,
        group: name(&layer.layer)?,
        role: name("head")?,
        replaces: layer.tensors().map(str::to_owned).collect(),
        body: Box::new(encrypted.body),
    };
    Ok(EncryptedHead {
        tensor,
        bundle: FheBundle::from_bytes(secrets.to_bytes()),
    })
}

/// A build without the feature encrypts no layer.
#[cfg(not(feature = "fhe"))]
pub(crate) fn encrypt_head(
    _source: &SourceModel,
    _layer: &OutputLayer,
) -> Result<EncryptedHead, LayersError> {
    Err(LayersError::NoFhe)
}
