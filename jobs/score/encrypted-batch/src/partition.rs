//! The guest's half of opening a partition.

use sealift_signed_document::Digest;

use crate::{
    BatchError, FileKey, HeaderError, InputRow, Partition, PayloadError, RowsError, VerifiedBatch,
    age_header::AgeHeader, age_payload::open_payload, row::parse_rows,
};

/// Largest sealed file: a partition is held in the guest's memory as a whole, sealed and open.
pub const MAX_PARTITION_BYTES: u64 = 256 << 20;

/// Why a partition gives no rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// The batch has no such partition.
    #[error("the partition is not part of the batch")]
    Batch(#[source] BatchError),
    /// Another length than the batch lists.
    #[error("partition {index} has {found} bytes, the batch lists {listed}")]
    Length {
        /// The partition.
        index: u32,
        /// The length that was received.
        found: u64,
        /// The length in the batch.
        listed: u64,
    },
    /// Another file than the batch lists.
    #[error("the file of partition {0} is not the one that the batch lists")]
    OtherFile(u32),
    /// Not an age file of the one form that is read.
    #[error("the header of partition {index} is not accepted")]
    Header {
        /// The partition.
        index: u32,
        /// Why.
        #[source]
        source: HeaderError,
    },
    /// A header that the batch does not list for this file.
    #[error("the header of partition {0} is not the one that the batch lists")]
    OtherHeader(u32),
    /// The recipients were changed by someone without the file key.
    #[error("the header of partition {0} does not belong to its file key")]
    Mac(u32),
    /// The payload does not open.
    #[error("the payload of partition {index} does not open")]
    Payload {
        /// The partition.
        index: u32,
        /// Why.
        #[source]
        source: PayloadError,
    },
    /// Lines that are not rows.
    #[error("partition {index} has lines that are not rows")]
    Rows {
        /// The partition.
        index: u32,
        /// Which.
        #[source]
        source: RowsError,
    },
    /// Another number of rows than the batch lists.
    #[error("partition {index} has {found} rows, the batch lists {listed}")]
    RowCount {
        /// The partition.
        index: u32,
        /// Rows found.
        found: usize,
        /// Rows listed.
        listed: u32,
    },
    /// Rows of another form than the batch announces.
    #[error("the rows of partition {0} do not have the form that the batch announces")]
    Schema(u32),
}

/// A partition's file whose bytes are those that the user signed for.
///
/// [`SealedPartition::check`] is its only constructor: length, digest and header are compared
/// over the very buffer that is decrypted later.
pub struct SealedPartition {
    file: Vec<u8>,
    header: AgeHeader,
    entry: Partition,
    batch_sha256: Digest,
    schema_sha256: Digest,
}

impl SealedPartition {
    /// Checks a whole received file against the batch.
    pub fn check(batch: &VerifiedBatch, index: u32, file: Vec<u8>) -> Result<Self, PartitionError> {
        let entry = batch
            .partition(index)
            .map_err(PartitionError::Batch)?
            .clone();
        let found = file.len() as u64;
        if found != entry.bytes {
            return Err(PartitionError::Length {
                index,
                found,
                listed: entry.bytes,
            });
        }
        if Digest::of(&file) != entry.sha256 {
            return Err(PartitionError::OtherFile(index));
        }
        let (header, _) = AgeHeader::parse_prefix(&file)
            .map_err(|source| PartitionError::Header { index, source })?;
        if header.digest() != entry.header_sha256 {
            return Err(PartitionError::OtherHeader(index));
        }
        let schema_sha256 = batch.document().schema_sha256;
        Ok(Self {
            file,
            header,
            entry,
            batch_sha256: batch.digest(),
            schema_sha256,
        })
    }

    /// The partition's entry in the batch.
    pub fn entry(&self) -> &Partition {
        &self.entry
    }

    /// The header for the key manager, MAC line included.
    pub fn header(&self) -> &[u8] {
        self.header.as_bytes()
    }

    /// Opens the payload with the file key that the key manager answered.
    ///
    /// Rows appear only after the last chunk was reached and every line was read.
    pub fn open(self, key: &FileKey) -> Result<OpenedPartition, PartitionError> {
        let index = self.entry.index;
        if !self.header.mac_is_of(key) {
            return Err(PartitionError::Mac(index));
        }
        let payload = &self.file[self.header.as_bytes().len()..];
        let plain = open_payload(key, payload)
            .map_err(|source| PartitionError::Payload { index, source })?;
        let (shape, rows) =
            parse_rows(&plain).map_err(|source| PartitionError::Rows { index, source })?;
        if rows.len() != self.entry.rows as usize {
            let (found, listed) = (rows.len(), self.entry.rows);
            return Err(PartitionError::RowCount {
                index,
                found,
                listed,
            });
        }
        if shape.digest() != self.schema_sha256 {
            return Err(PartitionError::Schema(index));
        }
        Ok(OpenedPartition {
            rows,
            entry: self.entry,
            batch_sha256: self.batch_sha256,
        })
    }
}

/// The rows of a partition, exactly as the user sealed them.
///
/// [`SealedPartition::open`] is its only constructor.
pub struct OpenedPartition {
    rows: Vec<InputRow>,
    entry: Partition,
    batch_sha256: Digest,
}

impl OpenedPartition {
    /// The rows in their order.
    pub fn rows(&self) -> &[InputRow] {
        &self.rows
    }

    /// The partition's entry in the batch; its `sha256` is the receipt's `input_sha256`.
    pub fn entry(&self) -> &Partition {
        &self.entry
    }

    /// The batch document it belongs to.
    pub fn batch_sha256(&self) -> &Digest {
        &self.batch_sha256
    }
}
