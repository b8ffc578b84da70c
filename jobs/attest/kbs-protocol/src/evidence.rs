//! A key manager's own evidence, and the appraisal without which it is told nothing.

use std::collections::{BTreeMap, BTreeSet};

use sealift_evidence::{Assurance, Role, SnpEvidence, Tee, attested_keys_report_data};
use sealift_init_data::{KeyManagerConfig, KeyManagerConfigError};
use sealift_signed_document::{Digest, KeyId, VerifyingKey, hpke_box::BoxPublic};
use serde::{Deserialize, Serialize};

use crate::{MeasuredConfig, Nonce};

/// Path of the evidence: `?nonce=<32 bytes, base64url without padding>`.
pub const EVIDENCE_PATH: &str = "/sealift/v1/evidence";

/// What a key manager says about itself. Nothing in it has been appraised; keep it with its nonce
/// to appraise it again later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyManagerEvidence {
    /// The kind of attester.
    pub tee: Tee,
    /// The `snp` evidence JSON; its report_data binds the keys below and the asker's nonce.
    pub evidence: SnpEvidence,
    /// The exact text whose digest the evidence holds.
    pub init_data: String,
    /// The boot key: where secrets for this boot are encrypted to.
    pub boot_key: BoxPublic,
    /// The nonce that an unlock of this boot names.
    pub boot_nonce: Nonce,
    /// The identity key, once the key manager was unlocked.
    pub identity: Option<VerifyingKey>,
}

impl KeyManagerEvidence {
    /// The keys that the evidence names: `boot`, and `identity` when it is known.
    pub fn attested_keys(
        boot_key: &BoxPublic,
        identity: Option<&VerifyingKey>,
    ) -> BTreeMap<String, String> {
        let boot = ("boot".to_owned(), boot_key.thumbprint().to_string());
        let identity = identity.map(|key| ("identity".to_owned(), key.thumbprint().to_string()));
        [boot].into_iter().chain(identity).collect()
    }

    /// Judges the evidence as the answer to `nonce`: who rules this key manager, what it
    /// believes, and through `appraiser` whether the platform says so.
    pub fn appraise<A: EvidenceAppraiser>(
        &self,
        nonce: &Nonce,
        expected: &KeyManagerExpectation,
        appraiser: &A,
    ) -> Result<AppraisedKeyManager<A::Appraised>, KeyManagerRefusal<A::Refusal>> {
        let measured =
            MeasuredConfig::parse(self.init_data.as_bytes()).map_err(KeyManagerRefusal::Config)?;
        expected
            .check(&measured)
            .map_err(KeyManagerRefusal::Expectation)?;
        let keys = Self::attested_keys(&self.boot_key, self.identity.as_ref());
        let report_data = attested_keys_report_data(Role::KeyManager, nonce.as_bytes(), &keys);
        let appraisal = appraiser
            .appraise(&self.evidence, &report_data, measured.digest.as_bytes())
            .map_err(KeyManagerRefusal::Evidence)?;
        Ok(AppraisedKeyManager {
            appraisal,
            boot_key: self.boot_key,
            boot_nonce: self.boot_nonce,
            identity: self.identity,
            config: measured.config,
            evidence_sha256: self.evidence.digest(),
        })
    }
}

/// The verifier of whoever asks. This crate has none, because guests link it too.
pub trait EvidenceAppraiser {
    /// The verifier's proof.
    type Appraised;
    /// Why evidence is refused.
    type Refusal: std::error::Error + Send + Sync + 'static;

    /// Appraises evidence whose report must hold exactly these two fields.
    fn appraise(
        &self,
        evidence: &SnpEvidence,
        report_data: &[u8; 64],
        host_data: &[u8; 32],
    ) -> Result<Self::Appraised, Self::Refusal>;
}

/// What an owner or user demands of a key manager's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyManagerExpectation {
    /// The asker's own root; it must be among those that rule the key manager.
    pub owner_root: VerifyingKey,
    /// How many roots must agree to a change.
    pub threshold: u32,
    /// The kind of attestation.
    pub mode: Assurance,
    /// The anchors, exactly.
    pub anchors: BTreeSet<Digest>,
    /// What else may have been measured with the configuration, by name and SHA-256: all of it
    /// must be listed, because a pod's policy decides who reads the key manager's memory.
    pub other_entries: BTreeMap<String, Digest>,
}

/// What is wrong with a key manager's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectationRefusal {
    /// Somebody else rules it.
    #[error("the key manager is ruled by other owner roots; nothing may be entrusted to it")]
    ForeignRoot,
    /// Fewer or more must agree than expected.
    #[error("the key manager's threshold is {found}, expected {expected}")]
    Threshold {
        /// What it was measured with.
        found: u32,
        /// What the asker demands.
        expected: u32,
    },
    /// Another kind of attestation.
    #[error("the key manager's mode is not the expected one")]
    Mode,
    /// It would believe other guests.
    #[error("the key manager believes other anchors than expected")]
    Anchors,
    /// Something else was measured with the configuration.
    #[error("the key manager's init-data has entries that are not expected, or lacks one")]
    OtherEntries,
}

