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

/// What every pod of one operator has in common.
#[derive(Clone, Debug)]
pub struct PodSettings {
    trust: PathBuf,
    specs: PathBuf,
    key_manager: KeyManagerAddress,
    operator_slots: OperatorSlots,
}

impl PodSettings {
    /// Guests read models from the folder `store`; the template and what else is trusted comes
    /// from the folder `trust`; specs of pods stand in the folder `specs`. All are absolute.
    ///
    /// # Errors
    /// [`SettingsError::Path`].
    pub fn new(
        store: &Path,
        trust: &Path,
        specs: &Path,
        key_manager: KeyManagerAddress,
    ) -> Result<Self, SettingsError> {
        let refused = |path: &Path| SettingsError::Path(path.to_owned());
        if let Some(relative) = [store, trust, specs]
            .into_iter()
            .find(|path| !path.is_absolute())
        {
            return Err(refused(relative));
        }
        let store = store.to_str().ok_or_else(|| refused(store))?;
        let operator_slots = OperatorSlots {
            km_url: key_manager.url.to_string(),
            store_url: format!("file://{store}"),
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
