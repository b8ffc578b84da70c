//! The output head as integers, and under homomorphic encryption.

use sealift_kbs_protocol::FheBundle;
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
    /// The head is no F32 matrix with a bias.
    #[error("the output head is no F32 matrix with a bias per row")]
    Shape,
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
    /// Reads and quantises `<layer>.weight` and `<layer>.bias`.
    pub(crate) fn read(source: &SourceModel, layer: &str) -> Result<Self, LayersError> {
        let (weight, shape) = floats(source, &format!("{layer}.weight"))?;
        let (bias, bias_shape) = floats(source, &format!("{layer}.bias"))?;
        let [rows, width] = shape[..] else {
            return Err(LayersError::Shape);
        };
        if bias_shape != [rows] {
            return Err(LayersError::Shape);
        }
        Ok(Self {
            rows: quantise_rows(&weight, width as usize)?,
            bias,
        })
    }
}

fn floats(
    source: &SourceModel,
    name: &str,
) -> Result<(Zeroizing<Vec<f32>>, Vec<u64>), LayersError> {
    let tensor = source
        .tensor(name)
        .ok_or_else(|| LayersError::Missing(name.to_owned()))?;
    if tensor.entry.dtype != sealift_sealed_model::Dtype::F32 {
        return Err(LayersError::Shape);
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
    layer: &str,
) -> Result<EncryptedHead, LayersError> {
    use sealift_fhe_key::{LayerKeys, PlainLayer};
    use sealift_fhe_layer::{ParameterSet, ScaleRange};

    // Activation scales to accept: the largest activation of a layer lies between 2^-13 and 1016.
    const LEAST_SCALE: f32 = 1.0 / (1 << 20) as f32;
    const MOST_SCALE: f32 = 8.0;

    let head = PlainHead::read(source, layer)?;
    let keys = LayerKeys::generate(ParameterSet::P48B40, head.rows.d_in(), head.rows.d_out())?;
    let scale = ScaleRange::new(LEAST_SCALE, MOST_SCALE).map_err(|_| LayersError::Shape)?;
    let (encrypted, secrets) = keys.encrypt(&PlainLayer {
        layer,
        weights: head.rows.weights(),
        row_scales: head.rows.scales(),
        bias: &head.bias,
        scale,
    })?;
    let name = |text: &str| text.parse().map_err(|_| LayersError::Name(text.to_owned()));
    let tensor = FheTensor {
        meta: encrypted.meta,
        group: name(layer)?,
        role: name("head")?,
        replaces: vec![format!("{layer}.weight"), format!("{layer}.bias")],
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
    _layer: &str,
) -> Result<EncryptedHead, LayersError> {
    Err(LayersError::NoFhe)
}
