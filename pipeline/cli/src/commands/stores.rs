//! Which store is meant, and opening it with this user's own rights.

use std::{ffi::OsString, path::Path};

use sealift_cloud_store::{CloudOptions, StoreAddress};
use sealift_model_store::ModelStore;

use super::model::demand_folder;
use crate::{
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
