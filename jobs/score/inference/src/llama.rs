//! Llama decoders under Hugging Face's tensor names (Touvron et al. 2023): pre-normalised, rotary
//! positions, grouped-query attention, a gated MLP.
//!
//! What comes out for a text is the normalised hidden state of its last token, which the output
//! layer turns into a score for each token that could be next.

use std::num::NonZeroUsize;

use pulp::Arch;

use crate::{
    LoadError,
    batches::in_batches,
    causal_attention::{CausalHeads, attend_causally},
    config::LlamaConfig,
    dense::Dense,
    elementwise::{gate, rms_norm},
    rotary::{Rotary, Turns},
    tensor_source::Tensors,
};

/// The tensor of the token embeddings, [vocabulary, hidden].
const EMBEDDINGS: &str = "model.embed_tokens.weight";

pub(crate) struct Llama {
    words: Vec<f32>,
    layers: Vec<Layer>,
    norm: Norm,
    rotary: Rotary,
    hidden: usize,
    arch: Arch,
}

impl Llama {
    pub(crate) fn load(config: &LlamaConfig, tensors: &Tensors<'_>) -> Result<Self, LoadError> {
        let words = tensors.take_values(EMBEDDINGS, &[config.vocabulary, config.hidden])?;
        let tensors = tensors.under("model");
        let layers = (0..config.layers)
            .map(|index| Layer::load(config, &tensors.under(&format!("layers.{index}"))))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            words,
            layers,
            norm: Norm::load(&tensors.under("norm"), config)?,
            rotary: Rotary::new(config.heads.width, config.theta),
            hidden: config.hidden,
            arch: Arch::new(),
        })
    }

    pub(crate) fn width_out(&self) -> usize {
        self.hidden
    }

    /// Input of the output layer [rows, hidden] for the token ids of each row, of which none is
    /// empty.
    pub(crate) fn forward(&self, rows: &[&[u32]], threads: NonZeroUsize) -> Vec<f32> {
        in_batches(rows, threads, |batch| self.forward_batch(batch))
    }

    fn forward_batch(&self, rows: &[&[u32]]) -> Vec<f32> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or_default();
        let turns = self.rotary.turns(longest);
        let mut x = self.embed(rows);
        for layer in &self.layers {
            layer.apply(self.arch, (&lengths, &turns), &mut x);
        }
        let last = self.last_tokens(&lengths, &x);
        self.norm.apply(self.arch, &last)
    }

    fn embed(&self, rows: &[&[u32]]) -> Vec<f32> {
        let words = rows.iter().flat_map(|row| row.iter());
        words
            .flat_map(|id| {
                let start = *id as usize * self.hidden;
                &self.words[start..start + self.hidden]
            })
            .copied()
            .collect()
    }

    fn last_tokens(&self, lengths: &[usize], x: &[f32]) -> Vec<f32> {
        let mut last = Vec::with_capacity(lengths.len() * self.hidden);
        let mut end = 0;
        for length in lengths {
            end += length * self.hidden;
            last.extend_from_slice(&x[end - self.hidden..end]);
        }
        last
    }
}

struct Layer {
    attention_norm: Norm,
    /// Query, key and value side by side.
    projected: Dense,
    attended: Dense,
    mlp_norm: Norm,
    /// Gate and up side by side.
    widen: Dense,
    narrow: Dense,
    heads: CausalHeads,
}

impl Layer {
    fn load(config: &LlamaConfig, tensors: &Tensors<'_>) -> Result<Self, LoadError> {
        let (hidden, wide, heads) = (config.hidden, config.intermediate, config.heads);
        let (attention, mlp) = (tensors.under("self_attn"), tensors.under("mlp"));
        let projections = [
            (attention.under("q_proj"), heads.query_values()),
            (attention.under("k_proj"), heads.key_values()),
            (attention.under("v_proj"), heads.key_values()),
        ];
        let gated = [(mlp.under("gate_proj"), wide), (mlp.under("up_proj"), wide)];
        let attended = [(attention.under("o_proj"), hidden)];
        Ok(Self {
            attention_norm: Norm::load(&tensors.under("input_layernorm"), config)?,
            projected: Dense::without_bias(&projections, hidden)?,
            attended: Dense::without_bias(&attended, heads.query_values())?,
            mlp_norm: Norm::load(&tensors.under("post_attention_layernorm"), config)?,
            widen: Dense::without_bias(&gated, hidden)?,
            narrow: Dense::without_bias(&[(mlp.under("down_proj"), hidden)], wide)?,
            heads,
        })
    }

    fn apply(&self, arch: Arch, (lengths, turns): (&[usize], &Turns), x: &mut [f32]) {
        let tokens = lengths.iter().sum::<usize>();
        let normed = self.attention_norm.apply(arch, x);
        let mut attended = vec![0.0; tokens * self.heads.query_values()];
        attend_causally(
            arch,
            (self.heads, turns),
            lengths,
            &self.projected,
            (&normed, &mut attended),
        );
        self.attended.apply_onto(&attended, x);
        let normed = self.mlp_norm.apply(arch, x);
        let mut wide = vec![0.0; tokens * self.widen.width_out()];
        self.widen.apply(&normed, &mut wide);
        let gated = gate(arch, self.widen.width_out() / 2, &wide);
        self.narrow.apply_onto(&gated, x);
    }
}

struct Norm {
    weight: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    fn load(tensors: &Tensors<'_>, config: &LlamaConfig) -> Result<Self, LoadError> {
        Ok(Self {
            weight: tensors.take_values("weight", &[config.hidden])?,
            epsilon: config.epsilon,
        })
    }

    fn apply(&self, arch: Arch, x: &[f32]) -> Vec<f32> {
        rms_norm(arch, &self.weight, self.epsilon, x)
    }
}
