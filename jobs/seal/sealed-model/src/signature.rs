//! `model.sig`: who published the folder.
//!
//! OpenSSF Model Signing 1.0: a Sigstore bundle (v0.3) with one DSSE envelope around an in-toto
//! statement that lists every file's SHA-256. `model_signing verify key` accepts it. It says
//! *who*; *which* model and version is for the manifest to say, which the statement covers.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use sealift_signed_document::{Digest, DigestWriter};
use serde::{Deserialize, Serialize};

use crate::{
    limits::{FILES_MAX, SIGNATURE_BYTES_MAX},
    name::{FileName, Name},
    publish_key::{PublishKey, PublishVerifyingKey},
};

/// The signature's name in a version's folder.
pub const SIGNATURE_FILE: &str = "model.sig";

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
const SHA256: &str = "sha256";

/// What the reference implementation leaves out of a folder unless told otherwise; our file
/// names never begin with a dot.
const IGNORED_PATHS: [&str; 4] = [".git", ".gitignore", ".gitattributes", ".github"];

/// Why a folder's signature was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Beyond [`SIGNATURE_BYTES_MAX`].
    #[error("model.sig has {0} bytes, more than the limit of 8 MiB")]
    TooLarge(u64),
    /// Not a bundle.
    #[error("model.sig is not a Sigstore bundle with a public key")]
    Bundle(#[source] serde_json::Error),
    /// The right things in other bytes.
    #[error("model.sig is not in the one form that is written")]
    NotCanonical,
    /// A bundle of another kind.
    #[error("model.sig has `{found}` where `{expected}` belongs")]
    Kind {
        /// What stands there.
        found: String,
        /// What has to stand there.
        expected: &'static str,
    },
    /// None or several signatures.
    #[error("model.sig has {0} signatures where one belongs")]
    SignatureCount(usize),
    /// Not base64.
    #[error("model.sig has a payload or signature that is not base64")]
    Base64(#[source] base64::DecodeError),
    /// Signed by somebody else, or changed since.
    #[error(
        "model.sig is not a signature by the pinned publish key over its payload; either the folder was changed or another owner published it"
    )]
    WrongKey,
    /// The signed payload is not a statement about files.
    #[error("the signed statement is not one of OpenSSF Model Signing")]
    Statement(#[source] serde_json::Error),
    /// None or several subjects.
    #[error("the signed statement has {0} subjects where one belongs")]
    SubjectCount(usize),
    /// Files not by ascending name, or one twice.
    #[error("the signed statement does not list each file once by ascending name, at `{0}`")]
    FileOrder(FileName),
    /// Too many files.
    #[error("the signed statement lists {0} files, more than the limit of 4,096")]
    TooManyFiles(usize),
    /// The subject's digest is not the one over the files.
    #[error("the signed statement's own digest does not cover its files")]
    WrongRoot,
}

/// Signs `files` as the folder of `subject` and returns the bytes of `model.sig`.
pub fn sign_files(subject: &Name, files: &BTreeMap<FileName, Digest>, key: &PublishKey) -> Vec<u8> {
    let statement = Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject: vec![Subject {
            name: subject.to_string(),
            digest: SubjectDigest {
                sha256: root(files.values()),
            },
        }],
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: Predicate {
            resources: files
                .iter()
                .map(|(name, &digest)| Resource {
                    name: name.clone(),
                    algorithm: SHA256.to_owned(),
                    digest,
                })
                .collect(),
            serialization: Serialization {
                method: "files".to_owned(),
                hash_type: SHA256.to_owned(),
                allow_symlinks: false,
                ignore_paths: IGNORED_PATHS.map(ToOwned::to_owned).to_vec(),
            },
        },
    };
    let payload = json(&statement);
    let bundle = Bundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: Material {
            public_key: KeyHint {
                hint: key.public().hint(),
            },
            tlog_entries: [],
        },
        dsse_envelope: DsseEnvelope {
            payload: STANDARD.encode(&payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![DsseSignature {
                sig: STANDARD.encode(key.sign(&pre_authentication_encoding(&payload))),
                keyid: String::new(),
            }],
        },
    };
    json(&bundle)
}

/// The publish key that the bytes of `model.sig` name, which nothing vouches for.
pub(crate) fn claimed_signer(bytes: &[u8]) -> Result<String, SignatureError> {
    if bytes.len() as u64 > SIGNATURE_BYTES_MAX {
        return Err(SignatureError::TooLarge(bytes.len() as u64));
    }
    let bundle: Bundle = serde_json::from_slice(bytes).map_err(SignatureError::Bundle)?;
    Ok(bundle.verification_material.public_key.hint)
}

