//! Reading and writing the folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use sealift_evidence::Assurance;
use sealift_init_data::InitTemplate;
use sealift_kbs_protocol::evidence::KeyManagerExpectation;
use sealift_signed_document::{
    DelegatedKey, Digest, Document, DocumentError, Envelope, PublicKey, Signed, VerifyingKey,
};
use sealift_verifier::{AnchorError, Anchors, ReferenceValues, Verifier};
use serde::{Deserialize, Serialize};

use crate::TrustedVerifier;

const OWNER_ROOT: &str = "owner-root";
const ANCHORS: &str = "anchors.json";
const ADMIN: &str = "admin.delegation.json";
const PUBLISH: &str = "publish.delegation.json";
const TEMPLATE: &str = "init-template.json";
const GUESTS: &str = "guest-reference-values.json";
const KEY_MANAGERS: &str = "key-manager-reference-values.json";

/// How many roots must agree to a change of the key manager.
const THRESHOLD: u32 = 1;

/// Why the folder is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustFolderError {
    /// The file system said no.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A signed file that the root did not stand behind.
    #[error("`{}` is not what the owner root signed", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// The list of anchors does not parse.
    #[error("`{}` is not a list of anchors", path.display())]
    AnchorsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The anchors do not fit their mode.
    #[error("the anchors do not fit their mode")]
    Anchors(#[from] AnchorError),
    /// The publish delegation is for a key of another algorithm.
    #[error("`{}` does not delegate a P-256 key", path.display())]
    PublishKey {
        /// The file.
        path: PathBuf,
    },
}

/// `anchors.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorsFile {
    /// What the anchors vouch for.
    pub mode: Assurance,
    /// SHA-256 of each accepted root certificate.
    pub anchors: Vec<Digest>,
}

/// What an owner puts into a new folder.
#[derive(Clone, Debug)]
pub struct TrustParts {
    /// The root.
    pub owner_root: VerifyingKey,
    /// The anchors.
    pub anchors: AnchorsFile,
    /// `delegation.v1` of the admin key.
    pub admin: Envelope,
    /// `delegation.v1` of the publish key.
    pub publish: Envelope,
    /// `init-template.v1`.
    pub template: Envelope,
    /// `reference-values.v1` of guests.
    pub guests: Envelope,
    /// `reference-values.v1` of key managers.
    pub key_managers: Envelope,
}

/// What somebody trusts: every part was checked against the owner root.
///
/// [`TrustFolder::open`] is its only constructor.
#[derive(Clone, Debug)]
pub struct TrustFolder {
    owner_root: VerifyingKey,
    anchors: Anchors,
    publish_key: Vec<u8>,
    publish: Envelope,
    template: Signed<InitTemplate>,
    guests: Signed<ReferenceValues>,
    key_managers: Signed<ReferenceValues>,
}

impl TrustFolder {
    /// Reads the folder and checks every signature in it at `now_unix` (seconds).
    pub fn open(folder: &Path, now_unix: u64) -> Result<Self, TrustFolderError> {
        let owner_root = read_root(&folder.join(OWNER_ROOT))?;
        let file = read_anchors(&folder.join(ANCHORS))?;
        let anchors = Anchors::new(file.mode, &file.anchors)?;
        let delegated = |name: &str| {
            let path = folder.join(name);
            let envelope = read_envelope(&path)?;
            match DelegatedKey::accept(&envelope, &[owner_root], now_unix) {
                Ok(key) => Ok((key, envelope)),
                Err(source) => Err(TrustFolderError::Document { path, source }),
            }
        };
        let (admin, _) = delegated(ADMIN)?;
        let (publish_delegation, publish) = delegated(PUBLISH)?;
        let PublicKey::P256(publish_key) = publish_delegation.delegation().key.clone() else {
            return Err(TrustFolderError::PublishKey {
                path: folder.join(PUBLISH),
            });
        };
        Ok(Self {
            owner_root,
            anchors,
            publish_key,
            publish,
            template: read_signed(&admin, &folder.join(TEMPLATE))?,
            guests: read_signed(&admin, &folder.join(GUESTS))?,
            key_managers: read_signed(&admin, &folder.join(KEY_MANAGERS))?,
        })
    }

