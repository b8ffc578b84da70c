//! SHA-256 digests, domain-separated hashes and key derivation.

use std::{fmt, io, str::FromStr};

use aws_lc_rs::{digest, hkdf};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::SecretBytes;

/// A SHA-256 digest (FIPS 180-4); written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut writer = DigestWriter::new();
        writer.update(bytes);
        writer.finish()
    }

    /// Takes 32 bytes that already are a digest.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Text that is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest is 64 lower-case hex digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseDigestError);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseDigestError)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Hashes what is written to it, so that large inputs need no second read.
pub struct DigestWriter(digest::Context);

impl DigestWriter {
    /// Starts an empty hash.
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything written.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(bytes)
    }
}

impl Default for DigestWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl io::Write for DigestWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What starts every preimage and every key-derivation context of ours, so that none can be
/// confused with another protocol's.
const DOMAIN: &[u8] = b"sealift:v1:";

/// Hashes `x` under `name`: SHA-256("sealift:v1:" ‖ name ‖ 0x00 ‖ x).
///
/// Blobs and documents are identified by plain SHA-256 ([`Digest::of`]); every other hash goes
/// through here.
pub fn named_hash(name: &str, x: &[u8]) -> Digest {
    let mut writer = DigestWriter::new();
    writer.update(DOMAIN);
    writer.update(name.as_bytes());
    writer.update(&[0]);
    writer.update(x);
    writer.finish()
}

/// Derives a 256-bit key: HKDF-SHA256 (RFC 5869, empty salt) with
/// info = "sealift:v1:" ‖ purpose ‖ 0x00 ‖ context.
pub fn derive_key(secret: &[u8], purpose: &str, context: &[u8]) -> SecretBytes<32> {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
    let mut key = SecretBytes::zeroed();
    prk.expand(
        &[DOMAIN, purpose.as_bytes(), &[0], context],
        hkdf::HKDF_SHA256,
    )
    .and_then(|okm| okm.fill(key.expose_mut()))
    .expect("32 bytes are within HKDF-SHA256's limit of 255 blocks");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256("abc"), FIPS 180-4 example.
    #[test]
    fn a_digest_prints_and_parses_as_lower_case_hex() {
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), text);
        assert_eq!(text.parse(), Ok(Digest::of(b"abc")));
        assert_eq!(text.to_uppercase().parse::<Digest>(), Err(ParseDigestError));
        assert_eq!(text[1..].parse::<Digest>(), Err(ParseDigestError));
    }

    #[test]
    fn a_named_hash_is_the_plain_hash_of_its_documented_preimage() {
        assert_eq!(
            named_hash("source", b"x"),
            Digest::of(b"sealift:v1:source\0x")
        );
        assert_ne!(named_hash("source", b"x"), named_hash("sourc", b"ex"));
    }

    /// Computed with Python's `hmac`: extract with a 32-byte zero salt, one expand block.
    #[test]
    fn key_derivation_matches_an_independent_hkdf() {
        let key = derive_key(&[7; 32], "km/db", b"1");
        assert_eq!(
            hex::encode(key.expose()),
            "b6478b2cc19c40e1fd4a0b4943ece6b2693ac1cc15087b5e483092d7cfba49f2"
        );
    }
}
