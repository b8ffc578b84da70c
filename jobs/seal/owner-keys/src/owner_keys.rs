//! The owner's keys: one file per purpose, made once, delegated by the root.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use sealift_sealed_model::PublishKey;
use sealift_signed_document::{
    Delegation, DocumentError, Envelope, PublicKey, Role, SecretBytes, SigningKey,
    key_file::{self, KeyFileError},
    sign,
};

/// How long a delegation counts: a year, so that a lost delegated key ends by itself.
const DELEGATION_SECONDS: u64 = 365 * 24 * 60 * 60;

/// Document types that the admin key may sign.
const ADMIN_TYPES: [&str; 12] = [
    "activate.v1",
    "channel.v1",
    "erase.v1",
    "floor.v1",
    "grant.v1",
    "init-template.v1",
    "install.v1",
    "reference-values.v1",
    "register.v1",
    "rewrap.v1",
    "rotate.v1",
    "withdraw.v1",
];

/// Document types that the witness key may sign.
const WITNESS_TYPES: [&str; 2] = ["rekey.v1", "unlock.v1"];

/// Why the owner's keys are not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The folder is there already, or cannot be made.
    #[error("cannot make the key folder `{}`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A key file is not usable.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// A key file holds something else.
    #[error("the key file `{}` does not hold a key of its kind", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// A delegation could not be signed.
    #[error("cannot delegate a key")]
    Delegation(#[from] DocumentError),
    /// A delegation could not be kept or read.
    #[error("cannot {operation} the delegation `{}`", path.display())]
    DelegationFile {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

/// The folder of the owner's keys.
///
/// | file | key | purpose |
/// |---|---|---|
/// | `root-ed25519` | Ed25519 | delegates the others; nothing else |
/// | `admin-ed25519` | Ed25519 | registers, activates, grants, signs templates and reference values |
/// | `witness-ed25519` | Ed25519 | unlocks the key manager |
/// | `header-ed25519` | Ed25519 | signs the header of sealed tensor files |
/// | `oms-p256` | P-256 | signs published folders (OpenSSF Model Signing) |
/// | `state-key` | 256 bits | what the key manager's records are encrypted under |
/// | `state-key.next` | 256 bits | only while that key is being changed |
pub struct OwnerKeys {
    folder: PathBuf,
}

impl OwnerKeys {
    /// Makes every key and delegation afresh at the time `now` (Unix seconds).
    ///
    /// Fails if the folder exists.
    pub fn create(folder: &Path, now: u64) -> Result<Self, KeysError> {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .map_err(|source| KeysError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        let keys = Self::open(folder);
        let root = keys.make("root-ed25519")?;
        let admin = keys.make("admin-ed25519")?;
        let witness = keys.make("witness-ed25519")?;
        keys.make("header-ed25519")?;
        let publish = keys.make_p256("oms-p256")?;
        key_file::write_new(
            &folder.join("state-key"),
            SecretBytes::<32>::random().expose(),
        )?;
        let not_after = now + DELEGATION_SECONDS;
        for (role, key, types) in [
            (
                Role::Admin,
                PublicKey::Ed25519(admin.public()),
                ADMIN_TYPES.as_slice(),
            ),
            (
                Role::Witness,
                PublicKey::Ed25519(witness.public()),
                WITNESS_TYPES.as_slice(),
            ),
            (Role::Publish, publish, &[]),
        ] {
            let types = types.iter().map(ToString::to_string).collect();
            keys.keep(
                &Delegation {
                    role,
                    key,
                    types,
                    not_after,
                },
                &root,
            )?;
        }
        Ok(keys)
    }

    /// Names an existing folder; each key is read when it is used.
    pub fn open(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Where the key files stand.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The root, which only delegates.
    pub fn root(&self) -> Result<SigningKey, KeysError> {
        self.read("root-ed25519")
    }

    /// Signs changes, templates and reference values.
    pub fn admin(&self) -> Result<SigningKey, KeysError> {
        self.read("admin-ed25519")
    }

    /// Unlocks the key manager and cosigns its checkpoints.
    pub fn witness(&self) -> Result<SigningKey, KeysError> {
        self.read("witness-ed25519")
    }

    /// Signs the header of sealed tensor files.
    pub fn header(&self) -> Result<SigningKey, KeysError> {
        self.read("header-ed25519")
    }

    /// The key of OpenSSF Model Signing.
    pub fn oms(&self) -> Result<PublishKey, KeysError> {
        let path = self.folder.join("oms-p256");
        let der = key_file::read(&path)?;
        PublishKey::from_pkcs8(&der).map_err(|_| KeysError::NotAKey { path })
    }

    /// What the key manager's records are encrypted under.
    pub fn state_key(&self) -> Result<SecretBytes<32>, KeysError> {
        let path = self.folder.join("state-key");
        let bytes = key_file::read(&path)?;
        SecretBytes::from_slice(&bytes).ok_or(KeysError::NotAKey { path })
    }

    /// The root's word for the key of `role`.
    pub fn delegation(&self, role: Role) -> Result<Envelope, KeysError> {
        let path = self.delegation_path(role);
        fs::read(&path)
            .map(Envelope::from_bytes)
            .map_err(|source| KeysError::DelegationFile {
                operation: "read",
                path,
                source,
            })
    }

    fn make(&self, name: &str) -> Result<SigningKey, KeysError> {
        let key = SigningKey::generate();
        key_file::write_new(&self.folder.join(name), &key.to_pkcs8())?;
        Ok(key)
    }

    fn make_p256(&self, name: &str) -> Result<PublicKey, KeysError> {
        let key = PublishKey::generate();
        key_file::write_new(&self.folder.join(name), &key.to_pkcs8())?;
        Ok(PublicKey::P256(key.public().to_spki_der()))
    }

    fn read(&self, name: &str) -> Result<SigningKey, KeysError> {
        let path = self.folder.join(name);
        let der = key_file::read(&path)?;
        SigningKey::from_pkcs8(&der).map_err(|_| KeysError::NotAKey { path })
    }

    fn keep(&self, delegation: &Delegation, root: &SigningKey) -> Result<(), KeysError> {
        let path = self.delegation_path(delegation.role);
        let envelope = sign(delegation, root)?;
        fs::write(&path, envelope.as_bytes()).map_err(|source| KeysError::DelegationFile {
            operation: "write",
            path,
            source,
        })
    }

    fn delegation_path(&self, role: Role) -> PathBuf {
        let name = match role {
            Role::Admin => "admin",
            Role::Header => "header",
            Role::Publish => "publish",
            Role::Witness => "witness",
        };
        self.folder.join(format!("{name}.delegation.json"))
    }
}

#[cfg(test)]
mod tests {
    use sealift_signed_document::DelegatedKey;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn every_key_is_read_back_and_delegated_by_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let keys = OwnerKeys::create(&folder.path().join("owner"), NOW).unwrap();
        let root = [keys.root().unwrap().public()];
        for role in [Role::Admin, Role::Witness, Role::Publish] {
            let envelope = keys.delegation(role).unwrap();
            let delegated = DelegatedKey::accept(&envelope, &root, NOW).unwrap();
            assert_eq!(delegated.delegation().role, role);
        }
        keys.oms().unwrap();
        keys.state_key().unwrap();
        keys.header().unwrap();
    }

    #[test]
    fn existing_keys_are_never_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner");
        OwnerKeys::create(&path, NOW).unwrap();
        assert!(matches!(
            OwnerKeys::create(&path, NOW),
            Err(KeysError::Folder { .. })
        ));
    }
}
