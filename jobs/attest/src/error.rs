//! Why a guest is not attested.

use http::StatusCode;
use sealift_evidence::Tee;
use sealift_init_data::InitDataNotFromTemplate;
use sealift_job::JobError;
use sealift_pinned_tls::ClientError;
use sealift_provision::PodError;
use sealift_signed_document::Digest;
use sealift_trust_folder::TrustFolderError;
use sealift_verifier::Refusal;

/// Why a guest is not attested. The variants from [`Self::OtherKey`] on are refusals, in the order
/// of the checks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// There is no guest to ask.
    #[error("the pod does not serve")]
    Pod(#[source] PodError),
    /// Nothing to judge by.
    #[error("the trust folder is not usable")]
    Trust(#[source] TrustFolderError),
    /// The guest cannot be reached.
    #[error("the guest cannot be reached")]
    Transport(#[source] ClientError),
    /// The guest gave no evidence.
    #[error("the guest gave no evidence (HTTP {0})")]
    NoEvidence(StatusCode),
    /// The answer is not the form.
    #[error("the guest's answer to the challenge is not evidence")]
    Malformed(#[source] ClientError),
    /// Somebody stands between the operator and the guest, or the guest shows another key.
    #[error(
        "the connection is held by the TLS key {connection}, the evidence is of a guest with \
         {evidence}; somebody relays"
    )]
    OtherKey {
        /// Of this connection.
        connection: Digest,
        /// As the guest says.
        evidence: Digest,
    },
    /// A TEE that the owner did not allow.
    #[error("the guest runs on {0:?}, which the owner's template does not allow")]
    Tee(Tee),
    /// The guest was started with something else than the template gives.
    #[error("the guest's init-data is not what the owner's template gives for this pod")]
    InitData(#[source] InitDataNotFromTemplate),
    /// The evidence is refused.
    #[error("the guest's evidence is refused")]
    Evidence(#[source] Refusal),
}

impl AttestError {
    /// Whether trying again later can help without anybody doing anything. A refusal never gets
    /// better.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Pod(error) => error.is_transient(),
            Self::Transport(error) => error.is_transient(),
            Self::NoEvidence(status) => status.is_server_error(),
            _ => false,
        }
    }

    /// Whether the guest was judged and found wanting.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::OtherKey { .. } | Self::Tee(_) | Self::InitData(_) | Self::Evidence(_)
        )
    }

    /// What a person can do, where waiting does not help.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Pod(error) => error.remedy(),
            Self::Trust(_) => "make the trust folder anew with `sealift reference accept`",
            Self::Transport(_) | Self::NoEvidence(_) | Self::Malformed(_) => {
                "look at the operator's log; is the guest of this build?"
            }
            Self::OtherKey { .. } => {
                "find out who answers in the guest's place; nothing was sent to it"
            }
            Self::Tee(_) => "run the guest on a TEE that the owner's template names",
            Self::InitData(_) => "find out what started this guest; deprovision it and run again",
            Self::Evidence(Refusal::UnknownMeasurement { .. }) => {
                "if you rebuilt the guest, accept it: sealift reference accept --simulated"
            }
            Self::Evidence(_) => "bring the platform to what the owner's reference values ask for",
        }
    }

    /// As the error of a job that could not `operation`.
    pub fn into_job_error(self, operation: String) -> JobError {
        if self.is_transient() {
            JobError::transient(operation, self)
        } else {
            let remedy = self.remedy();
            JobError::permanent(operation, remedy, self)
        }
    }
}
