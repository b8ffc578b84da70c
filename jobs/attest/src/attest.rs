//! `attest@1`: challenges a pod's guest and appraises its evidence.
//!
//! Leaves nothing but the verdict: a proof does not outlive the process that made it, and whoever
//! dispatches gets one of their own. There is nothing to undo.

use std::sync::Arc;

use schemars::JsonSchema;
use sealift_job::{Job, JobContext, JobError, UndoError};
use sealift_provision::Pod;
use sealift_signed_document::Digest;
use serde::{Deserialize, Serialize};

use crate::AttestedGuests;

/// Which pod.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The pod.
    pub pod: Pod,
}

/// What was found.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// `hardware`, `vtpm` or `simulated`: what stands behind the evidence.
    pub assurance: String,
    /// The launch measurement, hex.
    pub measurement: String,
    /// SHA-256 of the report, hex.
    #[schemars(with = "String")]
    pub evidence_sha256: Digest,
    /// SHA-256 of the SubjectPublicKeyInfo of the guest's TLS key, hex.
    #[schemars(with = "String")]
    pub tls_spki_sha256: Digest,
}

/// `attest@1`.
pub struct Attest {
    guests: Arc<AttestedGuests>,
}

impl Attest {
    /// Challenges the guests of `guests`.
    pub fn new(guests: Arc<AttestedGuests>) -> Self {
        Self { guests }
    }
}

impl Job for Attest {
    const KIND: &'static str = "attest@1";

    type Input = Input;
    type Output = Output;

    async fn run(&self, input: &Input, context: &JobContext) -> Result<Output, JobError> {
        let pod = &input.pod;
        let guest = self
            .guests
            .challenge(pod, context.now_unix())
            .await
            .map_err(|error| error.into_job_error(format!("attest pod `{}`", pod.name)))?;
        let appraised = guest.appraised();
        context.log(format!(
            "pod {} is {} (assurance {})",
            pod.name,
            appraised.name(),
            appraised.assurance()
        ));
        Ok(Output {
            assurance: appraised.assurance().to_string(),
            measurement: appraised.measurement().to_string(),
            evidence_sha256: appraised.evidence_sha256(),
            tls_spki_sha256: guest.tls_spki_sha256(),
        })
    }

    async fn undo(
        &self,
        _input: &Input,
        _output: Option<&Output>,
        _context: &JobContext,
    ) -> Result<(), UndoError> {
        Ok(())
    }
}
