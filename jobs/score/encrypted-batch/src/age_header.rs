//! The header of an age v1 file, read and written in one strict spelling.
//!
//! ```text
//! age-encryption.org/v1 LF
//! ( "-> X25519 " <43: ephemeral share> LF <43: wrapped file key> LF ){1..20}
//! "--- " <43: HMAC-SHA256 over everything up to and with "---"> LF
//! ```
//! <43> is canonical base64 of 32 bytes without padding. Other stanza types are refused although
//! age allows them: a passphrase stanza would make the key manager run a work factor of the
//! sender's choice, and the grease stanzas that some writers add cannot be told from it by type.

use age_core::{
    format::Stanza,
    primitives::hkdf,
    secrecy::{ExposeSecret, SecretBox},
};
use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use sealift_signed_document::Digest;

use crate::{FileKey, age_key::AgeRecipient};

/// Most recipients of a file: the key manager does one X25519 for each, for a sender it does not
/// trust.
pub const MAX_STANZAS: usize = 20;

const VERSION_LINE: &str = "age-encryption.org/v1";
const X25519: &str = "X25519";
const STANZA: &str = "-> ";
const MAC: &str = "---";
/// 32 bytes in base64 without padding.
const ENCODED_32: usize = 43;

/// Longest header that passes: everything in it has a fixed length.
pub const MAX_HEADER_BYTES: usize = VERSION_LINE.len()
    + 1
    + MAX_STANZAS * (STANZA.len() + X25519.len() + 1 + 2 * (ENCODED_32 + 1))
    + MAC.len()
    + 1
    + ENCODED_32
    + 1;

/// Why a header is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Another format or version.
    #[error("this is not an age v1 file in binary form")]
    Version,
    /// It ends before its MAC line, or a line is longer than any that is read.
    #[error("the age header is truncated")]
    Truncated,
    /// A recipient of another type than X25519.
    #[error("the age header has a `{0}` stanza; seal to X25519 recipients only")]
    ForeignStanza(String),
    /// A stanza that is not in the one form of X25519 stanzas.
    #[error("stanza {0} of the age header is not a canonical X25519 stanza")]
    Stanza(usize),
    /// Nobody could open it.
    #[error("the age header has no recipient")]
    NoStanza,
    /// Too many recipients.
    #[error("the age header has more than {MAX_STANZAS} recipients")]
    TooManyStanzas,
    /// The MAC line is not in its one form.
    #[error("the MAC line of the age header is malformed")]
    MacLine,
    /// Bytes after the MAC line where the header alone was expected.
    #[error("{0} bytes follow the age header")]
    Trailing(usize),
}

/// A parsed header with the bytes it was parsed from.
pub struct AgeHeader {
    bytes: Vec<u8>,
    stanzas: Vec<Stanza>,
    mac: [u8; 32],
}

