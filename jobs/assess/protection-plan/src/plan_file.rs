//! The plan as a file: canonical JSON.

use std::collections::BTreeMap;

use sealift_lora_adapter::AdapterFiles;
use sealift_output_layer::OutputLayer;
use sealift_sealed_model::{Name, Protection, ProtectionPlan, TensorPlan};
use sealift_signed_document::{Digest, DocumentError, canonical_json, parse_canonical};
use serde::{Deserialize, Serialize};

/// Largest plan that is read: 65,536 tensors with names of 512 bytes stay below.
const MAX_PLAN_BYTES: usize = 64 << 20;

/// A protection plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// The form of this file.
    pub format: Format,
    /// The layer whose outputs are the model's answers.
    pub output: OutputLayer,
    /// The adapter that is merged into it, where the model has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterFiles>,
    /// Every tensor of the model, by name.
    pub tensors: BTreeMap<String, PlannedTensor>,
}

/// The form of a plan file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// This one.
    #[serde(rename = "sealift.plan.v2")]
    V2,
}

/// How one tensor is protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedTensor {
    /// How.
    pub protection: Protection,
    /// What it is for; stands in the manifest.
    pub role: Name,
}

/// Tensors by their protection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Published as they are.
    pub plain: u64,
    /// Encrypted under a key that an attested guest receives.
    pub sealed: u64,
    /// Evaluated while encrypted.
    pub fhe: u64,
}

/// A plan that nothing may follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// An inner layer marked `fhe`.
    #[error(
        "the plan says `fhe` for tensor `{tensor}`, which is not of the output layer `{layer}`: \
         its outputs would have to return to the guest in full, which gives its weights away; \
         say `sealed` for it"
    )]
    InnerLayer {
        /// The tensor.
        tensor: String,
        /// The output layer.
        layer: String,
    },
    /// An output layer of which the guest would hold a part.
    #[error(
        "the plan says `{found}` for tensor `{tensor}` and `{expected}` for others of the output \
         layer; its tensors are protected alike"
    )]
    Divided {
        /// The tensor.
        tensor: String,
        /// Its protection.
        found: Protection,
        /// The protection of the layer's first weight.
        expected: Protection,
    },
    /// An output layer that the plan says nothing of.
    #[error("the plan does not name tensor `{0}` of the output layer")]
    Unplanned(String),
}

/// Bytes that are no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanFileError {
    /// Larger than any plan.
    #[error("the plan has {0} bytes, more than the 64 MiB that are read")]
    TooLarge(usize),
    /// Not the canonical JSON of a plan.
    #[error("this is not a protection plan")]
    Form(#[source] DocumentError),
}

impl PlanFile {
    /// Reads what [`to_bytes`](Self::to_bytes) wrote, and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, PlanFileError> {
        if bytes.len() > MAX_PLAN_BYTES {
            return Err(PlanFileError::TooLarge(bytes.len()));
        }
        parse_canonical(bytes).map_err(PlanFileError::Form)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlanFileError> {
        canonical_json(self).map_err(PlanFileError::Form)
    }

    /// SHA-256 of the file's bytes.
    pub fn digest(&self) -> Result<Digest, PlanFileError> {
        Ok(Digest::of(&self.to_bytes()?))
    }

    /// The plan in the form in which sealing takes it.
    pub fn protection_plan(&self) -> ProtectionPlan {
        let planned = |(name, tensor): (&String, &PlannedTensor)| {
            let PlannedTensor { protection, role } = tensor.clone();
            (name.clone(), TensorPlan { protection, role })
        };
        self.tensors.iter().map(planned).collect()
    }

    /// The plan of a model into which this adapter is merged.
    #[must_use]
    pub fn with_adapter(self, adapter: Option<AdapterFiles>) -> Self {
        Self { adapter, ..self }
    }

    /// How the output layer is protected: all of it alike. No other layer is `fhe`.
    pub fn output_protection(&self) -> Result<Protection, PlanError> {
        let inner = self
            .names(Protection::Fhe)
            .find(|name| !self.output.holds(name));
        if let Some(tensor) = inner {
            return Err(PlanError::InnerLayer {
                tensor: tensor.to_owned(),
                layer: self.output.layer.clone(),
            });
        }
        let mut layer = None;
        for tensor in self.output.tensors() {
            let Some(PlannedTensor { protection, .. }) = self.tensors.get(tensor) else {
                return Err(PlanError::Unplanned(tensor.to_owned()));
            };
            let expected = *layer.get_or_insert(*protection);
            if *protection != expected {
                return Err(PlanError::Divided {
                    tensor: tensor.to_owned(),
                    found: *protection,
                    expected,
                });
            }
        }
        Ok(layer.unwrap_or(Protection::Sealed))
    }