impl KeyManagerExpectation {
    fn check(&self, measured: &MeasuredConfig) -> Result<(), ExpectationRefusal> {
        let config = &measured.config;
        if !config.owner_roots().contains(&self.owner_root) {
            return Err(ExpectationRefusal::ForeignRoot);
        }
        if config.threshold() != self.threshold {
            let (found, expected) = (config.threshold(), self.threshold);
            return Err(ExpectationRefusal::Threshold { found, expected });
        }
        if config.mode() != self.mode {
            return Err(ExpectationRefusal::Mode);
        }
        if config.anchors().iter().copied().collect::<BTreeSet<_>>() != self.anchors {
            return Err(ExpectationRefusal::Anchors);
        }
        if measured.other_entries != self.other_entries {
            return Err(ExpectationRefusal::OtherEntries);
        }
        Ok(())
    }
}

/// Why a key manager is not trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyManagerRefusal<R: std::error::Error + 'static> {
    /// Its init-data configures no key manager.
    #[error("the key manager's init-data is not accepted")]
    Config(#[source] KeyManagerConfigError),
    /// Its configuration is not the expected one.
    #[error("the key manager's configuration is not the expected one")]
    Expectation(#[source] ExpectationRefusal),
    /// Its evidence is refused.
    #[error("the key manager's evidence is refused")]
    Evidence(#[source] R),
}

/// A key manager whose evidence and configuration were appraised: the only thing that secrets are
/// sent to.
///
/// [`KeyManagerEvidence::appraise`] is its only constructor.
#[derive(Clone, Debug)]
pub struct AppraisedKeyManager<A> {
    appraisal: A,
    boot_key: BoxPublic,
    boot_nonce: Nonce,
    identity: Option<VerifyingKey>,
    config: KeyManagerConfig,
    evidence_sha256: Digest,
}

impl<A> AppraisedKeyManager<A> {
    /// What the verifier said.
    pub fn appraisal(&self) -> &A {
        &self.appraisal
    }

    /// The boot key.
    pub fn boot_key(&self) -> &BoxPublic {
        &self.boot_key
    }

    /// The boot's nonce.
    pub fn boot_nonce(&self) -> &Nonce {
        &self.boot_nonce
    }

    /// The identity key; none while the key manager is locked.
    pub fn identity(&self) -> Option<&VerifyingKey> {
        self.identity.as_ref()
    }

    /// The identity's name; none while the key manager is locked.
    pub fn km_id(&self) -> Option<KeyId> {
        self.identity.as_ref().map(VerifyingKey::thumbprint)
    }

    /// The configuration.
    pub fn config(&self) -> &KeyManagerConfig {
        &self.config
    }

    /// SHA-256 of the report's bytes.
    pub fn evidence_sha256(&self) -> Digest {
        self.evidence_sha256
    }
}

#[cfg(test)]
mod tests {
    use sealift_init_data::KeyManagerConfigParts;
    use sealift_signed_document::SigningKey;

    use super::*;

    fn expectation(root: VerifyingKey) -> KeyManagerExpectation {
        KeyManagerExpectation {
            owner_root: root,
            threshold: 1,
            mode: Assurance::Simulated,
            anchors: BTreeSet::from([Digest::of(b"ark")]),
            other_entries: BTreeMap::new(),
        }
    }

    #[test]
    fn a_configuration_with_one_thing_changed_is_refused_for_that_thing() {
        let root = SigningKey::generate().public();
        let config = KeyManagerConfig::new(KeyManagerConfigParts {
            owner_roots: vec![SigningKey::generate().public(), root],
            threshold: 1,
            mode: Assurance::Simulated,
            anchors: vec![Digest::of(b"ark")],
            tls: vec!["127.0.0.1".into()],
        });
        let text = config.unwrap().to_init_data();
        let measured = MeasuredConfig::parse(text.as_bytes()).unwrap();
        let good = expectation(root);
        assert_eq!(good.check(&measured), Ok(()));
        let more = BTreeSet::from([Digest::of(b"ark"), Digest::of(b"another")]);
        let policy = BTreeMap::from([("policy.rego".to_owned(), Digest::of(b""))]);
        for (expected, refusal) in [
            (
                expectation(SigningKey::generate().public()),
                ExpectationRefusal::ForeignRoot,
            ),
            (
                KeyManagerExpectation {
                    threshold: 2,
                    ..good.clone()
                },
                ExpectationRefusal::Threshold {
                    found: 1,
                    expected: 2,
                },
            ),
            (
                KeyManagerExpectation {
                    mode: Assurance::Hardware,
                    ..good.clone()
                },
                ExpectationRefusal::Mode,
            ),
            (
                KeyManagerExpectation {
                    anchors: more,
                    ..good.clone()
                },
                ExpectationRefusal::Anchors,
            ),
            (
                KeyManagerExpectation {
                    other_entries: policy,
                    ..good.clone()
                },
                ExpectationRefusal::OtherEntries,
            ),
        ] {
            assert_eq!(expected.check(&measured), Err(refusal));
        }
    }
}
