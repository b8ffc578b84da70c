//! A model that goes by in parts, every part of it checked: for a model that is larger than memory,
//! or one that is written elsewhere.

use std::ops::ControlFlow;

use sealift_signed_document::SecretBytes;

use crate::{
    manifest::ManifestTensor,
    opened::PlannedBodies,
    version::{VerifiedManifest, VersionError},
};

/// The next bytes of one tensor, checked and decrypted; wiped when the next part comes.
#[derive(Clone, Copy)]
pub struct TensorPart<'a> {
    /// What the manifest says of the tensor.
    pub facts: &'a ManifestTensor,
    /// Where in the tensor the part begins, in bytes.
    pub offset: u64,
    /// Its elements, little-endian, in row-major order. Only elements of 6 bits may be cut.
    pub bytes: &'a [u8],
}

impl VerifiedManifest {
    /// Hands every tensor to `take`, file by file in the order of the bodies, until it breaks off.
    ///
    /// An empty tensor is one empty part. Memory is one chunk, however large the model: a
    /// `sealed` body is read once, a `plain` or `fhe` one twice, because its root is known to be
    /// right only at its end, and a part is checked in the buffer that is handed out.
    ///
    /// Whoever acts on a part before the end acts on a model whose rest may be refused.
    pub fn stream<B>(
        &self,
        kek: &SecretBytes<32>,
        mut take: impl FnMut(TensorPart<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, VersionError> {
        let planned = PlannedBodies::of(self, kek)?;
        for (content, body) in &planned.work {
            let (file, content) = &planned.contents[*content];
            let facts = body.tensor;
            let mut hand_out = |offset, bytes: &[u8]| {
                take(TensorPart {
                    facts,
                    offset,
                    bytes,
                })
            };
            let streamed = body.stream(content.as_ref(), &mut hand_out);
            match streamed.map_err(|source| VersionError::Container {
                file: file.name.clone(),
                source,
            })? {
                ControlFlow::Continue(()) => {}
                stopped @ ControlFlow::Break(_) => return Ok(stopped),
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
