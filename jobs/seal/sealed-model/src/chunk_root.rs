//! The Merkle root over a body's chunks, by which `plain` and `fhe` bodies are checked in the
//! buffer that is used.

use sealift_signed_document::{Digest, DigestWriter};

use crate::limits::ROOT_CHUNK_BYTES;

/// The root of RFC 6962 section 2.1 over the SHA-256 of each chunk of a body, built while the
/// body streams by.
///
/// A body is cut into chunks of [`ROOT_CHUNK_BYTES`]; an empty body has one empty chunk.
pub(crate) struct ChunkRoot {
    /// Roots of complete subtrees, largest first, with the logarithm of their leaves.
    subtrees: Vec<(u32, Digest)>,
    chunk: DigestWriter,
    chunk_bytes: u64,
}

impl ChunkRoot {
    pub(crate) fn new() -> Self {
        Self {
            subtrees: Vec::new(),
            chunk: DigestWriter::new(),
            chunk_bytes: 0,
        }
    }

    /// The root over a whole body.
    pub(crate) fn of(body: &[u8]) -> Digest {
        let mut root = Self::new();
        root.update(body);
        root.finish()
    }

    /// Adds the body's next bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.chunk_bytes == ROOT_CHUNK_BYTES {
                self.end_chunk();
            }
            let room = (ROOT_CHUNK_BYTES - self.chunk_bytes).min(bytes.len() as u64) as usize;
            let (part, rest) = bytes.split_at(room);
            self.chunk.update(part);
            self.chunk_bytes += room as u64;
            bytes = rest;
        }
    }

    /// The root over everything added.
    pub(crate) fn finish(mut self) -> Digest {
        self.end_chunk();
        self.root()
    }

    fn root(self) -> Digest {
        let mut subtrees = self.subtrees.into_iter().rev();
        let (_, last) = subtrees.next().expect("the last chunk was just added");
        subtrees.fold(last, |right, (_, left)| node(&left, &right))
    }

    fn end_chunk(&mut self) {
        let chunk = std::mem::take(&mut self.chunk).finish();
        self.chunk_bytes = 0;
        self.add_leaf(&chunk);
    }

    fn add_leaf(&mut self, chunk: &Digest) {
        let mut subtree = (0, leaf(chunk));
        while let Some((level, left)) = self.subtrees.pop_if(|(level, _)| *level == subtree.0) {
            subtree = (level + 1, node(&left, &subtree.1));
        }
        self.subtrees.push(subtree);
    }
}

/// The digests of a body's chunks, for a reader that checks each chunk where it uses it.
#[derive(Default)]
pub(crate) struct ChunkDigests(Vec<Digest>);

impl ChunkDigests {
    /// Adds the body's next chunk: [`ROOT_CHUNK_BYTES`], less only at the end of the body.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.0.push(Digest::of(chunk));
    }

    /// The root over the chunks that were added.
    pub(crate) fn root(&self) -> Digest {
        let mut root = ChunkRoot::new();
        for chunk in &self.0 {
            root.add_leaf(chunk);
        }
        root.root()
    }

    /// Whether `chunk` is the one that was added as number `index`.
    pub(crate) fn has(&self, index: usize, chunk: &[u8]) -> bool {
        self.0.get(index) == Some(&Digest::of(chunk))
    }
}

fn leaf(chunk: &Digest) -> Digest {
    let mut writer = DigestWriter::new();
    writer.update(&[0]);
    writer.update(chunk.as_bytes());
    writer.finish()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut writer = DigestWriter::new();
    writer.update(&[1]);
    writer.update(left.as_bytes());
    writer.update(right.as_bytes());
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 section 2.1 word for word: split at the largest power of two below n.
    fn by_definition(chunks: &[Digest]) -> Digest {
        if let [chunk] = chunks {
            return leaf(chunk);
        }
        let (left, right) = chunks.split_at(chunks.len().next_power_of_two() / 2);
        node(&by_definition(left), &by_definition(right))
    }

    #[test]
    fn the_root_is_that_of_rfc_6962_for_every_small_number_of_chunks() {
        let chunk = ROOT_CHUNK_BYTES as usize;
        let body: Vec<u8> = (0..9 * chunk)
            .map(|at| (at / chunk + at % 251) as u8)
            .collect();
        for whole in 0..9 {
            for extra in [1, chunk] {
                let body = &body[..whole * chunk + extra];
                let digests: Vec<Digest> = body.chunks(chunk).map(Digest::of).collect();
                assert_eq!(
                    ChunkRoot::of(body),
                    by_definition(&digests),
                    "{}",
                    body.len()
                );
            }
        }
    }

    #[test]
    fn an_empty_body_has_one_empty_chunk() {
        assert_eq!(ChunkRoot::of(&[]), leaf(&Digest::of(&[])));
    }

    #[test]
    fn the_root_does_not_depend_on_how_the_body_is_fed() {
        let body = vec![7; ROOT_CHUNK_BYTES as usize * 2 + 5];
        let mut root = ChunkRoot::new();
        for part in body.chunks(1_000_003) {
            root.update(part);
        }
        assert_eq!(root.finish(), ChunkRoot::of(&body));
    }

    #[test]
    fn the_digests_of_chunks_have_the_root_of_the_body() {
        let chunk = ROOT_CHUNK_BYTES as usize;
        let body: Vec<u8> = (0..3 * chunk + 7).map(|at| (at % 251) as u8).collect();
        let mut digests = ChunkDigests::default();
        body.chunks(chunk).for_each(|part| digests.push(part));
        assert_eq!(digests.root(), ChunkRoot::of(&body));
        assert!(digests.has(3, &body[3 * chunk..]));
        assert!(!digests.has(2, &body[3 * chunk..]) && !digests.has(4, &[]));
    }

    #[test]
    fn chunks_in_another_order_have_another_root() {
        let chunk = ROOT_CHUNK_BYTES as usize;
        let body = [vec![1; chunk], vec![2; chunk]].concat();
        let swapped = [vec![2; chunk], vec![1; chunk]].concat();
        assert_ne!(ChunkRoot::of(&body), ChunkRoot::of(&swapped));
    }
}
