//! The key manager's own measured configuration: init-data with the single entry
//! `key-manager.toml`.
//!
//! Owners and users appraise it together with the measurement, because it decides who rules this
//! key manager and what it believes. It cannot be changed without another HOST_DATA.

use std::collections::{BTreeMap, BTreeSet};

use sealift_evidence::Assurance;
use sealift_signed_document::{Digest, VerifyingKey};
use serde::Deserialize;

use crate::{InitData, InitDataError};

/// The entry's name.
pub const KEY_MANAGER_ENTRY: &str = "key-manager.toml";

/// Most roots, anchors or TLS names; one of each is usual.
const MAX_ITEMS: usize = 32;

/// A configuration before it is checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyManagerConfigParts {
    /// The owners that rule this key manager, by their root keys.
    pub owner_roots: Vec<VerifyingKey>,
    /// How many of them must sign a change.
    pub threshold: u32,
    /// What this key manager runs on, and what it demands of guests.
    pub mode: Assurance,
    /// SHA-256 of each root certificate whose chains it believes.
    pub anchors: Vec<Digest>,
    /// The names in its self-signed TLS certificate: DNS names and IP addresses.
    pub tls: Vec<String>,
}

/// A key manager's configuration that is complete and free of contradictions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyManagerConfig(KeyManagerConfigParts);

/// Why a configuration is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyManagerConfigError {
    /// Not init-data, or without its entry.
    #[error("the key manager's init-data cannot be read")]
    InitData(#[source] InitDataError),
    /// Another entry beside the one.
    #[error("the key manager's init-data has entries beside `{KEY_MANAGER_ENTRY}`; leave them out")]
    SurplusEntry,
    /// The same configuration in another spelling.
    #[error("`{KEY_MANAGER_ENTRY}` is not in its canonical form; render it again")]
    NotCanonical,
    /// An empty, overlong or repeating list.
    #[error("`{member}` of the key manager's configuration needs 1 to {MAX_ITEMS} different items")]
    List {
        /// Which list.
        member: &'static str,
    },
    /// A threshold that no signature meets, or that nobody can meet.
    #[error("threshold {threshold} is not between 1 and the number of owner roots, {roots}")]
    Threshold {
        /// What it is.
        threshold: u32,
        /// How many roots there are.
        roots: usize,
    },
    /// A TLS name with characters that names do not have.
    #[error("{name:?} is neither a DNS name nor an IP address")]
    TlsName {
        /// What it is.
        name: String,
    },
}

impl KeyManagerConfig {
    /// Checks a configuration.
    pub fn new(parts: KeyManagerConfigParts) -> Result<Self, KeyManagerConfigError> {
        check_list("owner_roots", &parts.owner_roots)?;
        check_list("anchors", &parts.anchors)?;
        check_list("tls", &parts.tls)?;
        let roots = parts.owner_roots.len();
        if parts.threshold == 0 || parts.threshold as usize > roots {
            return Err(KeyManagerConfigError::Threshold {
                threshold: parts.threshold,
                roots,
            });
        }
        if let Some(name) = parts.tls.iter().find(|name| !is_tls_name(name)) {
            return Err(KeyManagerConfigError::TlsName { name: name.clone() });
        }
        Ok(Self(parts))
    }

    /// Reads the configuration of `init_data`; only the form that [`Self::to_init_data`] writes.
    pub fn from_init_data(init_data: &InitData) -> Result<Self, KeyManagerConfigError> {
        let name = KEY_MANAGER_ENTRY;
        let no_entry = KeyManagerConfigError::InitData(InitDataError::NoEntry { name });
        let text = init_data.entries().get(name).ok_or(no_entry)?;
        if init_data.entries().len() != 1 {
            return Err(KeyManagerConfigError::SurplusEntry);
        }
        let parts = toml::from_str(text).map_err(|error| {
            KeyManagerConfigError::InitData(InitDataError::Entry {
                name,
                source: Box::new(error),
            })
        })?;
        let config = Self::new(parts)?;
        if config.to_toml() == *text {
            Ok(config)
        } else {
            Err(KeyManagerConfigError::NotCanonical)
        }
    }

    /// Writes the init-data that holds this configuration.
    pub fn to_init_data(&self) -> InitData {
        let entries = BTreeMap::from([(KEY_MANAGER_ENTRY.to_owned(), self.to_toml())]);
        InitData::from_entries(entries)
            .expect("hex, base64 and host names need no quoting, and the lists are bounded")
    }

    fn to_toml(&self) -> String {
        let KeyManagerConfigParts {
            owner_roots,
            threshold,
            mode,
            anchors,
            tls,
        } = &self.0;
        format!(
            "owner_roots = {}\nthreshold = {threshold}\nmode = \"{mode}\"\nanchors = {}\ntls = {}\n",
            quoted(owner_roots),
            quoted(anchors),
            quoted(tls),
        )
    }

