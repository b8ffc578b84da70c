//! Rows of tokens in batches, and batches on threads.

use std::{
    num::NonZeroUsize,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Tokens of a batch: enough for the products to reach their speed, and few enough for the widest
/// activations to stay in a core's cache.
const MAX_BATCH_TOKENS: usize = 128;

/// What `forward` makes of each batch of `rows`, one after the other.
pub(crate) fn in_batches(
    rows: &[&[u32]],
    threads: NonZeroUsize,
    forward: impl Fn(&[&[u32]]) -> Vec<f32> + Sync,
) -> Vec<f32> {
    let batches = batches(rows, threads);
    if threads.get() == 1 || batches.len() < 2 {
        return batches.iter().flat_map(|batch| forward(batch)).collect();
    }
    // Each thread takes whole batches: threads inside a product wait for each other.
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(index) else {
                return done;
            };
            done.push((index, forward(batch)));
        }
    };
    let mut done = thread::scope(|scope| {
        let started: Vec<_> = (0..threads.get().min(batches.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut done = Vec::with_capacity(batches.len());
        for thread in started {
            done.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().flat_map(|(_, output)| output).collect()
}

/// Cuts `rows` where a batch is full, or where another thread would be left without work.
fn batches<'a, 'b>(rows: &'a [&'b [u32]], threads: NonZeroUsize) -> Vec<&'a [&'b [u32]]> {
    let tokens: usize = rows.iter().map(|row| row.len()).sum();
    let most = MAX_BATCH_TOKENS.min(tokens.div_ceil(threads.get()));
    let mut batches = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (index, row) in rows.iter().enumerate() {
        if index > start && tokens + row.len() > most {
            batches.push(&rows[start..index]);
            (start, tokens) = (index, 0);
        }
        tokens += row.len();
    }
    if start < rows.len() {
        batches.push(&rows[start..]);
    }
    batches
}