    /// Writes a folder that [`open`](Self::open) reads; files of an older one are replaced.
    pub fn write(folder: &Path, parts: &TrustParts) -> Result<(), TrustFolderError> {
        let anchors =
            serde_json::to_vec(&parts.anchors).map_err(|source| TrustFolderError::AnchorsFile {
                path: folder.join(ANCHORS),
                source,
            })?;
        for (name, bytes) in [
            (OWNER_ROOT, parts.owner_root.to_string().as_bytes()),
            (ANCHORS, &anchors),
            (ADMIN, parts.admin.as_bytes()),
            (PUBLISH, parts.publish.as_bytes()),
            (TEMPLATE, parts.template.as_bytes()),
            (GUESTS, parts.guests.as_bytes()),
            (KEY_MANAGERS, parts.key_managers.as_bytes()),
        ] {
            replace(&folder.join(name), bytes)?;
        }
        Ok(())
    }

    /// The root that everything else hangs on.
    pub fn owner_root(&self) -> &VerifyingKey {
        &self.owner_root
    }

    /// Which roots of attestation count.
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// The P-256 key of published folders, as DER SubjectPublicKeyInfo.
    pub fn publish_key(&self) -> &[u8] {
        &self.publish_key
    }

    /// The root's word for that key, to hand to a guest.
    pub fn publish_delegation(&self) -> &Envelope {
        &self.publish
    }

    /// What guests are started with.
    pub fn template(&self) -> &Signed<InitTemplate> {
        &self.template
    }

    /// Which guests count.
    pub fn guests(&self) -> &Signed<ReferenceValues> {
        &self.guests
    }

    /// A verifier of guests.
    pub fn guest_verifier(&self) -> Verifier {
        Verifier::new(self.anchors.clone(), self.guests.document().clone())
    }

    /// A verifier of key managers, at `now_unix` (seconds).
    pub fn key_manager_verifier(&self, now_unix: u64) -> TrustedVerifier {
        let values = self.key_managers.document().clone();
        TrustedVerifier::new(Verifier::new(self.anchors.clone(), values), now_unix)
    }

    /// What a key manager's measured configuration must say.
    pub fn key_manager_expectation(&self) -> KeyManagerExpectation {
        KeyManagerExpectation {
            owner_root: self.owner_root,
            threshold: THRESHOLD,
            mode: self.anchors.assurance(),
            anchors: self
                .anchors
                .fingerprints()
                .iter()
                .copied()
                .collect::<BTreeSet<_>>(),
            other_entries: BTreeMap::new(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustFolderError> {
    fs::read(path).map_err(|source| io_error("read", path, source))
}

fn read_root(path: &Path) -> Result<VerifyingKey, TrustFolderError> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let document = |source| TrustFolderError::Document {
        path: path.to_owned(),
        source,
    };
    text.trim_end().parse().map_err(document)
}

fn read_anchors(path: &Path) -> Result<AnchorsFile, TrustFolderError> {
    serde_json::from_slice(&read(path)?).map_err(|source| TrustFolderError::AnchorsFile {
        path: path.to_owned(),
        source,
    })
}

fn read_envelope(path: &Path) -> Result<Envelope, TrustFolderError> {
    read(path).map(Envelope::from_bytes)
}

fn read_signed<D: Document>(
    signer: &DelegatedKey,
    path: &Path,
) -> Result<Signed<D>, TrustFolderError> {
    signer
        .verify(&read_envelope(path)?)
        .map_err(|source| TrustFolderError::Document {
            path: path.to_owned(),
            source,
        })
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), TrustFolderError> {
    // Written beside and renamed, so that a crash leaves the old file or the new one.
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).map_err(|source| io_error("write", &beside, source))?;
    fs::rename(&beside, path).map_err(|source| io_error("replace", path, source))
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> TrustFolderError {
    TrustFolderError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}
