//! A verifier at one moment, in the form in which the key manager's clients take it.

use sealift_evidence::SnpEvidence;
use sealift_kbs_protocol::evidence::EvidenceAppraiser;
use sealift_verifier::{AppraisedEvidence, Expected, Refusal, Verifier};

/// A [`Verifier`] with the time at which it judges.
#[derive(Clone, Debug)]
pub struct TrustedVerifier {
    verifier: Verifier,
    now_unix: u64,
}

impl TrustedVerifier {
    /// Judges at `now_unix` (seconds).
    pub fn new(verifier: Verifier, now_unix: u64) -> Self {
        Self { verifier, now_unix }
    }
}

impl EvidenceAppraiser for TrustedVerifier {
    type Appraised = AppraisedEvidence;
    type Refusal = Refusal;

    fn appraise(
        &self,
        evidence: &SnpEvidence,
        report_data: &[u8; 64],
        host_data: &[u8; 32],
    ) -> Result<AppraisedEvidence, Refusal> {
        let expected = Expected {
            report_data: *report_data,
            host_data: *host_data,
        };
        self.verifier.appraise(evidence, &expected, self.now_unix)
    }
}
