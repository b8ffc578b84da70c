//! The members of `__metadata__` that CryptoTensors defines.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};

use super::{ChunkSize, ContainerError, facts::FileFacts};
use crate::tensor_key::{IV_BYTES, TAG_BYTES, WrappedKey, chunk_iv};

pub(crate) const CRYPTO_KEYS: &str = "__crypto_keys__";
pub(crate) const ENCRYPTION: &str = "__encryption__";
pub(crate) const POLICY: &str = "__policy__";
pub(crate) const SIGNATURE: &str = "__signature__";

/// The one policy that is written and accepted: who may load is for the key manager to say, so
/// the file says yes. It is the text that CryptoTensors itself writes where none is given.
pub(crate) const FIXED_POLICY: &str =
    r#"{"local":"package model\nallow = true","remote":"package model\nallow = true"}"#;

const VERSION: &str = "2";
const CIPHER: &str = "aes256gcm";
const SIGNATURE_ALGORITHM: &str = "ed25519";

/// `__crypto_keys__`; members in the order of their names, as CryptoTensors writes them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CryptoKeys {
    chunk_size: Option<u64>,
    enc: KeyHint,
    sign: KeyHint,
    version: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyHint {
    alg: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jku: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    kty: String,
}

impl KeyHint {
    fn new(kty: &str, alg: &str, kid: String) -> Self {
        Self {
            kty: kty.to_owned(),
            alg: alg.to_owned(),
            kid: Some(kid),
            jku: None,
        }
    }

    fn check(self, kty: &'static str, alg: &'static str, kid: &str) -> Result<(), ContainerError> {
        if let Some(url) = self.jku {
            return Err(ContainerError::KeyUrl(url));
        }
        for (found, expected) in [(self.kty, kty), (self.alg, alg)] {
            if found != expected {
                return Err(ContainerError::Algorithm { found, expected });
            }
        }
        match self.kid {
            Some(found) if found == kid => Ok(()),
            found => Err(ContainerError::KeyName {
                found: found.unwrap_or_default(),
                expected: kid.to_owned(),
            }),
        }
    }
}

/// `__crypto_keys__` of a file of ours.
pub(crate) fn crypto_keys(facts: &FileFacts<'_>, chunk: ChunkSize) -> String {
    json(&CryptoKeys {
        chunk_size: Some(chunk.bytes()),
        enc: KeyHint::new("oct", CIPHER, facts.kek_name()),
        sign: KeyHint::new(
            "okp",
            SIGNATURE_ALGORITHM,
            facts.header_key.thumbprint().to_string(),
        ),
        version: VERSION.to_owned(),
    })
}

/// Checks `__crypto_keys__` and returns the chunk size.
pub(crate) fn check_crypto_keys(
    text: &str,
    facts: &FileFacts<'_>,
) -> Result<ChunkSize, ContainerError> {
    let keys: CryptoKeys = parse(CRYPTO_KEYS, text)?;
    if keys.version != VERSION {
        return Err(ContainerError::Version(keys.version));
    }
    keys.enc.check("oct", CIPHER, &facts.kek_name())?;
    keys.sign.check(
        "okp",
        SIGNATURE_ALGORITHM,
        facts.header_key.thumbprint().as_str(),
    )?;
    let bytes = keys.chunk_size.unwrap_or(0);
    let chunk = ChunkSize::new(bytes).ok_or(ContainerError::ChunkSize(bytes))?;
    if text != crypto_keys(facts, chunk) {
        return Err(ContainerError::NotCanonical);
    }
    Ok(chunk)
}

/// What the header holds for one sealed tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedTensor {
    pub(crate) wrapped: WrappedKey,
    pub(crate) base_iv: [u8; IV_BYTES],
    pub(crate) tags: Vec<u8>,
}

/// One entry of `__encryption__`; members in CryptoTensors' order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cryptor {
    wrapped_key: String,
    key_iv: String,
    key_tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    iv: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<serde_json::Value>,
    base_iv: Option<String>,
    tags: Option<String>,
}

