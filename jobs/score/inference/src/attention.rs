//! Attention of each text's tokens to one another.

use pulp::Arch;

use crate::{
    dense::Dense,
    elementwise::softmax,
    matrix::{Matrix, Target},
};

/// How the hidden values are divided.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) count: usize,
    pub(crate) hidden: usize,
}

/// Writes the attended values of `x` [tokens, hidden] into `attended`, text by text: `lengths` are
/// the tokens of each. Nothing is padded, so that no text costs or changes another.
pub(crate) fn attend(
    arch: Arch,
    heads: Heads,
    lengths: &[usize],
    projected: &Dense,
    (x, attended): (&[f32], &mut [f32]),
) {
    let hidden = heads.hidden;
    let mut triples = vec![0.0; x.len() * 3];
    projected.apply(x, &mut triples);
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let mut scores = vec![0.0; longest * longest];
    let mut start = 0;
    for length in lengths {
        let end = start + length;
        let text = &triples[start * 3 * hidden..end * 3 * hidden];
        let out = &mut attended[start * hidden..end * hidden];
        for head in 0..heads.count {
            attend_head(
                arch,
                heads,
                head,
                (text, &mut scores[..length * length], out),
            );
        }
        start = end;
    }
}

fn attend_head(
    arch: Arch,
    heads: Heads,
    head: usize,
    (text, scores, out): (&[f32], &mut [f32], &mut [f32]),
) {
    let hidden = heads.hidden;
    let (width, step) = (hidden / heads.count, 3 * hidden);
    let length = text.len() / step;
    let part =
        |part: usize| Matrix::new(&text[part * hidden + head * width..], [length, width], step);
    let (query, key, value) = (part(0), part(1), part(2));
    let scale = 1.0 / (width as f32).sqrt();
    Target::new(scores, [length, length], length).set(query, key.transposed(), scale);
    softmax(arch, length, scores);
    let scores = Matrix::new(scores, [length, length], length);
    Target::new(&mut out[head * width..], [length, width], hidden).set(scores, value, 1.0);
}
