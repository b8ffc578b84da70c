//! Which store is meant, and opening it with this user's own rights.

use std::{ffi::OsString, fs, io, path::Path};

use sealift_cloud_store::{CloudOptions, StoreAddress};
use sealift_model_store::ModelStore;
use sealift_run::RunId;

use super::model::demand_folder;
use crate::{
    durable_file,
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
};

/// The store that was named, or the state folder's own.
pub(crate) fn address(state: &Path, named: Option<&StoreAddress>) -> Result<StoreAddress, Failure> {
    match named {
        Some(address) => Ok(address.clone()),
        None => Ok(StoreAddress::Folder(Layout::open(state)?.store())),
    }
}

/// Opens a store; a folder that is not there is not made.
pub(crate) fn open(address: &StoreAddress) -> Result<ModelStore, Failure> {
    if let StoreAddress::Folder(folder) = address {
        demand_folder(folder)?;
    }
    address.open(&cloud_options()).or_fail(
        ExitCode::Environment,
        format!("cannot open the store `{address}`"),
    )
}

/// How to reach the services of cloud stores, from the user's environment.
pub(crate) fn cloud_options() -> CloudOptions {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    CloudOptions::from_variables(std::env::vars_os().filter_map(text))
}

/// The store of a run that begins: the one that was named, or the state folder's own. A folder is
/// named by its full path, because it is looked for from elsewhere later.
pub(crate) fn of_new_run(
    layout: &Layout,
    named: Option<&StoreAddress>,
) -> Result<StoreAddress, Failure> {
    match named {
        None => Ok(StoreAddress::Folder(layout.store())),
        Some(StoreAddress::Folder(folder)) => {
            demand_folder(folder)?;
            let full = folder.canonicalize();
            full.map(StoreAddress::Folder)
                .map_err(|source| Failure::unreadable(folder, source))
        }
        Some(cloud) => open(cloud).map(|_| cloud.clone()),
    }
}

/// Keeps where a run publishes, for whoever resumes it.
pub(crate) fn remember(layout: &Layout, run: &RunId, store: &StoreAddress) -> Result<(), Failure> {
    let path = layout.store_of(run);
    durable_file::make_folder(path.parent().unwrap_or_else(|| layout.path()))?;
    durable_file::replace(&path, store.to_string().as_bytes())
}

/// Where a run that is resumed publishes.
pub(crate) fn of_run(layout: &Layout, run: &RunId) -> Result<StoreAddress, Failure> {
    let path = layout.store_of(run);
    match fs::read_to_string(&path) {
        Ok(text) => text.parse().or_fail(
            ExitCode::Environment,
            format!("`{}` names no store", path.display()),
        ),
        // Older than this file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(StoreAddress::Folder(layout.store()))
        }
        Err(source) => Err(Failure::unreadable(&path, source)),
    }
}