impl SealedTensor {
    fn encode(&self) -> Cryptor {
        Cryptor {
            wrapped_key: STANDARD.encode(self.wrapped.ciphertext),
            key_iv: STANDARD.encode(self.wrapped.iv),
            key_tag: STANDARD.encode(self.wrapped.tag),
            iv: None,
            tag: None,
            base_iv: Some(STANDARD.encode(self.base_iv)),
            tags: Some(STANDARD.encode(&self.tags)),
        }
    }

    fn decode(tensor: &str, cryptor: &Cryptor) -> Result<Self, ContainerError> {
        if cryptor.iv.is_some() || cryptor.tag.is_some() {
            return Err(ContainerError::MonolithicMember(tensor.to_owned()));
        }
        let wrapped = WrappedKey {
            ciphertext: fixed(tensor, "wrapped_key", Some(&cryptor.wrapped_key))?,
            iv: fixed(tensor, "key_iv", Some(&cryptor.key_iv))?,
            tag: fixed(tensor, "key_tag", Some(&cryptor.key_tag))?,
        };
        let base_iv = fixed(tensor, "base_iv", cryptor.base_iv.as_deref())?;
        let tags = decode(tensor, "tags", cryptor.tags.as_deref())?;
        Ok(Self {
            wrapped,
            base_iv,
            tags,
        })
    }

    /// Checks that there is one tag for each chunk of a body of `bytes`, and that no two chunks
    /// share an IV.
    pub(crate) fn check(
        &self,
        tensor: &str,
        bytes: u64,
        chunk: ChunkSize,
    ) -> Result<(), ContainerError> {
        let chunks = chunk.count(bytes);
        let expected = chunks * TAG_BYTES as u64;
        if self.tags.len() as u64 != expected {
            let found = self.tags.len();
            return Err(ContainerError::Tags {
                tensor: tensor.to_owned(),
                found,
                expected,
            });
        }
        if chunk_iv(self.base_iv, chunks - 1).is_none() {
            return Err(ContainerError::CounterWrap(tensor.to_owned()));
        }
        Ok(())
    }
}

/// `__encryption__` of these tensors.
pub(crate) fn encryption(tensors: &BTreeMap<String, SealedTensor>) -> String {
    let encoded: BTreeMap<_, _> = tensors
        .iter()
        .map(|(name, tensor)| (name, tensor.encode()))
        .collect();
    json(&encoded)
}

/// Parses `__encryption__`, each tensor once.
pub(crate) fn parse_encryption(
    text: &str,
) -> Result<BTreeMap<String, SealedTensor>, ContainerError> {
    let Entries(entries) = parse(ENCRYPTION, text)?;
    let mut tensors = BTreeMap::new();
    for (name, cryptor) in entries {
        let tensor = SealedTensor::decode(&name, &cryptor)?;
        tensors.insert(name, tensor);
    }
    // A duplicate, another order or white space shows here.
    if text != encryption(&tensors) {
        return Err(ContainerError::NotCanonical);
    }
    Ok(tensors)
}

/// The members of an object, in order and with duplicates.
struct Entries(Vec<(String, Cryptor)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of sealed tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

fn parse<'a, T: Deserialize<'a>>(member: &'static str, text: &'a str) -> Result<T, ContainerError> {
    serde_json::from_str(text).map_err(|source| ContainerError::Malformed { member, source })
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("texts and numbers into a buffer always serialize")
}

fn decode(
    tensor: &str,
    member: &'static str,
    text: Option<&str>,
) -> Result<Vec<u8>, ContainerError> {
    text.and_then(|text| STANDARD.decode(text).ok())
        .ok_or_else(|| ContainerError::Encoding {
            tensor: tensor.to_owned(),
            member,
        })
}

fn fixed<const N: usize>(
    tensor: &str,
    member: &'static str,
    text: Option<&str>,
) -> Result<[u8; N], ContainerError> {
    decode(tensor, member, text)?
        .try_into()
        .map_err(|_| ContainerError::Encoding {
            tensor: tensor.to_owned(),
            member,
        })
}
