//! What every attester can do.

use std::io;

use sealift_evidence::{EvidenceError, SnpEvidence};

/// A source of evidence about the process that asks.
///
/// Implementations block while the platform signs.
pub trait Attester: Send + Sync {
    /// Has a report signed that holds `report_data`.
    ///
    /// Callers pass the digest of an object that they built themselves
    /// (`sealift_evidence::attested_keys_report_data`, `rcar_report_data`), never bytes that
    /// somebody else chose: whoever chooses them can answer another verifier's challenge.
    fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError>;

    /// What the host bound to this process at launch: the digest of its init-data.
    ///
    /// Asks for a report over 64 zero bytes, which answers no challenge.
    fn host_data(&self) -> Result<[u8; 32], AttesterError> {
        Ok(self.evidence(&[0; 64])?.report().fields().host_data)
    }
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttesterError {
    /// Standard input is not the socket that a launcher of simulated guests passes on.
    #[error(
        "standard input is not a launcher's socket; start this process through `sealift`, or on \
         confidential hardware"
    )]
    NoLauncher(#[source] io::Error),
    /// The launcher is gone or does not answer.
    #[error("the launcher did not answer a request for a report")]
    Socket(#[source] io::Error),
    /// The launcher sent something else than evidence.
    #[error("the launcher's answer is not evidence")]
    Evidence(#[source] EvidenceError),
    /// An answer larger than evidence can be.
    #[error("the launcher announced an answer of {bytes} bytes, more than any evidence has")]
    AnswerTooLarge {
        /// What it announced.
        bytes: usize,
    },
    /// The report holds other `report_data` than was asked for.
    #[error("the launcher answered with a report for another request")]
    AnotherReport,
    /// The system refused to watch the launcher.
    #[error("cannot watch the launcher")]
    Watch(#[source] io::Error),
}
