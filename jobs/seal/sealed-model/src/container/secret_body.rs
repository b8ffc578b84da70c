//! Memory for the weights of one tensor.

use std::{
    io,
    ops::{Deref, DerefMut},
};

use memmap2::{Advice, MmapMut};
use zeroize::{ZeroizeOnDrop, optimization_barrier};

/// Bytes from which a body gets pages of its own.
const MAPPED_BYTES: usize = 4 << 20;

/// Secret weights, wiped when dropped.
///
/// Wiped as one block: `Zeroizing` writes byte by byte, which takes seconds for a large model.
/// Large ones ask for huge pages: taking a page of 4 KiB from the kernel costs about what
/// decrypting one does.
pub(crate) struct SecretBody(Memory);

enum Memory {
    Heap(Vec<u8>),
    Pages(MmapMut),
}

impl SecretBody {
    /// `length` zeros, or an error where there is not as much memory.
    pub(crate) fn zeroed(length: usize) -> io::Result<Self> {
        if length < MAPPED_BYTES {
            return Ok(Self(Memory::Heap(vec![0; length])));
        }
        let pages = MmapMut::map_anon(length)?;
        // A kernel without huge pages refuses, and small ones will do.
        pages.advise(Advice::HugePage).ok();
        Ok(Self(Memory::Pages(pages)))
    }
}

impl Drop for SecretBody {
    fn drop(&mut self) {
        self.fill(0);
        optimization_barrier(&**self);
    }
}

impl ZeroizeOnDrop for SecretBody {}

impl Deref for SecretBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Heap(bytes) => bytes,
            Memory::Pages(pages) => pages,
        }
    }
}

impl DerefMut for SecretBody {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Heap(bytes) => bytes,
            Memory::Pages(pages) => pages,
        }
    }
}
