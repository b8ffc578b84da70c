//! The kinds of the operator's zone, and what they share.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use sealift_attest::{Attest, AttestedGuests};
use sealift_host::Host;
use sealift_pinned_tls::ClientError;
use sealift_provision::{
    Backend, BackendError, Deprovision, Guest, GuestStart, GuestStore, KeyManagerAddress,
    LocalBackend, PodSettings, Pods, Provision, SettingsError,
};
use sealift_score::{BatchStore, BatchStoreError, Merge, Score, SplitBatch};
use sealift_signed_document::{Digest, VerifyingKey};
use sealift_simulated_sp::{SimulatedSp, SimulatedSpError};

use crate::{
    arguments::Work,
    store::{self, StoreError},
};

const ZONE: &str = "operator";

/// Why the operator cannot work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("`{}` cannot be used", path.display())]
    Path {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("--km-id is not a key's name")]
    KeyId(#[source] serde_json::Error),
    #[error("a folder cannot be handed to guests")]
    Settings(#[from] SettingsError),
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    #[error("a folder cannot stand for a store; this is a bug")]
    Folder(#[from] BatchStoreError),
    #[error("an address in this program is none; this is a bug")]
    Placeholder(#[source] ClientError),
    #[error("the simulated AMD-SP cannot be used")]
    Firmware(#[from] SimulatedSpError),
}

/// The worker with all its jobs. They share the pods, whose guests end with this process, and so
/// does the relay that those guests may need.
pub(crate) async fn host(work: Work) -> Result<Host, SetupError> {
    let resolved = |path: PathBuf| match fs::canonicalize(&path) {
        Ok(path) => Ok(path),
        Err(source) => Err(SetupError::Path { path, source }),
    };
    let (trust, specs) = (resolved(work.trust)?, resolved(work.pods)?);
    let key_manager = KeyManagerAddress {
        url: work.key_manager,
        id: serde_json::from_value(work.km_id.into()).map_err(SetupError::KeyId)?,
        tls_sha256: work.km_tls_sha256,
    };
    let store::Opened { batches, guests } = store::open(work.store).await?;
    let settings = PodSettings::new(&guests, &trust, &specs, key_manager)?;
    let firmware = SimulatedSp::open(&work.simulated_sp)?;
    let backend = LocalBackend::new(firmware, resolved(work.guest)?);
    Ok(hosting(settings, Box::new(backend), batches))
}

fn hosting(settings: PodSettings, backend: Box<dyn Backend>, batches: BatchStore) -> Host {
    let pods = Arc::new(Pods::new(settings.clone(), backend));
    let guests = Arc::new(AttestedGuests::new(Arc::clone(&pods)));
    Host::new(ZONE)
        .hosts(Provision::new(Arc::clone(&pods)))
        .hosts(Deprovision::new(pods))
        .hosts(Attest::new(Arc::clone(&guests)))
        .hosts(SplitBatch::new(batches.clone()))
        .hosts(Score::new(guests))
        .hosts(Merge::new(batches, settings))
}

/// The kinds with their schemas: of the same jobs, over things that are never used.
pub(crate) fn kinds_json() -> Result<String, SetupError> {
    let nowhere = Path::new("/");
    let key_manager = KeyManagerAddress {
        url: "https://127.0.0.1:1"
            .parse()
            .map_err(SetupError::Placeholder)?,
        id: VerifyingKey::from_bytes([0; 32]).thumbprint(),
        tls_sha256: Digest::of(&[]),
    };
    let store = GuestStore::Folder(nowhere.to_owned());
    let settings = PodSettings::new(&store, nowhere, nowhere, key_manager)?;
    let batches = BatchStore::in_folder(nowhere)?;
    Ok(hosting(settings, Box::new(NoGuests), batches).kinds_json())
}

/// Starts nothing.
struct NoGuests;

#[async_trait]
impl Backend for NoGuests {
    async fn start(&self, _start: GuestStart) -> Result<Box<dyn Guest>, BackendError> {
        Err(BackendError::ShuttingDown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_hosts_six_kinds() {
        let kinds: serde_json::Value = serde_json::from_str(&kinds_json().unwrap()).unwrap();
        let names: Vec<_> = kinds
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| &kind["kind"])
            .collect();
        assert_eq!(
            names,
            [
                "attest@1",
                "deprovision@1",
                "merge@1",
                "partition@1",
                "provision@1",
                "score@1"
            ]
        );
        assert!(
            kinds
                .as_array()
                .unwrap()
                .iter()
                .all(|kind| kind["zone"] == "operator")
        );
    }
}