    /// The owners that rule this key manager.
    pub fn owner_roots(&self) -> &[VerifyingKey] {
        &self.0.owner_roots
    }

    /// How many of them must sign a change.
    pub fn threshold(&self) -> u32 {
        self.0.threshold
    }

    /// What it runs on, and what it demands of guests.
    pub fn mode(&self) -> Assurance {
        self.0.mode
    }

    /// SHA-256 of each root certificate whose chains it believes.
    pub fn anchors(&self) -> &[Digest] {
        &self.0.anchors
    }

    /// The names in its TLS certificate.
    pub fn tls_names(&self) -> &[String] {
        &self.0.tls
    }
}

fn check_list<T: Ord>(member: &'static str, items: &[T]) -> Result<(), KeyManagerConfigError> {
    let different = items.iter().collect::<BTreeSet<_>>().len();
    if items.is_empty() || items.len() > MAX_ITEMS || different != items.len() {
        return Err(KeyManagerConfigError::List { member });
    }
    Ok(())
}

/// Longest DNS name (RFC 1035, section 2.3.4).
const MAX_TLS_NAME_BYTES: usize = 253;

fn is_tls_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':');
    !name.is_empty() && name.len() <= MAX_TLS_NAME_BYTES && name.bytes().all(plain)
}

/// A TOML array of basic strings; no item holds a character that needs escaping.
fn quoted<T: std::fmt::Display>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> KeyManagerConfigParts {
        KeyManagerConfigParts {
            owner_roots: vec![
                VerifyingKey::from_bytes([1; 32]),
                VerifyingKey::from_bytes([2; 32]),
            ],
            threshold: 2,
            mode: Assurance::Simulated,
            anchors: vec![Digest::of(b"ark")],
            tls: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        }
    }

    #[test]
    fn a_configuration_survives_its_init_data() {
        let config = KeyManagerConfig::new(parts()).unwrap();
        let init_data = InitData::parse(config.to_init_data().as_bytes()).unwrap();
        assert_eq!(
            KeyManagerConfig::from_init_data(&init_data).unwrap(),
            config
        );
    }

    #[test]
    fn the_written_form_is_fixed() {
        let text = KeyManagerConfig::new(parts()).unwrap().to_toml();
        let ark = Digest::of(b"ark");
        assert_eq!(
            text,
            format!(
                "owner_roots = [\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\", \
                 \"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\"]\n\
                 threshold = 2\nmode = \"simulated\"\nanchors = [\"{ark}\"]\n\
                 tls = [\"localhost\", \"127.0.0.1\"]\n"
            )
        );
    }

    fn reread(text: String) -> Result<KeyManagerConfig, KeyManagerConfigError> {
        let entries = BTreeMap::from([(KEY_MANAGER_ENTRY.to_owned(), text)]);
        KeyManagerConfig::from_init_data(&InitData::from_entries(entries).unwrap())
    }

    #[test]
    fn another_spelling_is_refused() {
        let text = KeyManagerConfig::new(parts()).unwrap().to_toml();
        reread(text.clone()).unwrap();
        for spoiled in [
            text.replace("threshold = 2", "threshold  = 2"),
            text.replace("threshold = 2", "threshold = 0x2"),
            text.clone() + "# comment\n",
        ] {
            assert!(
                matches!(
                    reread(spoiled.clone()),
                    Err(KeyManagerConfigError::NotCanonical)
                ),
                "{spoiled}"
            );
        }
        assert!(matches!(
            reread(text + "admin = \"me\"\n"),
            Err(KeyManagerConfigError::InitData(InitDataError::Entry { .. }))
        ));
    }

    #[test]
    fn an_entry_beside_the_configuration_is_refused() {
        let mut entries = KeyManagerConfig::new(parts())
            .unwrap()
            .to_init_data()
            .entries()
            .clone();
        entries.insert("aa.toml".to_owned(), "x = 1\n".to_owned());
        let init_data = InitData::from_entries(entries).unwrap();
        assert!(matches!(
            KeyManagerConfig::from_init_data(&init_data),
            Err(KeyManagerConfigError::SurplusEntry)
        ));
    }

    #[test]
    fn a_configuration_that_trusts_nobody_or_repeats_itself_is_refused() {
        let refused = |change: fn(&mut KeyManagerConfigParts)| {
            let mut parts = parts();
            change(&mut parts);
            KeyManagerConfig::new(parts).unwrap_err()
        };
        for (error, expected) in [
            (refused(|parts| parts.owner_roots.clear()), "owner_roots"),
            (
                refused(|parts| parts.owner_roots[1] = parts.owner_roots[0]),
                "owner_roots",
            ),
            (refused(|parts| parts.anchors.clear()), "anchors"),
            (refused(|parts| parts.tls.clear()), "tls"),
            (refused(|parts| parts.threshold = 0), "threshold 0"),
            (refused(|parts| parts.threshold = 3), "threshold 3"),
            (refused(|parts| parts.tls[0] = "a\"b".to_owned()), "a\\\"b"),
        ] {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
