//! The plan as a file: canonical JSON.

use std::collections::BTreeMap;

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
    /// The layer whose outputs are the model's answers, as in `classifier`.
    pub head: String,
    /// Its labels, in the order of the scores.
    pub labels: Vec<String>,
    /// Every tensor of the model, by name.
    pub tensors: BTreeMap<String, PlannedTensor>,
}

/// The form of a plan file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// This one.
    #[serde(rename = "sealift.plan.v1")]
    V1,
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
