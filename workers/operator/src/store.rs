//! The store that this operator was given, for its own jobs and for the guests that it starts.

use std::{
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use sealift_cloud_store::{CloudOptions, OpenError, StoreAddress};
use sealift_pinned_tls::ClientError;
use sealift_provision::GuestStore;
use sealift_score::{BatchStore, BatchStoreError};
use sealift_store_relay::{RelayError, StoreRelay};

/// Why there is no store to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("`{}` cannot be used", path.display())]
    Path {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the folder cannot be used")]
    Folder(#[from] BatchStoreError),
    #[error("the store cannot be opened")]
    Cloud(#[from] OpenError),
    #[error("guests cannot be given the store")]
    Relay(#[from] RelayError),
    #[error("the relay has no address that guests accept; this is a bug")]
    Address(#[from] ClientError),
}

/// One store, for whom.
pub(crate) struct Opened {
    pub(crate) batches: BatchStore,
    pub(crate) guests: GuestStore,
}

/// Opens the store. Guests read a folder themselves; before a cloud's store a relay is started,
/// which serves for as long as this process lives.
pub(crate) async fn open(address: StoreAddress) -> Result<Opened, StoreError> {
    let path = match address {
        StoreAddress::Folder(path) => path,
        cloud @ StoreAddress::Cloud { .. } => return relayed(&cloud).await,
    };
    let folder = fs::canonicalize(&path).map_err(|source| StoreError::Path { path, source })?;
    Ok(Opened {
        batches: BatchStore::in_folder(&folder)?,
        guests: GuestStore::Folder(folder),
    })
}

async fn relayed(address: &StoreAddress) -> Result<Opened, StoreError> {
    let store = address.object_store(&cloud_options())?;
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let relay = StoreRelay::bind(loopback, store.clone()).await?;
    let url = relay.url().parse()?;
    tracing::info!(store = %address, relay = %url, "guests read the store through a relay");
    tokio::spawn(relay.serve());
    Ok(Opened {
        batches: BatchStore::new(store),
        guests: GuestStore::Relay(url),
    })
}

/// How to reach the services of cloud stores, from this process's environment.
fn cloud_options() -> CloudOptions {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    CloudOptions::from_variables(std::env::vars_os().filter_map(text))
}