impl AgeHeader {
    /// Parses bytes that are a header and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (header, rest) = Self::parse_prefix(bytes)?;
        if rest.is_empty() {
            Ok(header)
        } else {
            Err(HeaderError::Trailing(rest.len()))
        }
    }

    /// Parses the header at the start of a file; returns the payload after it.
    pub fn parse_prefix(file: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let mut lines = Lines(file);
        match lines.next() {
            Ok(line) if line == VERSION_LINE.as_bytes() => {}
            _ => return Err(HeaderError::Version),
        }
        let mut stanzas = Vec::new();
        let mac = loop {
            let line = lines.next()?;
            if line.starts_with(MAC.as_bytes()) {
                break parse_mac(line)?;
            }
            if stanzas.len() == MAX_STANZAS {
                return Err(HeaderError::TooManyStanzas);
            }
            stanzas.push(parse_stanza(stanzas.len(), line, &mut lines)?);
        };
        if stanzas.is_empty() {
            return Err(HeaderError::NoStanza);
        }
        let (bytes, rest) = file.split_at(file.len() - lines.0.len());
        Ok((
            Self {
                bytes: bytes.to_vec(),
                stanzas,
                mac,
            },
            rest,
        ))
    }

    /// The header as it stands in the file, MAC line included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`Self::as_bytes`]: `header_sha256` of a batch.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    pub(crate) fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// Whether the MAC was made under `key`, so that nobody without it changed the recipients.
    pub(crate) fn mac_is_of(&self, key: &FileKey) -> bool {
        let covered = self.bytes.len() - ENCODED_32 - 2;
        hmac::verify(&mac_key(key), &self.bytes[..covered], &self.mac).is_ok()
    }

    /// Writes the header of a file under `key` for `recipients`; `None` if one of them cannot be
    /// wrapped to or their number is out of range.
    pub(crate) fn write(key: &FileKey, recipients: &[AgeRecipient]) -> Option<Vec<u8>> {
        if recipients.is_empty() || recipients.len() > MAX_STANZAS {
            return None;
        }
        let mut text = format!("{VERSION_LINE}\n");
        for recipient in recipients {
            for stanza in recipient.wrap(key)? {
                let share = stanza.args.join(" ");
                let wrapped = BASE64_STANDARD_NO_PAD.encode(&stanza.body);
                let lines = [STANZA, &stanza.tag, " ", &share, "\n", &wrapped, "\n"];
                text.extend(lines);
            }
        }
        text.push_str(MAC);
        let mac = hmac::sign(&mac_key(key), text.as_bytes());
        text.extend([" ", &BASE64_STANDARD_NO_PAD.encode(mac), "\n"]);
        Some(text.into_bytes())
    }
}

struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// The next line without its line feed. No line of a header is longer than the bound, so a
    /// file without line feeds is not searched to its end.
    fn next(&mut self) -> Result<&'a [u8], HeaderError> {
        let window = &self.0[..self.0.len().min(MAX_HEADER_BYTES)];
        let end = window
            .iter()
            .position(|b| *b == b'\n')
            .ok_or(HeaderError::Truncated)?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Ok(line)
    }
}

fn parse_stanza(index: usize, line: &[u8], lines: &mut Lines<'_>) -> Result<Stanza, HeaderError> {
    let malformed = HeaderError::Stanza(index);
    let arguments = line
        .strip_prefix(STANZA.as_bytes())
        .ok_or_else(|| malformed.clone())?;
    let share = match arguments.strip_prefix(X25519.as_bytes()) {
        Some([b' ', share @ ..]) => share,
        Some([]) => return Err(malformed),
        _ => return Err(HeaderError::ForeignStanza(stanza_type(arguments))),
    };
    if decode_32(share).is_none() {
        return Err(malformed);
    }
    let body = decode_32(lines.next()?).ok_or_else(|| malformed.clone())?;
    let share = String::from_utf8(share.to_vec()).map_err(|_| malformed)?;
    Ok(Stanza {
        tag: X25519.to_owned(),
        args: vec![share],
        body: body.to_vec(),
    })
}

/// The first word of a stanza line, shortened and made printable for the error message.
fn stanza_type(arguments: &[u8]) -> String {
    /// Long enough for every stanza type in use.
    const SHOWN: usize = 24;
    let word = arguments.split(|b| *b == b' ').next().unwrap_or_default();
    word.iter()
        .take(SHOWN)
        .map(|b| char::from(*b))
        .filter(char::is_ascii_graphic)
        .collect()
}

fn parse_mac(line: &[u8]) -> Result<[u8; 32], HeaderError> {
    let encoded = line
        .strip_prefix(MAC.as_bytes())
        .and_then(|rest| rest.strip_prefix(b" "))
        .ok_or(HeaderError::MacLine)?;
    decode_32(encoded).ok_or(HeaderError::MacLine)
}

/// Base64 of exactly 32 bytes in its one spelling: no padding, no stray bits.
fn decode_32(encoded: &[u8]) -> Option<[u8; 32]> {
    if encoded.len() != ENCODED_32 {
        return None;
    }
    BASE64_STANDARD_NO_PAD.decode(encoded).ok()?.try_into().ok()
}

/// HKDF-SHA256 with an empty salt and info "header" (C2SP age, section "Header MAC").
fn mac_key(key: &FileKey) -> hmac::Key {
    let key = SecretBox::new(Box::new(hkdf(&[], b"header", key.expose())));
    hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret())
}
