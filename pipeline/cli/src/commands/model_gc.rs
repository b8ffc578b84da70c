//! `sealift model gc`: removes what no version in a store names any more.

use std::{path::Path, time::Duration};

use sealift_model_store::{CollectionMode, GarbageRules, StoreError};
use serde_json::json;

use super::{batch::seconds, stores};
use crate::{args::ModelGc, clock, exit_code::ExitCode, failure::Failure, output::Output};

pub(crate) async fn gc(state: &Path, args: &ModelGc, output: Output) -> Result<(), Failure> {
    let rules = GarbageRules {
        now_unix: clock::now_unix(),
        grace: Duration::from_secs(seconds(&args.grace)?),
        mode: if args.dry_run {
            CollectionMode::DryRun
        } else {
            CollectionMode::Remove
        },
    };
    let address = stores::address(state, args.store.as_ref())?;
    let store = stores::open(&address)?;
    let report = store.collect_garbage(rules).await.map_err(|error| {
        let code = match error {
            StoreError::GraceTooShort => ExitCode::Usage,
            _ => ExitCode::Environment,
        };
        let fact = format!("no garbage was collected in the store `{address}`");
        Failure::new(code, fact).because(error)
    })?;
    output.document(&json!({
        "store": address.to_string(),
        "dry_run": args.dry_run,
        "versions": report.versions,
        "used_blobs": report.used_blobs,
        "young_blobs": report.young_blobs,
        "garbage_blobs": report.garbage_blobs,
        "garbage_bytes": report.garbage_bytes,
        "garbage": report.garbage,
    }));
    for blob in &report.garbage {
        output.line(format!("{}  {} bytes", blob.sha256, blob.bytes));
    }
    output.line(format!(
        "{} pieces of {} bytes {}; {} versions name {} pieces, {} more are younger than {}",
        report.garbage_blobs,
        report.garbage_bytes,
        if args.dry_run {
            "would be removed"
        } else {
            "removed"
        },
        report.versions,
        report.used_blobs,
        report.young_blobs,
        args.grace
    ));
    Ok(())
}
