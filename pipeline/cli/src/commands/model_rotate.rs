//! `sealift model rotate`: the owner's binary does it, against the key manager of this deployment.

use std::{
    fs::DirBuilder,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use sealift_cloud_store::StoreAddress;
use serde::{Deserialize, Serialize};

use super::stores;
use crate::{
    args::ModelRotate,
    child,
    deployment::{KeyManager, args, lock, owner_args},
    failure::Failure,
    layout::Layout,
    output::Output,
    siblings::Sibling,
};

/// What the owner's binary prints.
#[derive(Deserialize, Serialize)]
struct Rotated {
    model: String,
    version: String,
    serial: u64,
    revision: u64,
    manifest_sha256: String,
    replaced_manifest_sha256: String,
    keys: u64,
    sent_bytes: u64,
    document_sha256: String,
}

pub(crate) fn rotate(
    layout: &Layout,
    arguments: &ModelRotate,
    output: Output,
) -> Result<(), Failure> {
    // A run holds guests of the revision that is about to end.
    let _alone = lock(layout)?;
    let address = stores::address(layout.path(), arguments.store.as_ref())?;
    stores::open(&address)?;
    let key_manager = KeyManager::start(layout, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let mut all = owner_args("rotate", layout, key_manager.url());
    all.extend(args([
        ("--model", arguments.model.as_str().into()),
        ("--version", arguments.model_version.as_str().into()),
        ("--store", absolute(&address)?.into()),
        ("--work", work(layout)?.into()),
    ]));
    let rotated: Rotated = match address {
        StoreAddress::Folder(_) => child::ask(layout, Sibling::Owner, all)?,
        StoreAddress::Cloud { .. } => {
            let options = stores::cloud_options();
            child::ask_with(layout, Sibling::Owner, all, options.variables())?
        }
    };
    output.document(&rotated);
    output.line(format!(
        "{} {} (serial {}) is revision {} now, under another key: {} data keys wrapped anew, {} \
         bytes sent",
        rotated.model,
        rotated.version,
        rotated.serial,
        rotated.revision,
        rotated.keys,
        rotated.sent_bytes
    ));
    output.line(format!(
        "manifest {} replaces {}; guests of the latter get no key any more",
        rotated.manifest_sha256, rotated.replaced_manifest_sha256
    ));
    output.note("this limits nobody who already held the old key: only sealing anew does");
    Ok(())
}

/// A folder is named so that the child finds the same one.
fn absolute(address: &StoreAddress) -> Result<String, Failure> {
    let StoreAddress::Folder(folder) = address else {
        return Ok(address.to_string());
    };
    let resolved = folder.canonicalize();
    let resolved = resolved.map_err(|source| Failure::unreadable(folder, source))?;
    Ok(resolved.display().to_string())
}

/// Where the next revision stands until it is published.
fn work(layout: &Layout) -> Result<std::path::PathBuf, Failure> {
    let work: &Path = &layout.path().join("rotation");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(work);
    made.map_err(|source| Failure::unwritable(work, source))?;
    Ok(work.to_owned())
}
