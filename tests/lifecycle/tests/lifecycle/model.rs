//! A tiny model, sealed with an owner's keys.

use std::{collections::BTreeMap, num::NonZeroUsize, ops::ControlFlow, path::Path};

use sealift_encrypted_batch::OutputPolicy;
use sealift_owner_keys::OwnerKeys;
use sealift_sealed_model::{
    OutputHead, Protection, ProtectionPlan, SealOptions, SealRequest, SealedVersion, SealingKeys,
    SourceModel, TensorPlan, VerifiedManifest, VersionFacts, seal_version,
};
use sealift_signed_document::{Digest, SecretBytes};

use crate::world::{MODEL, VERSION};

/// Bytes of the model's tensor bodies, as they lie in its one tensor file.
pub(crate) const BODY_BYTES: u64 = 96 * 4;

fn weights() -> Vec<u8> {
    (0..64_u16)
        .flat_map(|at| (f32::from(at) * 0.25).to_le_bytes())
        .collect()
}

fn source() -> SourceModel {
    let bytes = weights();
    let view = |shape: usize| {
        let part = &bytes[..shape * 4];
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![shape], part).unwrap()
    };
    let tensors = [("plain", view(64)), ("sealed", view(32))];
    let metadata = None::<std::collections::HashMap<String, String>>;
    let file = safetensors::serialize(tensors, metadata).unwrap();
    let name = "model.safetensors".parse().unwrap();
    SourceModel::from_files(vec![(name, Box::new(file))]).unwrap()
}

pub(crate) fn seal(keys: &OwnerKeys, out: &Path) -> SealedVersion {
    let source = source();
    let planned = |protection| TensorPlan {
        protection,
        role: "weight".parse().unwrap(),
    };
    let plan: ProtectionPlan = [("plain", Protection::Plain), ("sealed", Protection::Sealed)]
        .map(|(name, protection)| (name.to_owned(), planned(protection)))
        .into();
    let request = SealRequest {
        source: &source,
        plan: &plan,
        fhe: Vec::new(),
        public_files: BTreeMap::from([("config.json".parse().unwrap(), b"{}".to_vec())]),
        report: b"{}",
        facts: VersionFacts {
            model: MODEL.parse().unwrap(),
            version: VERSION.parse().unwrap(),
            serial: 1,
            created: 1,
            base: None,
            output_head: OutputHead {
                layer: "sealed".to_owned(),
                protection: Protection::Sealed,
                outputs: 2,
            },
            output_policy: OutputPolicy::Label,
            plan_sha256: Digest::of(b"plan"),
            tool: "sealift".to_owned(),
        },
        keys: SealingKeys {
            publish: &keys.oms().unwrap(),
            header: &keys.header().unwrap(),
        },
        options: SealOptions::default(),
    };
    seal_version(request, out, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Whether `kek` opens the version, to the weights that were sealed.
pub(crate) fn opens(verified: &VerifiedManifest, kek: &SecretBytes<32>) -> bool {
    verified
        .open(kek, NonZeroUsize::MIN)
        .is_ok_and(|opened| opened.tensor("sealed").unwrap().bytes == &weights()[..128])
}
