//! What may run: the document `reference-values.v1`.

use sealift_evidence::Measurement;
use sealift_signed_document::Document;
use serde::{Deserialize, Serialize};

use crate::AppraisalPolicy;

/// The guests that their owner trusts, and on which platforms.
///
/// An owner's administrator signs it; what an operator computes is a proposal. The policy is part
/// of it, so that whoever runs the verifier cannot relax it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceValues {
    /// Launch measurements that are trusted; an empty list trusts nobody.
    pub measurements: Vec<ReferenceMeasurement>,
    /// What the platform must be.
    pub policy: AppraisalPolicy,
}

/// One trusted launch measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceMeasurement {
    /// What it is of, for people: an image and its release.
    pub name: String,
    /// The value in the report.
    pub measurement: Measurement,
}

impl Document for ReferenceValues {
    const TYPE: &'static str = "reference-values.v1";
}
