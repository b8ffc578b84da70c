//! BERT encoders under Hugging Face's tensor names (Devlin et al. 2018, post-layer-norm).
//!
//! The texts of a batch stand one after the other without padding: all layers but attention work
//! on single tokens, and attention goes text by text.

use std::num::NonZeroUsize;

use pulp::Arch;

use crate::{
    LoadError,
    attention::{Heads, attend},
    batches::in_batches,
    config::{Activation, BertConfig, Pooling},
    dense::Dense,
    elementwise::layer_norm,
    tensor_source::Tensors,
};

pub(crate) struct Bert {
    words: Vec<f32>,
    /// Embedding of each place in the text and of the first segment; there is no second one in
    /// classification of one text.
    places: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    pooler: Option<Dense>,
    hidden: usize,
    arch: Arch,
}

impl Bert {
    pub(crate) fn load(config: &BertConfig, tensors: &Tensors<'_>) -> Result<Self, LoadError> {
        let tensors = tensors.under("bert");
        let embeddings = tensors.under("embeddings");
        let hidden = config.hidden;
        let words =
            embeddings.take_values("word_embeddings.weight", &[config.vocabulary, hidden])?;
        let mut places =
            embeddings.take_values("position_embeddings.weight", &[config.positions, hidden])?;
        let segments =
            embeddings.take_values("token_type_embeddings.weight", &[config.types, hidden])?;
        for place in places.chunks_exact_mut(hidden) {
            for (value, segment) in place.iter_mut().zip(&segments) {
                *value += segment;
            }
        }
        let layers = (0..config.layers)
            .map(|index| Layer::load(config, &tensors.under(&format!("encoder.layer.{index}"))))
            .collect::<Result<_, _>>()?;
        let pooler = match config.pooling {
            Pooling::Pooler => Some(Dense::load(
                &[tensors.under("pooler.dense")],
                hidden,
                hidden,
            )?),
            Pooling::MeanL2 => None,
        };
        Ok(Self {
            words,
            places,
            norm: Norm::load(&embeddings.under("LayerNorm"), config)?,
            layers,
            pooler,
            hidden,
            arch: Arch::new(),
        })
    }

    pub(crate) fn width_out(&self) -> usize {
        self.hidden
    }

    /// Input of the head [rows, hidden] for the token ids of each row, of which none is empty.
    pub(crate) fn forward(&self, rows: &[&[u32]], threads: NonZeroUsize) -> Vec<f32> {
        in_batches(rows, threads, |batch| self.forward_batch(batch))
    }

    fn forward_batch(&self, rows: &[&[u32]]) -> Vec<f32> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        let mut x = self.embed(rows);
        self.norm.apply(self.arch, &mut x);
        let mut room = Room::default();
        for layer in &self.layers {
            layer.apply(self.arch, &mut room, &lengths, &mut x);
        }
        match &self.pooler {
            Some(dense) => first_token(dense, &lengths, &x),
            None => mean_l2(self.hidden, &lengths, &x),
        }
    }

    fn embed(&self, rows: &[&[u32]]) -> Vec<f32> {
        let tokens = rows.iter().map(|row| row.len()).sum::<usize>();
        let mut x = Vec::with_capacity(tokens * self.hidden);
        for row in rows {
            for (id, place) in row.iter().zip(self.places.chunks_exact(self.hidden)) {
                let start = *id as usize * self.hidden;
                let word = &self.words[start..start + self.hidden];
                x.extend(word.iter().zip(place).map(|(word, place)| word + place));
            }
        }
        x
    }
}

/// Hugging Face's pooler: tanh of a dense layer on the first token of each text.
fn first_token(dense: &Dense, lengths: &[usize], x: &[f32]) -> Vec<f32> {
    let hidden = dense.width_out();
    let mut first = Vec::with_capacity(lengths.len() * hidden);
    let mut start = 0;
    for length in lengths {
        first.extend_from_slice(&x[start * hidden..(start + 1) * hidden]);
        start += length;
    }
    let mut pooled = vec![0.0; first.len()];
    dense.apply(&first, &mut pooled);
    for value in &mut pooled {
        *value = value.tanh();
    }
    pooled
}

/// Mean over the tokens of each text, scaled to length 1.
fn mean_l2(hidden: usize, lengths: &[usize], x: &[f32]) -> Vec<f32> {
    let mut means = vec![0.0; lengths.len() * hidden];
    let mut tokens = x.chunks_exact(hidden);
    for (mean, length) in means.chunks_exact_mut(hidden).zip(lengths) {
        for token in tokens.by_ref().take(*length) {
            for (sum, value) in mean.iter_mut().zip(token) {
                *sum += value;
            }
        }
        // Scaling to length 1 makes dividing by the number of tokens unnecessary.
        let norm = mean.iter().map(|sum| sum * sum).sum::<f32>().sqrt();
        for sum in mean {
            *sum /= norm;
        }
    }
    means
}

struct Layer {
    /// Query, key and value side by side.
    projected: Dense,
    attended: Dense,
    attended_norm: Norm,
    widen: Dense,
    narrow: Dense,
    narrow_norm: Norm,
    heads: Heads,
    activation: Activation,
}

impl Layer {
    fn load(config: &BertConfig, tensors: &Tensors<'_>) -> Result<Self, LoadError> {
        let (hidden, wide) = (config.hidden, config.intermediate);
        let attention = tensors.under("attention");
        let projections =
            ["self.query", "self.key", "self.value"].map(|name| attention.under(name));
        let dense = |tensors: Tensors<'_>, width_in, width_out| {
            Dense::load(&[tensors], width_in, width_out)
        };
        Ok(Self {
            projected: Dense::load(&projections, hidden, hidden)?,
            attended: dense(attention.under("output.dense"), hidden, hidden)?,
            attended_norm: Norm::load(&attention.under("output.LayerNorm"), config)?,
            widen: dense(tensors.under("intermediate.dense"), hidden, wide)?,
            narrow: dense(tensors.under("output.dense"), wide, hidden)?,
            narrow_norm: Norm::load(&tensors.under("output.LayerNorm"), config)?,
            heads: Heads {
                count: config.heads,
                hidden,
            },
            activation: config.activation,
        })
    }

    fn apply(&self, arch: Arch, room: &mut Room, lengths: &[usize], x: &mut [f32]) {
        let wide = x.len() / self.heads.hidden * self.widen.width_out();
        room.wide.resize(wide.max(3 * x.len()), 0.0);
        room.attended.resize(x.len(), 0.0);
        let (triples, attended) = (&mut room.wide[..3 * x.len()], &mut room.attended);
        self.projected.apply(x, triples);
        attend(arch, self.heads, lengths, (triples, attended));
        self.attended.apply_onto(attended, x);
        self.attended_norm.apply(arch, x);
        let wide = &mut room.wide[..wide];
        self.widen.apply_activated(self.activation, x, wide);
        self.narrow.apply_onto(wide, x);
        self.narrow_norm.apply(arch, x);
    }
}

/// What a layer writes on its way, used again by the next.
#[derive(Default)]
struct Room {
    /// Queries, keys and values, and later the widened values.
    wide: Vec<f32>,
    attended: Vec<f32>,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    fn load(tensors: &Tensors<'_>, config: &BertConfig) -> Result<Self, LoadError> {
        Ok(Self {
            weight: tensors.take_values("weight", &[config.hidden])?,
            bias: tensors.take_values("bias", &[config.hidden])?,
            epsilon: config.epsilon as f32,
        })
    }

    fn apply(&self, arch: Arch, x: &mut [f32]) {
        layer_norm(arch, &self.weight, &self.bias, self.epsilon, x);
    }
}
