//! Where tensors come from, and the checks between a name and a usable tensor.

use candle_core::{DType, Device, Tensor};
use safetensors::{
    SafeTensors,
    tensor::{Dtype, TensorView},
};

use crate::LoadError;

/// Tensors in memory, by name: a parsed safetensors buffer, or the opened tensors of a sealed
/// model.
pub trait TensorSource {
    /// The tensor of this name, if there is one.
    fn tensor(&self, name: &str) -> Option<TensorView<'_>>;
}

impl TensorSource for SafeTensors<'_> {
    fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        Self::tensor(self, name).ok()
    }
}

/// The tensors under one prefix.
#[derive(Clone)]
pub(crate) struct Tensors<'a> {
    source: &'a dyn TensorSource,
    prefix: String,
}

impl<'a> Tensors<'a> {
    pub(crate) fn new(source: &'a dyn TensorSource) -> Self {
        Self {
            source,
            prefix: String::new(),
        }
    }

    pub(crate) fn under(&self, name: &str) -> Self {
        Self {
            source: self.source,
            prefix: format!("{}{name}.", self.prefix),
        }
    }

    /// The tensor `name` as `f32`, if it has this shape and only finite values.
    pub(crate) fn take(&self, name: &str, expected: &[usize]) -> Result<Tensor, LoadError> {
        let name = format!("{}{name}", self.prefix);
        let Some(view) = self.source.tensor(&name) else {
            return Err(LoadError::Missing(name));
        };
        if view.shape() != expected {
            let (found, expected) = (view.shape().to_vec(), expected.to_vec());
            return Err(LoadError::Shape {
                name,
                found,
                expected,
            });
        }
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            found => return Err(LoadError::Type { name, found }),
        };
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, expected, &Device::Cpu)?
            .to_dtype(DType::F32)?;
        // The sum of finite weights overflows no sooner than a product of the model would.
        let sum = tensor.abs()?.sum_all()?.to_scalar::<f32>()?;
        if sum.is_finite() {
            Ok(tensor)
        } else {
            Err(LoadError::NotFinite(name))
        }
    }

    /// Whether there is a tensor `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.source
            .tensor(&format!("{}{name}", self.prefix))
            .is_some()
    }

    /// The same as a matrix, which may be stored as a convolution of kernel size 1.
    pub(crate) fn take_matrix(
        &self,
        name: &str,
        expected: [usize; 2],
    ) -> Result<Tensor, LoadError> {
        let view = self.source.tensor(&format!("{}{name}", self.prefix));
        let kernel = match view.as_ref().map(TensorView::shape) {
            Some([_, _, kernel @ ..]) if kernel.iter().all(|side| *side == 1) => {
                kernel.len().min(2)
            }
            _ => 0,
        };
        let stored = [expected[0], expected[1], 1, 1];
        let tensor = self.take(name, &stored[..2 + kernel])?;
        Ok(tensor.reshape(&expected[..])?)
    }

    /// The same as numbers, row by row.
    pub(crate) fn take_values(
        &self,
        name: &str,
        expected: &[usize],
    ) -> Result<Vec<f32>, LoadError> {
        Ok(self.take(name, expected)?.flatten_all()?.to_vec1()?)
    }
}
