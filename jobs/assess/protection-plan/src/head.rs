//! Making a plan: the output head may be encrypted homomorphically, everything else is sealed.

use std::collections::BTreeMap;

use sealift_sealed_model::{Dtype, Name, Protection, SourceModel};
use serde::Deserialize;

use crate::cost::{EncryptedCost, TooLarge};
use crate::plan_file::{Format, PlanFile, PlannedTensor};

/// Name of the output layer in every architecture that is read.
const HEAD: &str = "classifier";

/// Its matrix, [labels, width].
const HEAD_WEIGHT: &str = "classifier.weight";

/// Its bias, [labels].
const HEAD_BIAS: &str = "classifier.bias";

/// Most labels that a configuration names.
const MAX_LABELS: usize = 1 << 20;

/// How the output head is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadProtection {
    /// Homomorphically: the guest never sees it.
    Fhe,
    /// Like the rest: an attested guest holds it.
    Sealed,
}

/// What of a model's `config.json` a plan needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    labels: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    id2label: BTreeMap<String, String>,
}

/// Why no plan was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Not the configuration of a classifier.
    #[error("config.json needs `id2label`, as a classifier's has")]
    Config(#[source] serde_json::Error),
    /// Label numbers that do not count from 0.
    #[error("`id2label` of config.json must number its labels 0, 1, 2 … up to {MAX_LABELS}")]
    Labels,
    /// The layer that answers is missing.
    #[error("the model has no tensor `{0}`; a classifier's output layer is `classifier`")]
    NoHead(&'static str),
    /// A head that is no matrix with a bias.
    #[error(
        "the output layer needs F32 `classifier.weight` [labels, width] and `classifier.bias` [labels], one row per label"
    )]
    HeadShape,
    /// Quantising the activations of such a layer would change its answers.
    #[error(
        "the output layer is the only one and reads the user's raw features, whose ranges differ too much for 8-bit activations: its labels would change; seal it instead (head: sealed)"
    )]
    RawFeatures,
    /// A head of a size that is not encrypted.
    #[error("the output head cannot be encrypted homomorphically")]
    TooLarge(#[from] TooLarge),
    /// A tensor of more than half of the model is listed under a role that has no name.
    #[error("`{0}` is no role")]
    Role(&'static str),
}

impl Model {
    /// Reads `config.json`.
    pub fn from_config(config: &[u8]) -> Result<Self, ModelError> {
        let config: Config = serde_json::from_slice(config).map_err(ModelError::Config)?;
        let numbered: Option<BTreeMap<usize, String>> = config
            .id2label
            .into_iter()
            .map(|(id, label)| Some((id.parse().ok()?, label)))
            .collect();
        let numbered = numbered.ok_or(ModelError::Labels)?;
        let dense = numbered.keys().copied().eq(0..numbered.len());
        if !dense || numbered.is_empty() || numbered.len() > MAX_LABELS {
            return Err(ModelError::Labels);
        }
        Ok(Self {
            labels: numbered.into_values().collect(),
        })
    }

    /// Plans the protection of `source`.
    ///
    /// Inner layers are never `fhe`: their outputs would have to come back to the guest in full,
    /// which gives their weights away. A head that reads raw features is refused, because its
    /// labels do not survive 8-bit activations.
    pub fn plan(&self, source: &SourceModel, head: HeadProtection) -> Result<PlanFile, ModelError> {
        self.check_head(source)?;
        if head == HeadProtection::Fhe {
            self.encrypted_cost(source)?;
        }
        let role = |text: &'static str| text.parse::<Name>().map_err(|_| ModelError::Role(text));
        let (weight_role, head_role) = (role("weight")?, role("head")?);
        let planned = |name: &str| {
            let is_head = is_head(name);
            let protection = match (is_head, head) {
                (true, HeadProtection::Fhe) => Protection::Fhe,
                _ => Protection::Sealed,
            };
            let role = if is_head {
                head_role.clone()
            } else {
                weight_role.clone()
            };
            PlannedTensor { protection, role }
        };
        let names = source.tensors().map(|tensor| tensor.entry.name.clone());
        Ok(PlanFile {
            format: Format::V1,
            head: HEAD.into(),
            labels: self.labels.clone(),
            tensors: names.map(|name| (name.clone(), planned(&name))).collect(),
        })
    }

    /// What encrypting the head homomorphically costs, or why it cannot be encrypted.
    pub fn encrypted_cost(&self, source: &SourceModel) -> Result<EncryptedCost, ModelError> {
        if source.tensors().all(|tensor| is_head(&tensor.entry.name)) {
            return Err(ModelError::RawFeatures);
        }
        let weight = source
            .tensor(HEAD_WEIGHT)
            .ok_or(ModelError::NoHead(HEAD_WEIGHT))?;
        let [d_out, d_in] = weight.entry.shape[..] else {
            return Err(ModelError::HeadShape);
        };
        Ok(EncryptedCost::of(d_in, d_out)?)
    }

    fn check_head(&self, source: &SourceModel) -> Result<(), ModelError> {
        let demanded = |name: &'static str| source.tensor(name).ok_or(ModelError::NoHead(name));
        let (weight, bias) = (demanded(HEAD_WEIGHT)?, demanded(HEAD_BIAS)?);
        let labels = self.labels.len() as u64;
        let weight_fits = matches!(weight.entry.shape.as_slice(), [rows, _] if *rows == labels);
        let bias_fits = bias.entry.shape == [labels];
        let floats = [&weight, &bias]
            .iter()
            .all(|tensor| tensor.entry.dtype == Dtype::F32);
        if weight_fits && bias_fits && floats {
            Ok(())
        } else {
            Err(ModelError::HeadShape)
        }
    }
}

fn is_head(tensor: &str) -> bool {
    [HEAD_WEIGHT, HEAD_BIAS].contains(&tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_in_the_order_of_their_numbers() {
        let config = br#"{"model_type":"mlp","id2label":{"10":"k","2":"c","0":"a","1":"b","3":"d",
            "4":"e","5":"f","6":"g","7":"h","8":"i","9":"j"}}"#;
        let model = Model::from_config(config).unwrap();
        assert_eq!(model.labels.concat(), "abcdefghijk");
    }

    #[test]
    fn labels_that_do_not_count_from_zero_are_refused() {
        for labels in [
            r#"{}"#,
            r#"{"1":"a"}"#,
            r#"{"0":"a","2":"b"}"#,
            r#"{"zero":"a"}"#,
        ] {
            let config = format!(r#"{{"model_type":"mlp","id2label":{labels}}}"#);
            let refused = Model::from_config(config.as_bytes());
            assert!(matches!(refused, Err(ModelError::Labels)), "{labels}");
        }
    }
}
