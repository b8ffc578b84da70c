//! Reading parts of a file that may be on disk, in memory or in a store.

use std::{fs::File, io, os::unix::fs::FileExt};

use bytes::Bytes;
use zeroize::Zeroizing;

/// Something with a fixed length whose parts can be read in any order, by several threads.
///
/// What it answers is not trusted, not even to answer the same twice: readers check the buffer
/// that they go on with.
pub trait RangeRead: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Fills `buffer` from `offset`; less than the whole buffer is an error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Whether there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A file of a length that is fixed when it is opened.
#[derive(Debug)]
pub struct FileRange {
    file: File,
    len: u64,
}

impl FileRange {
    /// Takes an open file, which must be a regular one.
    pub fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(Self {
            file,
            len: metadata.len(),
        })
    }
}

impl RangeRead for FileRange {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, buffer, offset)
    }
}

/// Something of which one range reads as other bytes, wiped when dropped.
pub(crate) struct ReplacedRange {
    pub(crate) content: Box<dyn RangeRead>,
    pub(crate) begin: u64,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

impl RangeRead for ReplacedRange {
    fn len(&self) -> u64 {
        self.content.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.content.read_exact_at(buffer, offset)?;
        let from = offset.max(self.begin);
        let to = (offset + buffer.len() as u64).min(self.begin + self.bytes.len() as u64);
        if from < to {
            let part = |begin: u64| (from - begin) as usize..(to - begin) as usize;
            buffer[part(offset)].copy_from_slice(&self.bytes[part(self.begin)]);
        }
        Ok(())
    }
}

impl RangeRead for Bytes {
    fn len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let part = usize::try_from(offset)
            .ok()
            .and_then(|begin| self.get(begin..begin.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

impl RangeRead for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let part = usize::try_from(offset)
            .ok()
            .and_then(|begin| self.get(begin..begin.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

/// Reads a whole file of at most `max` bytes.
pub(crate) fn read_whole(file: &dyn RangeRead, max: u64) -> io::Result<Vec<u8>> {
    if file.len() > max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} bytes, where {max} are the most", file.len()),
        ));
    }
    let mut bytes = vec![0; file.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_beyond_the_end_is_an_error() {
        let bytes = vec![1, 2, 3];
        let mut part = [0; 2];
        RangeRead::read_exact_at(&bytes, &mut part, 1).unwrap();
        assert_eq!(part, [2, 3]);
        for offset in [2, 3, u64::MAX] {
            assert!(
                RangeRead::read_exact_at(&bytes, &mut part, offset).is_err(),
                "{offset}"
            );
            assert!(
                RangeRead::read_exact_at(&Bytes::from(vec![1, 2, 3]), &mut part, offset).is_err()
            );
        }
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(FileRange::new(File::open(folder.path()).unwrap()).is_err());
    }
}
