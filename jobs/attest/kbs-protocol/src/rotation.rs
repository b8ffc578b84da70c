//! How a version gets another KEK: two changes, with the publication of the new headers between
//! them.
//!
//! KEKs never leave the key manager on the way. The owner sends the wrapped data keys that stand in
//! the published headers; the key manager draws a KEK, wraps them anew and keeps it beside the old
//! one ([`Rewrap`]). The owner writes them into new headers, publishes these as the next revision
//! of the version, and says so ([`Rotate`]): from then on only that revision is attested and
//! released, and the old KEK is gone. Template, reference values, output policy and budgets stay
//! what the owner registered, so that rotating gives nobody a key who could not have it before.
//!
//! A rotation that was cut off begins again with another KEK; the one that nobody rotated to is
//! overwritten.

use sealift_signed_document::{Digest, Document, Envelope, KeyId};
use serde::{Deserialize, Serialize};

use crate::{Name, call::Bytes, command::Approval};

/// Path of [`RewrapMessage`].
pub const REWRAP_PATH: &str = "/sealift/v1/rewrap";

/// `rewrap.v1`: wraps a version's data keys under a KEK that is drawn for its next revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrap {
    /// The key manager.
    pub km_id: KeyId,
    /// One more than the last change of this owner and model.
    pub seq: u64,
    /// Unix seconds from which the document no longer counts.
    pub not_after: u64,
    /// The model.
    pub model: Name,
    /// The version.
    pub version: Name,
    /// The manifest that is released now.
    pub manifest_sha256: Digest,
    /// SHA-256 of the wrapped keys that are sent.
    pub keys_sha256: Digest,
}

impl Document for Rewrap {
    const TYPE: &'static str = "rewrap.v1";
}

/// `POST /sealift/v1/rewrap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewrapMessage {
    /// The change, once per admin that the configuration demands.
    pub approvals: Vec<Approval>,
    /// The version's wrapped keys ([`sealift_wrapped_key::WrappedKeys`]).
    pub keys: Bytes,
}

/// Answer to [`RewrapMessage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewrapAnswer {
    /// `km-ack.v1`.
    pub ack: Envelope,
    /// The same keys in the same order, under the KEK of the next revision. Nothing vouches for
    /// them: whoever changed them on the way has made keys that [`Rotate`] does not name.
    pub keys: Bytes,
}

/// `rotate.v1`: the next revision was verified in its store; it takes the place of the current
/// one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// The key manager.
    pub km_id: KeyId,
    /// One more than the last change of this owner and model.
    pub seq: u64,
    /// Unix seconds from which the document no longer counts.
    pub not_after: u64,
    /// The model.
    pub model: Name,
    /// The version.
    pub version: Name,
    /// The revision in the new manifest.
    pub revision: u64,
    /// SHA-256 of the new manifest.
    pub manifest_sha256: Digest,
    /// SHA-256 of the wrapped keys in the new headers, as [`RewrapAnswer`] gave them.
    pub keys_sha256: Digest,
}

impl Document for Rotate {
    const TYPE: &'static str = "rotate.v1";
}
