//! One boot: a key and a nonce that live in memory only, and evidence about them.

use std::sync::Arc;

use sealift_attester::{Attester, AttesterError};
use sealift_evidence::{Role, Tee, attested_keys_report_data};
use sealift_init_data::KeyManagerConfigError;
use sealift_kbs_protocol::{MeasuredConfig, Nonce, evidence::KeyManagerEvidence};
use sealift_pinned_tls::IdentityError;
use sealift_signed_document::{VerifyingKey, hpke_box::BoxSecret};
use sealift_verifier::{AnchorError, Anchors};

/// Why a key manager does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// The init-data configures no key manager.
    #[error("the init-data is not a key manager's")]
    Config(#[source] KeyManagerConfigError),
    /// The anchors do not fit the mode, or the build does not know it.
    #[error("the measured anchors are not accepted")]
    Anchors(#[source] AnchorError),
    /// There is no platform to attest this process.
    #[error("this process cannot be attested")]
    Attester(#[source] AttesterError),
    /// The init-data is not what the platform measured.
    #[error("the init-data is not the one that this process was launched with")]
    OtherInitData,
    /// No TLS certificate.
    #[error("no TLS certificate can be made")]
    Tls(#[source] IdentityError),
}

/// What is fixed from start to end of this process.
pub(crate) struct Boot {
    pub(crate) config: MeasuredConfig,
    pub(crate) anchors: Anchors,
    pub(crate) key: BoxSecret,
    pub(crate) nonce: Nonce,
    init_data: String,
    attester: Arc<dyn Attester>,
}

impl Boot {
    pub(crate) fn new(init_data: &str, attester: Arc<dyn Attester>) -> Result<Self, BootError> {
        let config = MeasuredConfig::parse(init_data.as_bytes()).map_err(BootError::Config)?;
        let anchors = Anchors::new(config.config.mode(), config.config.anchors())
            .map_err(BootError::Anchors)?;
        if attester.host_data().map_err(BootError::Attester)? != *config.digest.as_bytes() {
            return Err(BootError::OtherInitData);
        }
        Ok(Self {
            config,
            anchors,
            key: BoxSecret::generate(),
            nonce: Nonce::random(),
            init_data: init_data.to_owned(),
            attester,
        })
    }

    /// Evidence that answers `nonce`. Blocks while the platform signs.
    ///
    /// The asker chooses the nonce alone: context, role and keys are this process's own.
    pub(crate) fn evidence(
        &self,
        nonce: &Nonce,
        identity: Option<&VerifyingKey>,
    ) -> Result<KeyManagerEvidence, AttesterError> {
        let boot_key = self.key.public();
        let keys = KeyManagerEvidence::attested_keys(&boot_key, identity);
        let report_data = attested_keys_report_data(Role::KeyManager, nonce.as_bytes(), &keys);
        Ok(KeyManagerEvidence {
            tee: Tee::Snp,
            evidence: self.attester.evidence(&report_data)?,
            init_data: self.init_data.clone(),
            boot_key,
            boot_nonce: self.nonce,
            identity: identity.copied(),
        })
    }
}
