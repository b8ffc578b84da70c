//! Where a server listens.

use std::{fmt, str::FromStr};

use rustls_pki_types::ServerName;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ClientError;

/// Longest address that is read: a host name has at most 253 characters.
const MAX_URL_BYTES: usize = 300;

/// An address `https://host:port`, nothing before, between or after.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl ServerUrl {
    /// `host:port`, as the `Host` header has it.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host without the brackets of a version 6 address.
    pub(crate) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn name(&self) -> &ServerName<'static> {
        &self.name
    }
}

impl FromStr for ServerUrl {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::BadUrl(text.chars().take(MAX_URL_BYTES).collect());
        if text.len() > MAX_URL_BYTES {
            return Err(bad());
        }
        let authority = text.strip_prefix("https://").ok_or_else(bad)?;
        let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
        let port = port.parse().ok().filter(|_| digits).ok_or_else(bad)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| bad())?;
        // Only a version 6 address stands in brackets, and it always does.
        let colons = bare.contains(':');
        if colons != (bare.len() != host.len()) {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            name,
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServerUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_host_and_port_and_nothing_else() {
        for good in [
            "https://127.0.0.1:8443",
            "https://kbs.example:443",
            "https://[::1]:1",
        ] {
            assert_eq!(good.parse::<ServerUrl>().unwrap().to_string(), good);
        }
        for bad in [
            "http://127.0.0.1:1",
            "https://127.0.0.1",
            "https://127.0.0.1:0",
            "https://127.0.0.1:01",
            "https://127.0.0.1:+1",
            "https://127.0.0.1:65536",
            "https://127.0.0.1:1/",
            "https://user@host:1",
            "https://::1:1",
            "https://[host]:1",
            "https://host:1?x",
            "https://:1",
            "HTTPS://host:1",
            " https://host:1",
        ] {
            assert!(bad.parse::<ServerUrl>().is_err(), "{bad}");
        }
    }
}
