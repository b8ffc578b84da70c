//! Whether evidence is good: a pure function of the evidence, what was expected of it, what is
//! trusted, and the time.
//!
//! [`Verifier::appraise`] makes one check per variant of [`Refusal`], in the order of the
//! variants. What passes becomes [`AppraisedEvidence`], which has no other constructor. Real and
//! simulated chips go through the same checks; only the pinned root tells them apart.
//!
//! Known quirks: revocation lists are not consulted, because nothing here may depend on a
//! download; a platform with a known weakness is kept out by the policy's minimum TCB. Reports
//! signed by a provider's key (VLEK) are refused, because they name no chip.

mod anchors;
mod appraise;
mod certificate;
mod chain;
mod policy;
mod reference_values;
mod refusal;
mod vcek;

pub use anchors::{AnchorError, Anchors};
pub use appraise::{AppraisedEvidence, Expected, Verifier};
pub use policy::{AppraisalPolicy, ChipTcb, MinimumTcb, PolicyError, TurinTcb};
pub use reference_values::{ReferenceMeasurement, ReferenceValues};
pub use refusal::{CertificateFault, Refusal};
pub use sealift_evidence::{Assurance, Measurement, Product};
