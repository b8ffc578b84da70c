//! `export-kserve-jwe`: encrypts a plain model for a stock KServe and keeps the key in a file, for
//! whoever sets it as the resource of the guest's key broker.
//!
//! The key is on disk before the folder has its name, so a folder that is there can be opened; of an
//! attempt that failed neither is left.

use std::fs;

use sealift_owner_keys::OwnerKeys;
use sealift_sealed_model::{FolderFiles, KserveExportError, export_kserve_jwe};
use sealift_signed_document::key_file;
use serde_json::json;

use crate::{
    args::ExportKserveJwe,
    command::print,
    failure::{ENVIRONMENT, Failure, INPUT, OrFail},
};

const NOT_EXPORTED: &str = "the model was not exported";

pub(crate) fn export(args: &ExportKserveJwe) -> Result<(), Failure> {
    let publish = OwnerKeys::open(&args.keys)
        .oms()
        .or_fail(ENVIRONMENT, "cannot use the owner's publish key")?;
    let plain = FolderFiles::new(&args.plain);
    let names = (&args.model, &args.resource);
    let export = export_kserve_jwe(&plain, names, &publish, &args.out).map_err(failure)?;
    key_file::write_new(&args.key, export.key().expose()).or_fail(ENVIRONMENT, NOT_EXPORTED)?;
    let files = export.files().iter();
    let files: serde_json::Map<_, _> = files
        .map(|(name, digest)| (name.to_string(), json!(digest)))
        .collect();
    export.finish().map_err(|error| {
        drop(fs::remove_file(&args.key));
        failure(error)
    })?;
    print(&json!({ "files": files, "publish_key": publish.public().to_pem() }))
}

fn failure(error: KserveExportError) -> Failure {
    let code = match error {
        KserveExportError::Folder(_) => ENVIRONMENT,
        _ => INPUT,
    };
    Failure::new(code, NOT_EXPORTED, error)
}