    /// Names of the tensors with this protection.
    pub fn names(&self, protection: Protection) -> impl Iterator<Item = &str> {
        let chosen = self
            .tensors
            .iter()
            .filter(move |(_, tensor)| tensor.protection == protection);
        chosen.map(|(name, _)| name.as_str())
    }

    /// Tensors by their protection.
    pub fn counts(&self) -> Counts {
        let count = |protection| self.names(protection).count() as u64;
        Counts {
            plain: count(Protection::Plain),
            sealed: count(Protection::Sealed),
            fhe: count(Protection::Fhe),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hidden layer and a classifier with the output layer as `head`.
    fn plan(head: Protection) -> PlanFile {
        let config = br#"{"id2label":{"0":"no","1":"yes"}}"#;
        let tensor = |name: &str, protection| {
            let role = "weight".parse().unwrap();
            (name.to_owned(), PlannedTensor { protection, role })
        };
        PlanFile {
            format: Format::V2,
            output: OutputLayer::from_config(config).unwrap(),
            adapter: None,
            tensors: BTreeMap::from([
                tensor("layers.0.weight", Protection::Sealed),
                tensor("classifier.weight", head),
                tensor("classifier.bias", head),
            ]),
        }
    }

    fn with(tensor: &str, protection: Protection) -> PlanFile {
        let mut plan = plan(Protection::Fhe);
        plan.tensors.get_mut(tensor).unwrap().protection = protection;
        plan
    }

    #[test]
    fn the_output_layer_is_protected_as_its_tensors_are() {
        for protection in [Protection::Plain, Protection::Sealed, Protection::Fhe] {
            assert_eq!(plan(protection).output_protection(), Ok(protection));
        }
    }

    #[test]
    fn an_inner_layer_as_fhe_is_refused_with_the_reason() {
        let refused = with("layers.0.weight", Protection::Fhe).output_protection();
        let refused = refused.unwrap_err().to_string();
        for part in [
            "`layers.0.weight`",
            "its outputs would have to return to the guest in full, which gives its weights away",
            "say `sealed`",
        ] {
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn an_output_layer_of_which_the_guest_holds_a_part_is_refused() {
        for protection in [Protection::Plain, Protection::Sealed] {
            let refused = with("classifier.bias", protection).output_protection();
            assert!(matches!(refused, Err(PlanError::Divided { .. })));
        }
    }

    #[test]
    fn heads_of_which_one_is_protected_otherwise_are_refused() {
        let config = br#"{"heads":[{"name":"topic","id2label":{"0":"a"}},
            {"name":"mood","id2label":{"0":"b"}}]}"#;
        let mut plan = plan(Protection::Sealed);
        plan.output = OutputLayer::from_config(config).unwrap();
        for (tensor, protection) in [
            ("heads.topic.weight", Protection::Fhe),
            ("heads.topic.bias", Protection::Fhe),
            ("heads.mood.weight", Protection::Sealed),
            ("heads.mood.bias", Protection::Sealed),
        ] {
            let role = "head".parse().unwrap();
            plan.tensors
                .insert(tensor.to_owned(), PlannedTensor { protection, role });
        }
        let divided = PlanError::Divided {
            tensor: "heads.mood.weight".into(),
            found: Protection::Sealed,
            expected: Protection::Fhe,
        };
        assert_eq!(plan.output_protection(), Err(divided));
    }

    #[test]
    fn a_plan_without_a_tensor_of_the_output_layer_is_refused() {
        let mut plan = plan(Protection::Fhe);
        plan.tensors.remove("classifier.weight");
        let unplanned = PlanError::Unplanned("classifier.weight".into());
        assert_eq!(plan.output_protection(), Err(unplanned));
    }

    #[test]
    fn a_plan_is_read_back_and_no_other_form_is() {
        let bytes = plan(Protection::Fhe).to_bytes().unwrap();
        assert_eq!(PlanFile::parse(&bytes).unwrap(), plan(Protection::Fhe));
        let other = String::from_utf8(bytes)
            .unwrap()
            .replace("plan.v2", "plan.v1");
        assert!(matches!(
            PlanFile::parse(other.as_bytes()),
            Err(PlanFileError::Form(_))
        ));
    }
}
