//! The integer reference of an output head: what encrypted scoring must answer, bit for bit.

use sealift_output_layer::{ConfigError, OutputLayer};
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

/// A plain model's output head in integers.
pub struct ReferenceHead {
    head: PlainHead,
    /// Of the one head; none where there are several.
    labels: Vec<String>,
}

impl ReferenceHead {
    /// Reads and quantises the head of a plain model as sealing does.
    pub fn read(model: &ModelFolder) -> Result<Self, ReferenceError> {
        let config = model.file(CONFIG_FILE)?.unwrap_or_default();
        let tokenizer = model.file(TOKENIZER_FILE)?;
        let layer = OutputLayer::read(&config, tokenizer.as_deref())?;
        let source = model.source();
        let layer = layer.with_biases_that(|name| source.tensor(name).is_some());
        let labels = layer.labels().map_err(ConfigError::Labels)?;
        let labels = labels.single().unwrap_or_default().to_vec();
        let head = PlainHead::read(source, &layer)?;
        Ok(Self { head, labels })
    }

    /// Scores for one activation: quantised, multiplied and summed in integers, then rescaled.
    pub fn logits(&self, activation: &[f32]) -> Result<Vec<f64>, ReferenceError> {
        let quantised = quantise_activation(activation, ScaleRange::ANY)?;
        let PlainHead { rows, bias } = &self.head;
        let sums = rows.integer_reference(&quantised.values)?;
        Ok(rows.logits(&sums, quantised.scale, bias)?)
    }

    /// The label of the highest score, the first of equals, as `f32`: as the key manager sees it.
    /// A model with several heads has no such label.
    pub fn label(&self, logits: &[f64]) -> Option<&str> {
        let mut best = 0;
        for (index, score) in logits.iter().enumerate() {
            if *score as f32 > logits[best] as f32 {
                best = index;
            }
        }
        self.labels.get(best).map(String::as_str)
    }
}
