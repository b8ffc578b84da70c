//! What a header repeats of the manifest.

use std::collections::BTreeMap;

use sealift_fhe_layer::{LayerHeader, LayerMeta};
use sealift_signed_document::VerifyingKey;

use crate::{
    manifest::{Manifest, ManifestTensor, Protection, check::body_name},
    name::{FileName, Name},
};

/// The format number of manifests that `sealift.manifest` names.
const MANIFEST_FORMAT: &str = "1";

/// The facts of one tensor file that its header repeats.
pub(crate) struct FileFacts<'a> {
    pub(crate) model: &'a Name,
    pub(crate) version: &'a Name,
    pub(crate) header_key: VerifyingKey,
    pub(crate) protection: BTreeMap<&'a str, Protection>,
    pub(crate) layers: Vec<LayerMeta>,
}

impl<'a> FileFacts<'a> {
    /// The facts of the file `file` by `manifest`.
    pub(crate) fn of(manifest: &'a Manifest, file: &'a FileName) -> Self {
        let tensors: Vec<&ManifestTensor> = manifest.tensors_of(file).collect();
        let is_here = |layer: &&LayerMeta| {
            let body = body_name(layer.layer());
            tensors
                .iter()
                .any(|tensor| tensor.name == body && tensor.protection == Protection::Fhe)
        };
        Self {
            model: &manifest.model,
            version: &manifest.version,
            header_key: manifest.header_key,
            layers: manifest.fhe.iter().filter(is_here).cloned().collect(),
            protection: tensors
                .iter()
                .map(|tensor| (tensor.name.as_str(), tensor.protection))
                .collect(),
        }
    }

    /// Whether the file holds encrypted bodies and so keys.
    pub(crate) fn has_sealed(&self) -> bool {
        self.protection
            .values()
            .any(|&protection| protection == Protection::Sealed)
    }

    /// The name of the KEK: its KBS resource.
    pub(crate) fn kek_name(&self) -> String {
        format!("{}/{}/kek", self.model, self.version)
    }

    /// Our own members of `__metadata__`.
    pub(crate) fn members(&self) -> BTreeMap<String, String> {
        let protection = serde_json::to_string(&self.protection)
            .expect("a map of texts into a buffer always serializes");
        let mut members = BTreeMap::from([
            ("sealift.model".to_owned(), self.model.to_string()),
            ("sealift.version".to_owned(), self.version.to_string()),
            ("sealift.manifest".to_owned(), MANIFEST_FORMAT.to_owned()),
            ("sealift.protection".to_owned(), protection),
        ]);
        if !self.layers.is_empty() {
            let header = LayerHeader::new(self.layers.clone())
                .expect("a checked manifest's layers have distinct names and seeds");
            members.insert("sealift.fhe".to_owned(), header.to_json());
        }
        members
    }
}
