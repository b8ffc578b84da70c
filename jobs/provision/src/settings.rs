//! What every pod of one operator has in common.

use std::path::{Path, PathBuf};

use sealift_init_data::OperatorSlots;
use sealift_pinned_tls::ServerUrl;
use sealift_signed_document::{Digest, KeyId};

/// The key manager that guests are sent to, as the deployment announced it to the operator.
///
/// A wrong one does no harm but to the run: guests pin what their measured init-data says, and the
/// key manager that the owner pushed to releases keys to no guest with other init-data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyManagerAddress {
    /// Where it listens.
    pub url: ServerUrl,
    /// The name of its identity key.
    pub id: KeyId,
    /// SHA-256 of the SubjectPublicKeyInfo of its TLS key.
    pub tls_sha256: Digest,
}

/// Paths that cannot be given to a guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A path that a guest, which starts in `/`, would not find.
    #[error("`{}` is not an absolute path in UTF-8; name the folder by its full path", .0.display())]
    Path(PathBuf),
}

/// Where guests find models and batches, and leave results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestStore {
    /// A folder of this machine, absolute.
    Folder(PathBuf),
    /// The operator's relay before a store that guests do not reach themselves.
    Relay(ServerUrl),
}

impl GuestStore {
    /// What stands in the slot `store_url`.
    fn url(&self) -> Result<String, SettingsError> {
        match self {
            Self::Folder(folder) => {
                let refused = || SettingsError::Path(folder.clone());
                let text = folder.to_str().filter(|_| folder.is_absolute());
                Ok(format!("file://{}", text.ok_or_else(refused)?))
            }
            Self::Relay(url) => Ok(url.to_string()),
        }
    }
}

/// What every pod of one operator has in common.
#[derive(Clone, Debug)]
pub struct PodSettings {
    trust: PathBuf,
    specs: PathBuf,
    key_manager: KeyManagerAddress,
    operator_slots: OperatorSlots,
}

impl PodSettings {
    /// Guests read models from `store`; the template and what else is trusted comes from the
    /// folder `trust`; specs of pods stand in the folder `specs`. All folders are absolute.
    ///
    /// # Errors
    /// [`SettingsError::Path`].
    pub fn new(
        store: &GuestStore,
        trust: &Path,
        specs: &Path,
        key_manager: KeyManagerAddress,
    ) -> Result<Self, SettingsError> {
        let mut folders = [trust, specs].into_iter();
        if let Some(relative) = folders.find(|path| !path.is_absolute()) {
            return Err(SettingsError::Path(relative.to_owned()));
        }
        let operator_slots = OperatorSlots {
            km_url: key_manager.url.to_string(),
            store_url: store.url()?,
        };
        Ok(Self {
            trust: trust.to_owned(),
            specs: specs.to_owned(),
            key_manager,
            operator_slots,
        })
    }

    /// The trust folder.
    pub fn trust(&self) -> &Path {
        &self.trust
    }

    /// The key manager.
    pub fn key_manager(&self) -> &KeyManagerAddress {
        &self.key_manager
    }

    pub(crate) fn specs(&self) -> &Path {
        &self.specs
    }

    pub(crate) fn operator_slots(&self) -> &OperatorSlots {
        &self.operator_slots
    }
}
