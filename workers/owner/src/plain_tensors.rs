//! The tensors of a plain model, in one file or several, in the form in which the engine asks for
//! them.

use std::collections::BTreeMap;

use sealift_inference::{Dtype, TensorSource, TensorView};
use sealift_sealed_model::{SourceError, SourceModel};
use zeroize::Zeroizing;

/// Tensors in memory; the engine computes with these types and no other.
pub(crate) struct PlainTensors(BTreeMap<String, PlainTensor>);

struct PlainTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Zeroizing<Vec<u8>>,
}

impl PlainTensors {
    /// Reads every tensor of a type that the engine computes with.
    pub(crate) fn read(source: &SourceModel) -> Result<Self, SourceError> {
        let mut tensors = BTreeMap::new();
        for tensor in source.tensors() {
            let Some(dtype) = dtype(tensor.dtype()) else {
                continue;
            };
            let shape = tensor.entry.shape.iter().map(|side| *side as usize);
            let read = PlainTensor {
                dtype,
                shape: shape.collect(),
                bytes: tensor.read()?,
            };
            tensors.insert(tensor.entry.name.clone(), read);
        }
        Ok(Self(tensors))
    }
}

impl TensorSource for PlainTensors {
    fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let PlainTensor {
            dtype,
            shape,
            bytes,
        } = self.0.get(name)?;
        TensorView::new(*dtype, shape.clone(), bytes).ok()
    }
}

fn dtype(dtype: sealift_sealed_model::Dtype) -> Option<Dtype> {
    use sealift_sealed_model::Dtype as Plain;
    match dtype {
        Plain::F32 => Some(Dtype::F32),
        Plain::F16 => Some(Dtype::F16),
        Plain::BF16 => Some(Dtype::BF16),
        _ => None,
    }
}
