//! What is known of a model, said to whoever asks with a nonce.
//!
//! Names, serials and digests of a model are metadata that every party of a rollout sees; keys and
//! rows are not among them.

use sealift_kbs_protocol::model_status::{
    self, ModelStatus, ModelStatusAnswer, ModelStatusRequest, VersionStatus,
};

use crate::{
    refusal::Refusal,
    service::Open,
    state::records::{Installed, Model, Sequence, Version, VersionState},
};

/// Answers for one owner and model; another owner's model is as unknown as none.
pub(crate) async fn model_status(
    open: &Open,
    request: &ModelStatusRequest,
) -> Result<ModelStatusAnswer, Refusal> {
    let ModelStatusRequest {
        nonce,
        owner_root,
        model,
    } = request;
    let ledger = open.ledger().await;
    let vault = &ledger.vault;
    let sequence = vault
        .get::<Sequence>(&Sequence::id(owner_root, model))?
        .unwrap_or_default();
    let known = vault
        .get::<Model>(model.as_str())?
        .filter(|known| known.root == *owner_root);
    let versions = match &known {
        Some(_) => vault.list::<Version>(&format!("{model}/"))?,
        None => Vec::new(),
    };
    let installed = vault.list::<Installed>(&format!("{}/", owner_root.thumbprint()))?;
    let status = open.sign(&ModelStatus {
        nonce: *nonce,
        owner_root: *owner_root,
        model: model.clone(),
        seq: sequence.last,
        newest: known.as_ref().map_or(0, |known| known.newest),
        floor: known.as_ref().map_or(0, |known| known.floor),
        versions: versions.into_iter().map(version_status).collect(),
        installed: installed
            .into_iter()
            .map(|one| one.document.digest())
            .collect(),
    })?;
    Ok(ModelStatusAnswer { status })
}

fn version_status(version: Version) -> VersionStatus {
    let state = match version.state {
        VersionState::Staged => model_status::VersionState::Staged,
        VersionState::Active => model_status::VersionState::Active,
        VersionState::Withdrawn => model_status::VersionState::Withdrawn,
        VersionState::Erased => model_status::VersionState::Erased,
    };
    VersionStatus {
        serial: version.register.serial,
        revision: version.revision(),
        manifest_sha256: version.manifest_sha256(),
        version: version.register.version,
        state,
    }
}
