//! The tensors of a model's heads, and the one layer that they make.

use candle_core::{DType, Device, Tensor};
use candle_nn::Linear;
use sealift_output_layer::Head;

use crate::{LoadError, tensor_source::Tensors};

/// The tensors of one head.
pub(crate) struct HeadTensors {
    /// The matrix [outputs, width], or the convolution of kernel size 1 that it is.
    weight: String,
    /// The bias [outputs]; a model may lack it.
    bias: Option<String>,
    outputs: usize,
}

impl HeadTensors {
    pub(crate) fn of(head: Head) -> Self {
        Self {
            weight: head.weight,
            bias: head.bias,
            outputs: head.labels.len(),
        }
    }

    fn bias(&self, tensors: &Tensors<'_>) -> Result<Option<Tensor>, LoadError> {
        match self.bias.as_deref().filter(|name| tensors.has(name)) {
            Some(name) => Ok(Some(tensors.take(name, &[self.outputs])?)),
            None => Ok(None),
        }
    }
}

/// The layer [outputs of all heads, width] that the heads make, head after head: each row of
/// activations is read once for all of them.
pub(crate) fn output_layer(
    heads: &[HeadTensors],
    width: usize,
    tensors: &Tensors<'_>,
) -> Result<Linear, LoadError> {
    let weight = |head: &HeadTensors| tensors.take_matrix(&head.weight, [head.outputs, width]);
    let weights: Vec<_> = heads.iter().map(weight).collect::<Result<_, _>>()?;
    let biases: Vec<_> = heads
        .iter()
        .map(|head| head.bias(tensors))
        .collect::<Result<_, _>>()?;
    let weight = Tensor::cat(&weights, 0)?;
    if biases.iter().all(Option::is_none) {
        return Ok(Linear::new(weight, None));
    }
    let zeros = |head: &HeadTensors| Tensor::zeros(head.outputs, DType::F32, &Device::Cpu);
    let biases = biases.into_iter().zip(heads);
    let biases = biases.map(|(bias, head)| bias.map_or_else(|| zeros(head), Ok));
    let biases = biases.collect::<Result<Vec<_>, _>>()?;
    Ok(Linear::new(weight, Some(Tensor::cat(&biases, 0)?)))
}
