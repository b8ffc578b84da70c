//! DSSE v1 envelopes with one Ed25519 signature around one canonical JSON document.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};

use crate::{
    Digest, KeyId, SigningKey, VerifyingKey,
    canonical::{canonical_json, parse_canonical},
};

/// Largest envelope that is read: a batch document lists at most some ten thousand partitions of
/// some two hundred bytes each.
pub const MAX_ENVELOPE_BYTES: usize = 8 << 20;

/// A form that is only ever used signed.
///
/// Implementors use `#[serde(deny_unknown_fields)]`.
pub trait Document: Serialize + DeserializeOwned {
    /// Names the form with its version, as in `grant.v1`: the domain of its signatures, so
    /// renaming it is a format change.
    const TYPE: &'static str;
}

/// Why a document was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The bytes are not an envelope of the one form that is read.
    #[error("this is not a DSSE envelope with one signature")]
    BadEnvelope,
    /// A key that does not decode.
    #[error("this is not a public or private key of the expected kind")]
    BadKey,
    /// The signature does not fit key and payload.
    #[error("the signature does not verify under the expected key")]
    BadSignature,
    /// The signature was made by a key of another name.
    #[error("signed by key `{found}`, expected `{expected}`")]
    OtherSigner {
        /// The name in the envelope.
        found: KeyId,
        /// The name of the key it was checked with.
        expected: KeyId,
    },
    /// The envelope holds another kind of document.
    #[error("the envelope holds `{found}`, expected `{expected}`")]
    OtherType {
        /// The payload type in the envelope.
        found: String,
        /// The payload type that was asked for.
        expected: String,
    },
    /// The key may not sign documents of this kind.
    #[error("the key is not certified for `{0}`; the owner root must delegate that type to it")]
    NotCertified(&'static str),
    /// The delegation or document is past its end.
    #[error("the delegation ended at {0} (Unix seconds); the owner root must issue a new one")]
    Expired(u64),
    /// The payload is JSON, but not of this form.
    #[error("the document does not have the members of its type")]
    Malformed(#[source] serde_json::Error),
    /// The payload is not the canonical spelling of itself.
    #[error("the document is not in canonical form (RFC 8785)")]
    NotCanonical,
    /// The box does not open under this key, type and associated data.
    #[error("the box was not encrypted to this key for this document")]
    BoxDoesNotOpen,
    /// The value has no canonical form.
    #[error("the document has no canonical form")]
    Unwritable(#[source] serde_json::Error),
    /// Larger than any document.
    #[error("the envelope has {0} bytes, more than the {MAX_ENVELOPE_BYTES} that are read")]
    TooLarge(usize),
}

/// The bytes of a DSSE v1 envelope, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope(Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dsse {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<DsseSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DsseSignature {
    keyid: KeyId,
    sig: String,
}

impl Envelope {
    /// Takes received bytes; nothing is parsed yet.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes as they travel.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 of the bytes: what other documents name this one by.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// Checks type, signer, signature over the received payload, and canonical form.
    pub fn verify<D: Document>(&self, key: &VerifyingKey) -> Result<Signed<D>, DocumentError> {
        if self.0.len() > MAX_ENVELOPE_BYTES {
            return Err(DocumentError::TooLarge(self.0.len()));
        }
        let dsse: Dsse = parse_canonical(&self.0).map_err(|_| DocumentError::BadEnvelope)?;
        let [signature] = dsse.signatures.as_slice() else {
            return Err(DocumentError::BadEnvelope);
        };
        let expected = payload_type::<D>();
        if dsse.payload_type != expected {
            return Err(DocumentError::OtherType {
                found: dsse.payload_type,
                expected,
            });
        }
        if signature.keyid != key.thumbprint() {
            return Err(DocumentError::OtherSigner {
                found: signature.keyid.clone(),
                expected: key.thumbprint(),
            });
        }
        let payload = STANDARD
            .decode(&dsse.payload)
            .map_err(|_| DocumentError::BadEnvelope)?;
        let sig = STANDARD
            .decode(&signature.sig)
            .map_err(|_| DocumentError::BadEnvelope)?;
        key.verify_raw(&pre_authentication_encoding(&expected, &payload), &sig)?;
        Ok(Signed {
            document: parse_canonical(&payload)?,
            signer: *key,
            envelope: self.clone(),
        })
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(&self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() > MAX_ENVELOPE_BYTES {
            return Err(de::Error::custom(DocumentError::TooLarge(text.len())));
        }
        Ok(Self(text.into_bytes()))
    }
}

/// Signs `document` with `key`.
pub fn sign<D: Document>(document: &D, key: &SigningKey) -> Result<Envelope, DocumentError> {
    let payload = canonical_json(document)?;
    let payload_type = payload_type::<D>();
    let signature = key.sign_raw(&pre_authentication_encoding(&payload_type, &payload));
    let dsse = Dsse {
        payload: STANDARD.encode(&payload),
        payload_type,
        signatures: vec![DsseSignature {
            keyid: key.public().thumbprint(),
            sig: STANDARD.encode(signature),
        }],
    };
    canonical_json(&dsse).map(Envelope)
}

/// A document whose signature was checked.
///
/// [`Envelope::verify`] is its only constructor.
#[derive(Clone, Debug)]
pub struct Signed<D> {
    document: D,
    signer: VerifyingKey,
    envelope: Envelope,
}

impl<D> Signed<D> {
    /// What was signed.
    pub fn document(&self) -> &D {
        &self.document
    }

    /// The key it was checked with.
    pub fn signer(&self) -> &VerifyingKey {
        &self.signer
    }

    /// The received bytes.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// SHA-256 of the received bytes.
    pub fn digest(&self) -> Digest {
        self.envelope.digest()
    }
}

fn payload_type<D: Document>() -> String {
    format!("application/vnd.sealift.{}+json", D::TYPE)
}

/// DSSE v1 PAE: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body, lengths in ASCII decimal.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Note {
        text: String,
    }

    impl Document for Note {
        const TYPE: &'static str = "note.v1";
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Other {
        text: String,
    }

    impl Document for Other {
        const TYPE: &'static str = "other.v1";
    }

    fn note() -> (Envelope, SigningKey) {
        let key = SigningKey::generate();
        (
            sign(
                &Note {
                    text: "hello".into(),
                },
                &key,
            )
            .unwrap(),
            key,
        )
    }

    fn edited(envelope: &Envelope, edit: impl FnOnce(&mut Dsse)) -> Envelope {
        let mut dsse: Dsse = serde_json::from_slice(envelope.as_bytes()).unwrap();
        edit(&mut dsse);
        Envelope(canonical_json(&dsse).unwrap())
    }

    #[test]
    fn a_signed_document_is_read_back() {
        let (envelope, key) = note();
        let signed = envelope.verify::<Note>(&key.public()).unwrap();
        assert_eq!(signed.document().text, "hello");
        assert_eq!(signed.digest(), Digest::of(envelope.as_bytes()));
    }

    #[test]
    fn a_document_of_another_type_is_refused_although_the_members_fit() {
        let (envelope, key) = note();
        let refused = envelope.verify::<Other>(&key.public());
        assert!(matches!(refused, Err(DocumentError::OtherType { .. })));
    }

    #[test]
    fn a_type_renamed_in_the_envelope_breaks_the_signature() {
        let (envelope, key) = note();
        let renamed = edited(&envelope, |dsse| {
            dsse.payload_type = payload_type::<Other>();
        });
        let refused = renamed.verify::<Other>(&key.public());
        assert!(matches!(refused, Err(DocumentError::BadSignature)));
    }

    #[test]
    fn another_signer_is_refused_by_name_and_by_signature() {
        let (envelope, _) = note();
        let stranger = SigningKey::generate().public();
        let refused = envelope.verify::<Note>(&stranger);
        assert!(matches!(refused, Err(DocumentError::OtherSigner { .. })));
        let renamed = edited(&envelope, |dsse| {
            dsse.signatures[0].keyid = stranger.thumbprint();
        });
        let refused = renamed.verify::<Note>(&stranger);
        assert!(matches!(refused, Err(DocumentError::BadSignature)));
    }

    #[test]
    fn no_signature_and_a_second_signature_are_refused() {
        let (envelope, key) = note();
        let none = edited(&envelope, |dsse| dsse.signatures.clear());
        assert!(matches!(
            none.verify::<Note>(&key.public()),
            Err(DocumentError::BadEnvelope)
        ));
        let two = edited(&envelope, |dsse| {
            let sig = dsse.signatures[0].sig.clone();
            dsse.signatures.push(DsseSignature {
                keyid: key.public().thumbprint(),
                sig,
            });
        });
        assert!(matches!(
            two.verify::<Note>(&key.public()),
            Err(DocumentError::BadEnvelope)
        ));
    }

    #[test]
    fn a_payload_signed_in_another_spelling_is_refused() {
        let key = SigningKey::generate();
        let payload = br#"{"text": "hello"}"#;
        let kind = payload_type::<Note>();
        let dsse = Dsse {
            payload: STANDARD.encode(payload),
            signatures: vec![DsseSignature {
                keyid: key.public().thumbprint(),
                sig: STANDARD.encode(key.sign_raw(&pre_authentication_encoding(&kind, payload))),
            }],
            payload_type: kind,
        };
        let envelope = Envelope(canonical_json(&dsse).unwrap());
        let refused = envelope.verify::<Note>(&key.public());
        assert!(matches!(refused, Err(DocumentError::NotCanonical)));
    }

    #[test]
    fn no_single_byte_of_an_envelope_can_be_changed() {
        let (envelope, key) = note();
        for position in 0..envelope.as_bytes().len() {
            let mut bytes = envelope.as_bytes().to_vec();
            bytes[position] ^= 1;
            let changed = Envelope(bytes).verify::<Note>(&key.public());
            assert!(changed.is_err(), "byte {position} is not covered");
        }
    }
}
