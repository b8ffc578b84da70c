//! `rotate`: puts a published version under another key-encryption key.

use std::ops::ControlFlow;

use sealift_owner_keys::OwnerKeys;
use sealift_publish::{RotateVersion, RotationError};
use serde_json::json;

use crate::{
    args::Rotate,
    command::print,
    failure::{ENVIRONMENT, Failure, INPUT, OrFail, UNVERIFIED},
    now_unix,
    unlock::{trust, witness},
    work::{cloud_options, cosign},
};

pub(crate) async fn rotate(args: &Rotate) -> Result<(), Failure> {
    let name = |text: &str| {
        text.parse()
            .or_fail(INPUT, format!("`{text}` is no name of a model or version"))
    };
    let keys = OwnerKeys::open(&args.connection.keys);
    let trust = trust(&args.connection)?;
    let store = args.store.open(&cloud_options()).or_fail(
        ENVIRONMENT,
        format!("cannot open the store `{}`", args.store),
    )?;
    // The key manager stops answering when nobody has witnessed it for a while, and a large model
    // is read three times on the way.
    let witness = witness(&args.connection, &keys)?;
    let witnessed = witness.appraise(now_unix()).await.or_fail(
        UNVERIFIED,
        "the key manager is not the one that was unlocked",
    )?;
    tokio::spawn(cosign(witness, witnessed));
    let rotation = RotateVersion {
        keys: &keys,
        trust: &trust,
        key_manager: args.connection.key_manager.clone(),
        store: &store,
        work: &args.work,
        model: name(&args.model)?,
        version: name(&args.model_version)?,
        now_unix: &now_unix,
    };
    let mut go_on = |_| ControlFlow::Continue(());
    let rotated = rotation
        .run(&mut go_on)
        .await
        .map_err(|error| Failure::new(code(&error), "the version was not rotated", error))?;
    print(&json!({
        "model": args.model,
        "version": rotated.version.version,
        "serial": rotated.version.serial,
        "revision": rotated.version.revision,
        "manifest_sha256": rotated.version.manifest_sha256,
        "replaced_manifest_sha256": rotated.replaced,
        "keys": rotated.keys,
        "sent_bytes": rotated.sent_bytes,
        "document_sha256": rotated.document_sha256,
    }))
}

fn code(error: &RotationError) -> u8 {
    match error {
        RotationError::Unknown { .. } | RotationError::State { .. } => INPUT,
        RotationError::Version(_) | RotationError::KeyManager(_) | RotationError::Headers(_) => {
            UNVERIFIED
        }
        _ => ENVIRONMENT,
    }
}
