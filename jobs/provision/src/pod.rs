//! What jobs tell each other about a pod.

use schemars::JsonSchema;
use sealift_kbs_protocol::Name;
use sealift_signed_document::Digest;
use serde::{Deserialize, Serialize};

use crate::PodName;

/// A version in the store, as `publish@1` leaves it.
///
/// It is a hint: the guest and the key manager compare it with what the owner signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The model.
    #[schemars(with = "String")]
    pub model: Name,
    /// The version.
    #[schemars(with = "String")]
    pub version: Name,
    /// The version's place in the order of versions.
    pub serial: u64,
    /// SHA-256 of its manifest, hex.
    #[schemars(with = "String")]
    pub manifest_sha256: Digest,
}

/// A confidential guest for one version, by name. Whether it runs at the moment is
/// [`crate::Pods`]' concern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// The pod's name.
    #[schemars(with = "String")]
    pub name: PodName,
    /// The model.
    #[schemars(with = "String")]
    pub model: Name,
    /// The version.
    #[schemars(with = "String")]
    pub version: Name,
    /// The version's place in the order of versions.
    pub serial: u64,
    /// SHA-256 of its manifest, hex.
    #[schemars(with = "String")]
    pub manifest_sha256: Digest,
}

impl Pod {
    /// The pod of `run` for a published version.
    pub fn of(run: &str, published: &Published) -> Self {
        let Published {
            model,
            version,
            serial,
            manifest_sha256,
        } = published.clone();
        let name = PodName::of(run, &model, &version);
        Self {
            name,
            model,
            version,
            serial,
            manifest_sha256,
        }
    }
}
