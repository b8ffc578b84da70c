//! Attention of each token to those before it and to itself, with fewer keys than queries
//! (grouped-query attention).

use pulp::Arch;

use crate::{
    dense::Dense,
    elementwise::softmax,
    matrix::{Matrix, Target},
    rotary::Turns,
};

/// Tokens whose scores are held at once, so that memory grows with the length of a text and not
/// with its square.
const QUERIES: usize = 128;

/// How the attended values are divided.
#[derive(Clone, Copy)]
pub(crate) struct CausalHeads {
    /// Query heads.
    pub(crate) queries: usize,
    /// Key and value heads, each for as many query heads as the next.
    pub(crate) keys: usize,
    /// Values of a head.
    pub(crate) width: usize,
}

impl CausalHeads {
    /// Values of a token's queries.
    pub(crate) fn query_values(self) -> usize {
        self.queries * self.width
    }

    /// Values of a token's keys, and as many of its values.
    pub(crate) fn key_values(self) -> usize {
        self.keys * self.width
    }

    /// Values of a token's queries, keys and values side by side.
    fn step(self) -> usize {
        self.query_values() + 2 * self.key_values()
    }
}

/// Writes the attended values of `x` [tokens, hidden] into `attended` [tokens, query values], text
/// by text: `lengths` are the tokens of each, `turns` reach the longest.
pub(crate) fn attend_causally(
    arch: Arch,
    (heads, turns): (CausalHeads, &Turns),
    lengths: &[usize],
    projected: &Dense,
    (x, attended): (&[f32], &mut [f32]),
) {
    let tokens = lengths.iter().sum::<usize>();
    let mut triples = vec![0.0; tokens * heads.step()];
    projected.apply(x, &mut triples);
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let mut scores = vec![0.0; longest * QUERIES.min(longest)];
    let (mut texts, mut outputs) = (triples.as_mut_slice(), attended);
    for length in lengths {
        let (text, later) = texts.split_at_mut(length * heads.step());
        let (output, rest) = outputs.split_at_mut(length * heads.query_values());
        turn(heads, turns, text);
        for head in 0..heads.queries {
            attend_head(arch, heads, head, (text, &mut scores, output));
        }
        (texts, outputs) = (later, rest);
    }
}

/// Turns queries and keys, which stand side by side, and leaves values as they are.
fn turn(heads: CausalHeads, turns: &Turns, text: &mut [f32]) {
    let turned = heads.query_values() + heads.key_values();
    for (position, token) in text.chunks_exact_mut(heads.step()).enumerate() {
        turns.apply(position, &mut token[..turned]);
    }
}

fn attend_head(
    arch: Arch,
    heads: CausalHeads,
    head: usize,
    (text, scores, output): (&[f32], &mut [f32], &mut [f32]),
) {
    let (width, step) = (heads.width, heads.step());
    let length = text.len() / step;
    let shared = head / (heads.queries / heads.keys) * width;
    let (keys, values) = (
        &text[heads.query_values() + shared..],
        &text[heads.query_values() + heads.key_values() + shared..],
    );
    let scale = 1.0 / (width as f32).sqrt();
    for start in (0..length).step_by(QUERIES) {
        let end = length.min(start + QUERIES);
        let (rows, seen) = (end - start, end);
        let scores = &mut scores[..rows * seen];
        let query = Matrix::new(&text[start * step + head * width..], [rows, width], step);
        let key = Matrix::new(keys, [seen, width], step);
        Target::new(scores, [rows, seen], seen).set(query, key.transposed(), scale);
        for (row, scores) in scores.chunks_exact_mut(seen).enumerate() {
            let (past, future) = scores.split_at_mut(start + row + 1);
            softmax(arch, past.len(), past);
            future.fill(0.0);
        }
        let scores = Matrix::new(scores, [rows, seen], seen);
        let value = Matrix::new(values, [seen, width], step);
        let place = start * heads.query_values() + head * width;
        let target = Target::new(&mut output[place..], [rows, width], heads.query_values());
        target.set(scores, value, 1.0);
    }
}
