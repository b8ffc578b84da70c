//! Writing the bodies of a file on several threads.
//!
//! | done by every thread on its own | done in turn, chunk after chunk |
//! |---|---|
//! | reading and checking plain bytes | hashing them: a digest of a file has one order |
//! | encrypting, writing | giving out nonces, telling the progress |
//!
//! So with two threads and more a chunk is hashed while others are read, encrypted and written.

use std::{
    fs::File,
    num::NonZeroUsize,
    os::unix::fs::FileExt,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use sealift_signed_document::Digest;
use zeroize::Zeroizing;

use super::ChunkSize;
use crate::{
    chunk_root::ChunkRoot,
    header::TensorEntry,
    seal::SealError,
    tensor_key::{ChunkSealer, TAG_BYTES, TensorSealer},
};

/// Fills a buffer with plain bytes of the tensor at this index, from this offset of its body.
pub(crate) type ReadPart<'a> = dyn Fn(usize, u64, &mut [u8]) -> Result<(), SealError> + Sync + 'a;

/// Sees the plain bytes of the tensor at this index; called once for each part of each body, in
/// order.
pub(crate) type SeePart<'a> = dyn FnMut(usize, u64, &[u8]) -> Result<(), SealError> + Send + 'a;

/// Where plain bytes come from, and who sees them go by.
pub(crate) struct PlainBodies<'a> {
    pub(crate) read: &'a ReadPart<'a>,
    pub(crate) see: &'a mut SeePart<'a>,
}

/// What a body will be checked against, while it is written.
pub(crate) enum BodyGuard {
    Sealed(TensorSealer),
    Rooted(ChunkRoot),
}

/// What a body is checked against: the tags of its chunks, or its root.
pub(crate) enum WrittenBody {
    Sealed(Vec<u8>),
    Rooted(Digest),
}

/// Writes bodies, one after the other, behind the room for a header.
pub(crate) struct BodyWriter<'a> {
    pub(crate) out: &'a File,
    /// Where in the file the bodies begin.
    pub(crate) begin: u64,
    pub(crate) chunk: ChunkSize,
    pub(crate) threads: NonZeroUsize,
}

/// One chunk of one body; an empty body has one.
#[derive(Clone, Copy)]
struct Part {
    tensor: usize,
    offset: u64,
    length: usize,
}

impl BodyWriter<'_> {
    /// Writes the bodies of `entries`, which `guards` are for.
    pub(crate) fn write(
        &self,
        entries: &[TensorEntry],
        guards: Vec<BodyGuard>,
        PlainBodies { read, see }: PlainBodies<'_>,
    ) -> Result<Vec<WrittenBody>, SealError> {
        let parts = self.parts(entries);
        let largest = parts.iter().map(|part| part.length).max().unwrap_or(0);
        let turns = Turns::new(guards, see);
        let taken = AtomicUsize::new(0);
        let work = || {
            let leaving = StopUnlessDone(&turns);
            let mut buffer = Zeroizing::new(vec![0; largest]);
            let mut tags = Vec::new();
            loop {
                let number = taken.fetch_add(1, Ordering::Relaxed);
                let Some(&part) = parts.get(number) else {
                    break;
                };
                let bytes = &mut buffer[..part.length];
                read(part.tensor, part.offset, bytes)?;
                let Some(sealer) = turns.take(number, part, bytes)? else {
                    break;
                };
                if let Some(sealer) = sealer.0 {
                    tags.push((number, sealer.seal(bytes)));
                }
                let place = self.begin + entries[part.tensor].begin + part.offset;
                self.out
                    .write_all_at(bytes, place)
                    .map_err(SealError::Write)?;
            }
            leaving.done();
            Ok(tags)
        };
        let results: Vec<Result<_, SealError>> = thread::scope(|scope| {
            let threads = self.threads.get().min(parts.len());
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others = others.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            [own].into_iter().chain(others).collect()
        });
        let mut tags = Vec::with_capacity(parts.len());
        for result in results {
            tags.extend(result?);
        }
        tags.sort_unstable_by_key(|&(number, _)| number);
        Ok(turns.finish(
            tags.into_iter()
                .map(|(number, tag)| (parts[number].tensor, tag)),
        ))
    }

    fn parts(&self, entries: &[TensorEntry]) -> Vec<Part> {
        let mut parts = Vec::new();
        for (tensor, entry) in entries.iter().enumerate() {
            for index in 0..self.chunk.count(entry.bytes()) {
                let offset = index * self.chunk.bytes();
                parts.push(Part {
                    tensor,
                    offset,
                    length: (entry.bytes() - offset).min(self.chunk.bytes()) as usize,
                });
            }
        }
        parts
    }
}

/// Lets the parts pass one by one, in order.
struct Turns<'a> {
    turn: Mutex<Turn<'a>>,
    passed: Condvar,
}

struct Turn<'a> {
    next: usize,
    stopped: bool,
    guards: Vec<BodyGuard>,
    see: &'a mut SeePart<'a>,
}

/// What encrypts a part, or nothing if it is not encrypted.
struct Sealer(Option<ChunkSealer>);

impl<'a> Turns<'a> {
    fn new(guards: Vec<BodyGuard>, see: &'a mut SeePart<'a>) -> Self {
        Self {
            turn: Mutex::new(Turn {
                next: 0,
                stopped: false,
                guards,
                see,
            }),
            passed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turn<'a>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of part `number` and takes it; `None` if another thread failed.
    fn take(&self, number: usize, part: Part, bytes: &[u8]) -> Result<Option<Sealer>, SealError> {
        let waiting = |turn: &mut Turn<'_>| !turn.stopped && turn.next != number;
        let mut turn = self
            .passed
            .wait_while(self.lock(), waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if turn.stopped {
            return Ok(None);
        }
        (turn.see)(part.tensor, part.offset, bytes)?;
        let sealer = match &mut turn.guards[part.tensor] {
            BodyGuard::Sealed(sealer) => Some(sealer.next_chunk()),
            BodyGuard::Rooted(root) => {
                root.update(bytes);
                None
            }
        };
        turn.next += 1;
        drop(turn);
        self.passed.notify_all();
        Ok(Some(Sealer(sealer)))
    }

    /// What the bodies are checked against, with the tags of each tensor in the order of chunks.
    fn finish(self, tags: impl Iterator<Item = (usize, [u8; TAG_BYTES])>) -> Vec<WrittenBody> {
        let turn = self
            .turn
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut written: Vec<_> = turn
            .guards
            .into_iter()
            .map(|guard| match guard {
                BodyGuard::Sealed(_) => WrittenBody::Sealed(Vec::new()),
                BodyGuard::Rooted(root) => WrittenBody::Rooted(root.finish()),
            })
            .collect();
        for (tensor, tag) in tags {
            if let WrittenBody::Sealed(tags) = &mut written[tensor] {
                tags.extend(tag);
            }
        }
        written
    }
}

/// Lets no thread wait for a turn that never comes, because the one before it failed or panicked.
struct StopUnlessDone<'t, 'a>(&'t Turns<'a>);

impl StopUnlessDone<'_, '_> {
    fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for StopUnlessDone<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.passed.notify_all();
    }
}
