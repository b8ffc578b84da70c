//! The header of a file of encrypted layers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::meta::LayerMeta;

/// The format that this crate reads and writes.
const FORMAT: u32 = 1;

/// Layers of one file; a model has one to a few output layers.
const MAX_LAYERS: usize = 64;

/// The text of `__metadata__["sealift.fhe"]`: the facts of every layer in one file.
///
/// One byte form only: `{"format":1,"layers":[…]}` without spaces, members in the order of
/// [`LayerMeta`], layers by ascending name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerHeader {
    format: u32,
    layers: Vec<LayerMeta>,
}

impl LayerHeader {
    /// The header of these layers, which it puts in order.
    pub fn new(mut layers: Vec<LayerMeta>) -> Result<Self, HeaderError> {
        layers.sort_by(|a, b| a.layer().cmp(b.layer()));
        let header = Self {
            format: FORMAT,
            layers,
        };
        header.check().map(|()| header)
    }

    /// Reads a header; anything but the one byte form is refused.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        let Format { format } = serde_json::from_str(text).map_err(HeaderError::Json)?;
        if format != FORMAT {
            return Err(HeaderError::Format { found: format });
        }
        let header: Self = serde_json::from_str(text).map_err(HeaderError::Json)?;
        header.check()?;
        if header.to_json() != text {
            return Err(HeaderError::ByteForm);
        }
        Ok(header)
    }

    /// The one byte form.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, integers and finite numbers are JSON")
    }

    /// The layers, by ascending name.
    pub fn layers(&self) -> &[LayerMeta] {
        &self.layers
    }

    fn check(&self) -> Result<(), HeaderError> {
        if self.layers.is_empty() || self.layers.len() > MAX_LAYERS {
            return Err(HeaderError::Count {
                found: self.layers.len(),
            });
        }
        if !self.layers.is_sorted_by(|a, b| a.layer() < b.layer()) {
            return Err(HeaderError::Order);
        }
        let seeds: BTreeSet<_> = self
            .layers
            .iter()
            .map(|meta| *meta.mask_seed().as_bytes())
            .collect();
        if seeds.len() != self.layers.len() {
            return Err(HeaderError::RepeatedSeed);
        }
        Ok(())
    }
}

/// The one member that every version of the header has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Why a header of encrypted layers is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Not JSON, unknown or missing members, or facts that cannot be true.
    #[error("the header of the encrypted layers is malformed; fetch the file again")]
    Json(#[source] serde_json::Error),
    /// Written by another version.
    #[error("encrypted layers of format {found} are not read by this version, only {FORMAT}")]
    Format {
        /// The format it claims.
        found: u32,
    },
    /// None, or more than any model has.
    #[error("a file holds 1 to {MAX_LAYERS} encrypted layers, this one {found}")]
    Count {
        /// Layers it claims.
        found: usize,
    },
    /// Not by ascending name, or a name twice.
    #[error("the encrypted layers are not listed once each by ascending name; seal again")]
    Order,
    /// Two layers under one mask seed would leak the difference of their weights.
    #[error("two encrypted layers share a mask seed; seal again")]
    RepeatedSeed,
    /// Equal content in other bytes: duplicate members, spaces, another order.
    #[error("the header of the encrypted layers is not in its one byte form; seal again")]
    ByteForm,
}
