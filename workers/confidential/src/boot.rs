//! What is fixed from the start of the process to its end.

use std::sync::Arc;

use sealift_attester::{Attester, AttesterError};
use sealift_init_data::{InitData, InitDataError, SealiftToml};
use sealift_kbs_protocol::{Name, ParseNameError};
use sealift_pinned_tls::{CertificateSwitch, ClientError, IdentityError, ServerUrl};
use sealift_sealed_model::{NameError, PinnedVersion, PublishKeyError, PublishVerifyingKey};
use sealift_signed_document::{DelegatedKey, DocumentError, Envelope, Role, VerifyingKey};

use crate::{
    keys::GuestKeys,
    store::{GuestStore, StoreUrlError},
};

/// What a guest is started with. All of it comes over channels that nobody vouches for.
pub struct BootInputs {
    /// The raw bytes of the init-data.
    pub init_data: Vec<u8>,
    /// `delegation.v1` of the key that signed the model's folder.
    pub publish_delegation: Vec<u8>,
    /// The platform.
    pub attester: Arc<dyn Attester>,
    /// The host's clock, Unix seconds. It decides about nothing but the end of the delegation;
    /// the host could turn it back, and the manifest's digest is pinned besides.
    pub now_unix: u64,
}

/// Why a guest does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// There is no platform to attest this process.
    #[error("this process cannot be attested")]
    Attester(#[source] AttesterError),
    /// Not the measured init-data, or none of ours.
    #[error("the init-data is not accepted")]
    InitData(#[source] InitDataError),
    /// A name in the init-data is none.
    #[error("the init-data's model or version is not a name")]
    Name(#[source] ParseNameError),
    /// A name in the init-data cannot be that of a sealed model.
    #[error("the init-data's model or version is not a name")]
    ModelName(#[source] NameError),
    /// No address of a key manager.
    #[error("the init-data's km_url is not an address")]
    KeyManagerUrl(#[source] ClientError),
    /// No store.
    #[error("the init-data's store_url cannot be used")]
    Store(#[source] StoreUrlError),
    /// Not from the owner of the init-data, or past its end.
    #[error("the publish delegation is not from the owner root in the init-data")]
    Delegation(#[source] DocumentError),
    /// A delegation for something else.
    #[error("the delegation is for the role {found:?}; pass the owner's publish delegation")]
    OtherRole {
        /// What the key was delegated for.
        found: Role,
    },
    /// A delegated key of the wrong kind.
    #[error("the publish delegation names no usable key")]
    PublishKey(#[source] PublishKeyError),
    /// No TLS certificate.
    #[error("no TLS certificate can be made")]
    Tls(#[source] IdentityError),
}

impl BootError {
    /// How the process ends: 6 for input that has to be changed, 7 for what was refused, 8 for the
    /// surroundings.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InitData(InitDataError::OtherHostData { .. })
            | Self::Delegation(_)
            | Self::OtherRole { .. }
            | Self::PublishKey(_) => 7,
            Self::InitData(_) | Self::Name(_) | Self::ModelName(_) | Self::KeyManagerUrl(_) => 6,
            Self::Store(error) => error.exit_code(),
            Self::Attester(_) | Self::Tls(_) => 8,
        }
    }
}

/// A guest that accepted its init-data and made its keys.
///
/// [`Boot::new`] is the only constructor.
pub struct Boot {
    pub(crate) init_data: InitData,
    pub(crate) settings: SealiftToml,
    pub(crate) model: Name,
    pub(crate) version: Name,
    pub(crate) km_url: ServerUrl,
    pub(crate) pinned: PinnedVersion,
    pub(crate) store: GuestStore,
    pub(crate) keys: GuestKeys,
    pub(crate) attester: Arc<dyn Attester>,
    certificate: CertificateSwitch,
}

impl Boot {
    /// Accepts the init-data that the platform measured, and no other, then the owner's word for
    /// the key that signs the model.
    pub fn new(inputs: BootInputs) -> Result<Self, BootError> {
        let BootInputs {
            init_data,
            publish_delegation,
            attester,
            now_unix,
        } = inputs;
        let host_data = attester.host_data().map_err(BootError::Attester)?;
        let init_data = InitData::accept(&init_data, &host_data).map_err(BootError::InitData)?;
        let settings = SealiftToml::of(&init_data).map_err(BootError::InitData)?;
        let publish_key = publish_key(publish_delegation, &settings.owner_root, now_unix)?;
        let keys = GuestKeys::generate().map_err(BootError::Tls)?;
        Ok(Self {
            model: settings.model.parse().map_err(BootError::Name)?,
            version: settings.version.parse().map_err(BootError::Name)?,
            km_url: settings.km_url.parse().map_err(BootError::KeyManagerUrl)?,
            pinned: pinned(&settings, publish_key)?,
            store: GuestStore::open(&settings.store_url).map_err(BootError::Store)?,
            certificate: CertificateSwitch::new(&keys.tls),
            init_data,
            settings,
            keys,
            attester,
        })
    }

    /// The certificate that the guest's port shows.
    pub fn certificate(&self) -> &CertificateSwitch {
        &self.certificate
    }
}

fn publish_key(
    delegation: Vec<u8>,
    owner_root: &VerifyingKey,
    now_unix: u64,
) -> Result<PublishVerifyingKey, BootError> {
    let envelope = Envelope::from_bytes(delegation);
    let delegated =
        DelegatedKey::accept(&envelope, &[*owner_root], now_unix).map_err(BootError::Delegation)?;
    let delegation = delegated.delegation();
    if delegation.role != Role::Publish {
        return Err(BootError::OtherRole {
            found: delegation.role,
        });
    }
    PublishVerifyingKey::from_delegated(&delegation.key).map_err(BootError::PublishKey)
}

fn pinned(
    settings: &SealiftToml,
    publish_key: PublishVerifyingKey,
) -> Result<PinnedVersion, BootError> {
    Ok(PinnedVersion {
        publish_key,
        manifest_sha256: settings.manifest_sha256,
        model: settings.model.parse().map_err(BootError::ModelName)?,
        version: settings.version.parse().map_err(BootError::ModelName)?,
        serial: settings.serial,
    })
}
