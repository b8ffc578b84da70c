//! What a key manager was measured with: who rules it, whom it believes, and what else stood in
//! its init-data.

use std::collections::BTreeMap;

use sealift_init_data::{
    InitData, InitDataError, KEY_MANAGER_ENTRY, KeyManagerConfig, KeyManagerConfigError,
};
use sealift_signed_document::Digest;

/// Init-data of a key manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredConfig {
    /// The configuration.
    pub config: KeyManagerConfig,
    /// SHA-256 of every other entry, by name (a pod's `policy.rego`, for one).
    pub other_entries: BTreeMap<String, Digest>,
    /// SHA-256 of the whole text: HOST_DATA of the key manager's evidence.
    pub digest: Digest,
}

impl MeasuredConfig {
    /// Reads the exact bytes whose digest the key manager's evidence holds.
    pub fn parse(init_data: &[u8]) -> Result<Self, KeyManagerConfigError> {
        let unreadable = KeyManagerConfigError::InitData;
        let init_data = InitData::parse(init_data).map_err(unreadable)?;
        let mut entries = init_data.entries().clone();
        let name = KEY_MANAGER_ENTRY;
        let text = entries
            .remove(name)
            .ok_or_else(|| unreadable(InitDataError::NoEntry { name }))?;
        let alone = BTreeMap::from([(name.to_owned(), text)]);
        let alone = InitData::from_entries(alone).map_err(unreadable)?;
        let config = KeyManagerConfig::from_init_data(&alone)?;
        let other_entries = entries
            .into_iter()
            .map(|(name, text)| (name, Digest::of(text.as_bytes())))
            .collect();
        Ok(Self {
            config,
            other_entries,
            digest: init_data.digest(),
        })
    }
}

#[cfg(test)]
mod tests {
    use sealift_evidence::Assurance;
    use sealift_init_data::KeyManagerConfigParts;
    use sealift_signed_document::SigningKey;

    use super::*;

    fn config() -> KeyManagerConfig {
        KeyManagerConfig::new(KeyManagerConfigParts {
            owner_roots: vec![SigningKey::generate().public()],
            threshold: 1,
            mode: Assurance::Simulated,
            anchors: vec![Digest::of(b"ark")],
            tls: vec!["127.0.0.1".into()],
        })
        .unwrap()
    }

    #[test]
    fn a_configuration_is_read_with_the_digest_of_its_whole_text() {
        let (config, text) = (config(), config().to_init_data());
        let measured = MeasuredConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(measured.config.threshold(), config.threshold());
        assert_eq!(measured.digest, text.digest());
        assert!(measured.other_entries.is_empty());
    }

    #[test]
    fn other_measured_entries_are_reported() {
        let mut entries = config().to_init_data().entries().clone();
        let policy = "package agent_policy\n";
        entries.insert("policy.rego".into(), policy.into());
        let text = InitData::from_entries(entries).unwrap();
        let measured = MeasuredConfig::parse(text.as_bytes()).unwrap();
        let expected = BTreeMap::from([("policy.rego".into(), Digest::of(policy.as_bytes()))]);
        assert_eq!(measured.other_entries, expected);
    }

    #[test]
    fn init_data_without_the_configuration_is_refused() {
        let text =
            InitData::from_entries(BTreeMap::from([("other.toml".into(), "x = 1\n".into())]));
        assert!(MeasuredConfig::parse(text.unwrap().as_bytes()).is_err());
    }
}
