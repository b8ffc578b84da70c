//! One pass over a plain file: every byte is read once and hashed, in order.

use sealift_signed_document::{Digest, DigestWriter};
use zeroize::Zeroizing;

use crate::source::{SourceError, SourceFile};

/// What is read at once where bytes are only hashed.
const SKIP_BYTES: u64 = 1 << 20;

/// Hashes a plain file from its begin to its end, while its tensors are read for sealing.
pub(super) struct SourceStream<'a> {
    file: &'a SourceFile,
    digest: DigestWriter,
    at: u64,
}

impl<'a> SourceStream<'a> {
    pub(super) fn new(file: &'a SourceFile) -> Self {
        Self {
            file,
            digest: DigestWriter::new(),
            at: 0,
        }
    }

    /// Hashes `bytes`, which are the file's from `offset` on; what lies between them and the end
    /// of the last ones is read and hashed here.
    pub(super) fn add(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SourceError> {
        self.skip_to(offset)?;
        self.digest.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The SHA-256 of the whole file.
    pub(super) fn finish(mut self) -> Result<Digest, SourceError> {
        self.skip_to(self.file.header().body_begin() + self.file.header().body_bytes())?;
        Ok(self.digest.finish())
    }

    fn skip_to(&mut self, offset: u64) -> Result<(), SourceError> {
        if self.at == offset {
            return Ok(());
        }
        let mut buffer = Zeroizing::new(vec![0; SKIP_BYTES.min(offset - self.at) as usize]);
        while self.at < offset {
            let length = (offset - self.at).min(SKIP_BYTES) as usize;
            let part = &mut buffer[..length];
            self.file.read_at(part, self.at)?;
            self.digest.update(part);
            self.at += length as u64;
        }
        Ok(())
    }
}