/// The files of a folder with the digests that a pinned key signed.
///
/// [`SignedFiles::verify`] is its only constructor.
#[derive(Debug)]
pub(crate) struct SignedFiles {
    pub(crate) subject: String,
    pub(crate) files: BTreeMap<FileName, Digest>,
}

impl SignedFiles {
    /// Checks the bytes of `model.sig` against the pinned key.
    pub(crate) fn verify(bytes: &[u8], key: &PublishVerifyingKey) -> Result<Self, SignatureError> {
        if bytes.len() as u64 > SIGNATURE_BYTES_MAX {
            return Err(SignatureError::TooLarge(bytes.len() as u64));
        }
        let bundle: Bundle = serde_json::from_slice(bytes).map_err(SignatureError::Bundle)?;
        // No other bytes may say the same, or the folder's own digest could vary.
        if json(&bundle) != bytes {
            return Err(SignatureError::NotCanonical);
        }
        expect_text(bundle.media_type, MEDIA_TYPE)?;
        if bundle.verification_material.public_key.hint != key.hint() {
            return Err(SignatureError::WrongKey);
        }
        let envelope = bundle.dsse_envelope;
        expect_text(envelope.payload_type, PAYLOAD_TYPE)?;
        let [signature] = envelope.signatures.as_slice() else {
            return Err(SignatureError::SignatureCount(envelope.signatures.len()));
        };
        let payload = STANDARD
            .decode(&envelope.payload)
            .map_err(SignatureError::Base64)?;
        let signature = STANDARD
            .decode(&signature.sig)
            .map_err(SignatureError::Base64)?;
        if !key.verifies(&pre_authentication_encoding(&payload), &signature) {
            return Err(SignatureError::WrongKey);
        }
        let statement = serde_json::from_slice(&payload).map_err(SignatureError::Statement)?;
        Self::from_statement(statement)
    }

    fn from_statement(statement: Statement) -> Result<Self, SignatureError> {
        expect_text(statement.kind, STATEMENT_TYPE)?;
        expect_text(statement.predicate_type, PREDICATE_TYPE)?;
        expect_text(statement.predicate.serialization.method, "files")?;
        expect_text(statement.predicate.serialization.hash_type, SHA256)?;
        let resources = statement.predicate.resources;
        if resources.len() > FILES_MAX {
            return Err(SignatureError::TooManyFiles(resources.len()));
        }
        let mut files = BTreeMap::new();
        for Resource {
            name,
            algorithm,
            digest,
        } in resources
        {
            expect_text(algorithm, SHA256)?;
            if files
                .last_key_value()
                .is_some_and(|(last, _)| *last >= name)
            {
                return Err(SignatureError::FileOrder(name));
            }
            files.insert(name, digest);
        }
        let subjects = statement.subject.len();
        let Ok([subject]) = <[Subject; 1]>::try_from(statement.subject) else {
            return Err(SignatureError::SubjectCount(subjects));
        };
        if subject.digest.sha256 != root(files.values()) {
            return Err(SignatureError::WrongRoot);
        }
        Ok(Self {
            subject: subject.name,
            files,
        })
    }
}

/// DSSE v1's pre-authentication encoding.
fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    )
    .into_bytes();
    bytes.extend(payload);
    bytes
}

/// SHA-256 over the digests, in order.
fn root<'a>(digests: impl Iterator<Item = &'a Digest>) -> Digest {
    let mut writer = DigestWriter::new();
    for digest in digests {
        writer.update(digest.as_bytes());
    }
    writer.finish()
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs of texts into a buffer always serialize")
}

fn expect_text(found: String, expected: &'static str) -> Result<(), SignatureError> {
    if found == expected {
        Ok(())
    } else {
        Err(SignatureError::Kind { found, expected })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: DsseEnvelope,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Material {
    public_key: KeyHint,
    /// No transparency log is asked, so none may be claimed.
    tlog_entries: [(); 0],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyHint {
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DsseEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<DsseSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DsseSignature {
    sig: String,
    keyid: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectDigest {
    sha256: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    resources: Vec<Resource>,
    serialization: Serialization,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    name: FileName,
    algorithm: String,
    digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[cfg(test)]
mod tests;
