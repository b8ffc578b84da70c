//! The integer reference of an output head: what encrypted scoring must answer, bit for bit.

use std::collections::BTreeMap;

use sealift_encrypted_batch::ByHead;
use sealift_output_layer::{ConfigError, Labels, OutputLayer};
use sealift_quantised_head::{QuantiseError, ScaleRange, quantise_activation};

use crate::{LayersError, ModelFolder, ModelFolderError, layers::PlainHead};

/// The model's configuration in its folder.
const CONFIG_FILE: &str = "config.json";

/// A text model's tokenizer in its folder.
const TOKENIZER_FILE: &str = "tokenizer.json";

/// Why there is no reference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The head.
    #[error("the output head is not usable")]
    Head(#[from] LayersError),
    /// A small file.
    #[error("the model's configuration cannot be read")]
    File(#[from] ModelFolderError),
    /// The configuration.
    #[error("the model's configuration names no output layer")]
    Config(#[from] ConfigError),
    /// An activation.
    #[error("an activation has no 8-bit form")]
    Activation(#[from] QuantiseError),
}

/// A plain model's output layer in integers.
pub struct ReferenceHead {
    head: PlainHead,
    labels: Labels,
}

impl ReferenceHead {
    /// Reads and quantises the heads of a plain model as sealing does.
    pub fn read(model: &ModelFolder) -> Result<Self, ReferenceError> {
        let config = model.file(CONFIG_FILE)?.unwrap_or_default();
        let tokenizer = model.file(TOKENIZER_FILE)?;
        let layer = OutputLayer::read(&config, tokenizer.as_deref())?;
        let source = model.source();
        let layer = layer.with_biases_that(|name| source.tensor(name).is_some());
        let labels = layer.labels().map_err(ConfigError::Labels)?;
        let head = PlainHead::read(source, &layer)?;
        let fits = head.rows.d_out() == labels.outputs();
        fits.then_some(Self { head, labels })
            .ok_or_else(|| LayersError::Shape(layer.layer).into())
    }

    /// Scores of each head for one activation: quantised, multiplied and summed in integers, then
    /// rescaled.
    pub fn logits(&self, activation: &[f32]) -> Result<ByHead<Vec<f64>>, ReferenceError> {
        let PlainHead { rows, bias } = &self.head;
        let quantised = quantise_activation(activation, ScaleRange::ANY)?;
        let sums = rows.integer_reference(&quantised.values)?;
        let logits = rows.logits(&sums, quantised.scale, bias)?;
        Ok(ByHead::cut(&self.labels, logits).expect("there is a row for each label"))
    }

    /// The label that each head gives with these scores of [`logits`](Self::logits): that of the
    /// highest, the first of equals, as `f32`: as the key manager sees it.
    pub fn labels(&self, logits: &ByHead<Vec<f64>>) -> ByHead<String> {
        let heads = self.labels.each().map(|(head, labels)| {
            let scores = logits.get(head).map_or(&[][..], Vec::as_slice);
            let label = labels.get(best(scores)).cloned().unwrap_or_default();
            (head, label)
        });
        let mut named = BTreeMap::new();
        for (head, label) in heads {
            match head {
                None => return ByHead::One(label),
                Some(head) => drop(named.insert(head.to_owned(), label)),
            }
        }
        ByHead::Named(named)
    }
}

fn best(scores: &[f64]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score as f32 > scores[best] as f32 {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use safetensors::{SafeTensors, serialize, tensor::TensorView};

    use super::*;

    const WEIGHTS: &str = "model.safetensors";

    /// A copy of a fixture in which every head's matrix has the shape of a convolution with
    /// `kernel`, and the same numbers.
    fn as_convolution(fixture: &str, kernel: &[usize]) -> tempfile::TempDir {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fixtures/models")
            .join(fixture);
        let weights = fs::read(from.join(WEIGHTS)).unwrap();
        let tensors = SafeTensors::deserialize(&weights).unwrap();
        let reshaped = tensors.iter().map(|(name, view)| {
            let mut shape = view.shape().to_vec();
            if shape.len() == 2 && !name.starts_with("layers.") {
                shape.extend(kernel);
            }
            let view = TensorView::new(view.dtype(), shape, view.data()).unwrap();
            (name, view)
        });
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(WEIGHTS),
            serialize(reshaped, None).unwrap(),
        )
        .unwrap();
        fs::copy(from.join(CONFIG_FILE), folder.path().join(CONFIG_FILE)).unwrap();
        folder
    }

    fn logits(fixture: &str, kernel: &[usize]) -> ByHead<Vec<f64>> {
        let folder = as_convolution(fixture, kernel);
        let head = ReferenceHead::read(&ModelFolder::open(folder.path()).unwrap()).unwrap();
        let activation: Vec<_> = (0..32_u8).map(|x| f32::from(x) / 8.0 - 1.0).collect();
        head.logits(&activation).unwrap()
    }

    /// The activation of an output layer is one position, so such a convolution is the matrix.
    #[test]
    fn heads_as_convolutions_of_kernel_size_1_are_quantised_as_the_matrices_that_they_are() {
        for fixture in ["digits-mlp", "digits-multitask"] {
            let matrix = logits(fixture, &[]);
            for kernel in [&[1][..], &[1, 1]] {
                assert_eq!(logits(fixture, kernel), matrix, "{fixture} {kernel:?}");
            }
        }
    }

    #[test]
    fn scores_stand_under_the_names_of_their_heads() {
        let logits = logits("digits-multitask", &[]);
        assert_eq!(logits.get(Some("digit")).unwrap().len(), 10);
        assert_eq!(logits.get(Some("parity")).unwrap().len(), 2);
    }
}
