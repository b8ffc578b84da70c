//! Attention of each token to those before it and to itself, with fewer keys than queries
//! (grouped-query attention).

use pulp::Arch;

use crate::{
    attention::{Attention, Sight},
    dense::Dense,
    rotary::Turns,
    rows::{Rows, RowsMut},
};

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
    let mut attention = Attention::new(arch);
    let (mut texts, mut outputs) = (triples.as_mut_slice(), attended);
    for length in lengths {
        let (text, later) = texts.split_at_mut(length * heads.step());
        let (output, rest) = outputs.split_at_mut(length * heads.query_values());
        turn(heads, turns, text);
        for head in 0..heads.keys {
            attend_head(heads, head, &mut attention, (text, output));
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

/// What the queries of one key head take.
fn attend_head(
    heads: CausalHeads,
    head: usize,
    attention: &mut Attention,
    (text, output): (&[f32], &mut [f32]),
) {
    let (width, step) = (heads.width, heads.step());
    let size = [text.len() / step, width];
    let part = |place: usize| Rows::new(&text[place..], size, step);
    let keys = heads.query_values() + head * width;
    attention.read(part(keys), part(keys + heads.key_values()));
    let shared = heads.queries / heads.keys;
    for query in head * shared..(head + 1) * shared {
        let place = query * width;
        let target = RowsMut::new(&mut output[place..], size, heads.query_values());
        attention.answer(part(place), target, Sight::Past);
    }
}
