//! Attention: what each token takes from the tokens of its text.

use std::ops::Range;

use pulp::Arch;

use crate::{
    elementwise::softmax,
    packed::Packed,
    product::Finish,
    rows::{Rows, RowsMut},
};

/// Tokens whose scores are held at once: the scores stay in a core's cache from one product to the
/// next, and memory grows with the length of a text and not with its square.
const QUERIES: usize = 24;

/// Which tokens a token sees.
#[derive(Clone, Copy)]
pub(crate) enum Sight {
    All,
    /// Those before it and itself.
    Past,
}

/// Attention of one head to the text that it has read, with room that is used again by the next.
pub(crate) struct Attention {
    arch: Arch,
    keys: Packed,
    values: Packed,
    scores: Vec<f32>,
}

impl Attention {
    pub(crate) fn new(arch: Arch) -> Self {
        Self {
            arch,
            keys: Packed::new(arch),
            values: Packed::new(arch),
            scores: Vec::new(),
        }
    }

    /// Reads a text's keys and values, one row each per token.
    pub(crate) fn read(&mut self, keys: Rows<'_>, values: Rows<'_>) {
        self.keys.pack_columns(&[keys]);
        self.values.pack_rows(values);
        let length = keys.count();
        self.scores.resize(length * QUERIES.min(length), 0.0);
    }

    /// Writes what each token takes into `taken`, a row for each row of `queries`.
    pub(crate) fn answer(&mut self, queries: Rows<'_>, mut taken: RowsMut<'_>, sight: Sight) {
        let length = queries.count();
        let scale = 1.0 / (queries.width() as f32).sqrt();
        for start in (0..length).step_by(QUERIES) {
            let tokens = start..length.min(start + QUERIES);
            let scores = &mut self.scores[..tokens.len() * length];
            let seen = match sight {
                Sight::All => length,
                Sight::Past => tokens.end,
            };
            let target = RowsMut::new(scores, [tokens.len(), seen], length);
            let asked = queries.part(tokens.clone());
            self.keys.multiply(asked, target, Finish::default());
            match sight {
                Sight::All => softmax(self.arch, length, scale, scores),
                Sight::Past => softmax_of_past(self.arch, scale, (tokens.clone(), length), scores),
            }
            let scores = Rows::dense(scores, length);
            self.values
                .multiply(scores, taken.part(tokens), Finish::default());
        }
    }
}

fn softmax_of_past(
    arch: Arch,
    scale: f32,
    (tokens, length): (Range<usize>, usize),
    scores: &mut [f32],
) {
    for (token, scores) in tokens.zip(scores.chunks_exact_mut(length)) {
        let (past, future) = scores.split_at_mut(token + 1);
        softmax(arch, past.len(), scale, past);
        future.fill(0.0);
    }
}

/// How an encoder's hidden values are divided.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) count: usize,
    pub(crate) hidden: usize,
}

/// Writes what the tokens take into `taken` [tokens, hidden], text by text, for `triples`
/// [tokens, 3 · hidden] of queries, keys and values: `lengths` are the tokens of each text.
/// Nothing is padded, so that no text costs or changes another.
pub(crate) fn attend(
    arch: Arch,
    heads: Heads,
    lengths: &[usize],
    (triples, taken): (&[f32], &mut [f32]),
) {
    let (hidden, width) = (heads.hidden, heads.hidden / heads.count);
    let mut attention = Attention::new(arch);
    let mut start = 0;
    for length in lengths {
        let end = start + length;
        let text = &triples[start * 3 * hidden..end * 3 * hidden];
        let taken = &mut taken[start * hidden..end * hidden];
        for head in 0..heads.count {
            let place = head * width;
            let part = |part: usize| {
                Rows::new(&text[part * hidden + place..], [*length, width], 3 * hidden)
            };
            attention.read(part(1), part(2));
            let target = RowsMut::new(&mut taken[place..], [*length, width], hidden);
            attention.answer(part(0), target, Sight::All);
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDTH: usize = 5;

    fn values(count: usize, step: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * step) % 13) as f32 / 6.0 - 1.0)
            .collect()
    }

    /// What the token with these queries takes from the first `seen` tokens, in `f64`.
    fn reference(query: &[f32], keys: &[f32], values: &[f32], seen: usize) -> Vec<f64> {
        let dot = |key: &[f32]| -> f64 {
            let products = query.iter().zip(key);
            products.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum()
        };
        let powers: Vec<f64> = keys
            .chunks_exact(WIDTH)
            .take(seen)
            .map(|key| (dot(key) / (WIDTH as f64).sqrt()).exp())
            .collect();
        let total: f64 = powers.iter().sum();
        (0..WIDTH)
            .map(|place| {
                let taken = powers.iter().zip(values.chunks_exact(WIDTH));
                taken
                    .map(|(power, value)| power / total * f64::from(value[place]))
                    .sum()
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_token_takes_what_its_scores_say(length in 1_usize..60, is_causal: bool) {
            let part = |step| values(length * WIDTH, step);
            let (queries, keys, values) = (part(5), part(7), part(3));
            let mut taken = vec![9.0; length * WIDTH];
            let mut attention = Attention::new(Arch::new());
            attention.read(Rows::dense(&keys, WIDTH), Rows::dense(&values, WIDTH));
            let sight = if is_causal { Sight::Past } else { Sight::All };
            let target = RowsMut::dense(&mut taken, WIDTH);
            attention.answer(Rows::dense(&queries, WIDTH), target, sight);
            let rows = queries.chunks_exact(WIDTH).zip(taken.chunks_exact(WIDTH));
            for (token, (query, taken)) in rows.enumerate() {
                let seen = if is_causal { token + 1 } else { length };
                let expected = reference(query, &keys, &values, seen);
                for (found, expected) in taken.iter().zip(expected) {
                    prop_assert!((f64::from(*found) - expected).abs() <= 1e-5);
                }
            }
        }
    }
}
