//! One pass over a plain file: every byte is read once, hashed, and handed to the writer.

use sealift_signed_document::{Digest, DigestWriter};
use zeroize::Zeroizing;

use crate::source::{SourceError, SourceFile};

/// What is read at once where bytes are only hashed.
const SKIP_BYTES: u64 = 1 << 20;

/// Reads a plain file from its begin to its end.
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

    /// Fills `buffer` from `offset`, which is not before the end of the last read; what lies
    /// between is hashed.
    pub(super) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.skip_to(offset)?;
        self.file.read_at(buffer, offset)?;
        self.digest.update(buffer);
        self.at += buffer.len() as u64;
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
