//! BERT encoders under Hugging Face's tensor names (Devlin et al. 2018, post-layer-norm).

use candle_core::{Device, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, Module, ops::softmax_last_dim};

use crate::{
    LoadError,
    config::{Activation, BertConfig, Pooling},
    mlp::{apply, linear},
    tensor_source::Tensors,
};

/// Added to the attention scores of padding: far below every real score, and finite, so that no
/// row of a softmax becomes NaN.
const MASKED: f32 = -1e9;

pub(crate) struct Bert {
    words: Embedding,
    positions: Tensor,
    /// Embedding of the first segment; there is no second one in classification of one text.
    segment: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    pooler: Option<Linear>,
    pad_token: u32,
    hidden: usize,
}

impl Bert {
    pub(crate) fn load(config: &BertConfig, tensors: &Tensors<'_>) -> Result<Self, LoadError> {
        let tensors = tensors.under("bert");
        let embeddings = tensors.under("embeddings");
        let hidden = config.hidden;
        let words = embeddings.take("word_embeddings.weight", &[config.vocabulary, hidden])?;
        let positions =
            embeddings.take("position_embeddings.weight", &[config.positions, hidden])?;
        let segments = embeddings.take("token_type_embeddings.weight", &[config.types, hidden])?;
        let layers = (0..config.layers)
            .map(|index| Layer::load(config, &tensors.under(&format!("encoder.layer.{index}"))))
            .collect::<Result<_, _>>()?;
        let pooler = match config.pooling {
            Pooling::Pooler => Some(linear(&tensors.under("pooler.dense"), hidden, hidden)?),
            Pooling::MeanL2 => None,
        };
        Ok(Self {
            words: Embedding::new(words, hidden),
            positions,
            segment: segments.get(0)?,
            norm: layer_norm(&embeddings.under("LayerNorm"), config)?,
            layers,
            pooler,
            pad_token: config.pad_token,
            hidden,
        })
    }

    pub(crate) fn width_out(&self) -> usize {
        self.hidden
    }

    /// Input of the head [rows, hidden] for token ids of rows that differ in length.
    pub(crate) fn forward(&self, rows: &[&[u32]]) -> candle_core::Result<Tensor> {
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or_default();
        let mut ids = Vec::with_capacity(rows.len() * longest);
        let mut mask = Vec::with_capacity(rows.len() * longest);
        for row in rows {
            let padding = longest - row.len();
            ids.extend(
                row.iter()
                    .copied()
                    .chain(std::iter::repeat_n(self.pad_token, padding)),
            );
            mask.extend(std::iter::repeat_n(1f32, row.len()));
            mask.extend(std::iter::repeat_n(0f32, padding));
        }
        let ids = Tensor::from_vec(ids, (rows.len(), longest), &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, (rows.len(), longest), &Device::Cpu)?;
        let hidden = self.hidden_states(&ids, &mask)?;
        match &self.pooler {
            Some(dense) => dense.forward(&hidden.narrow(1, 0, 1)?.squeeze(1)?)?.tanh(),
            None => mean_l2(&hidden, &mask),
        }
    }

    fn hidden_states(&self, ids: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
        let positions = self.positions.narrow(0, 0, ids.dim(1)?)?;
        let embedded = self.words.forward(ids)?.broadcast_add(&positions)?;
        let mut x = self.norm.forward(&embedded.broadcast_add(&self.segment)?)?;
        let bias = mask
            .affine(f64::from(-MASKED), f64::from(MASKED))?
            .unsqueeze(1)?
            .unsqueeze(1)?;
        for layer in &self.layers {
            x = layer.forward(&x, &bias)?;
        }
        Ok(x)
    }
}

/// Mean over the tokens that are not padding, scaled to length 1.
fn mean_l2(hidden: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
    let mask = mask.unsqueeze(2)?;
    let mean = hidden
        .broadcast_mul(&mask)?
        .sum(1)?
        .broadcast_div(&mask.sum(1)?)?;
    let length = mean.sqr()?.sum_keepdim(1)?.sqrt()?;
    mean.broadcast_div(&length)
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attended_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
    narrow_norm: LayerNorm,
    heads: usize,
    activation: Activation,
}

impl Layer {
    fn load(config: &BertConfig, tensors: &Tensors<'_>) -> Result<Self, LoadError> {
        let (hidden, wide) = (config.hidden, config.intermediate);
        let attention = tensors.under("attention");
        Ok(Self {
            query: linear(&attention.under("self.query"), hidden, hidden)?,
            key: linear(&attention.under("self.key"), hidden, hidden)?,
            value: linear(&attention.under("self.value"), hidden, hidden)?,
            attended: linear(&attention.under("output.dense"), hidden, hidden)?,
            attended_norm: layer_norm(&attention.under("output.LayerNorm"), config)?,
            widen: linear(&tensors.under("intermediate.dense"), hidden, wide)?,
            narrow: linear(&tensors.under("output.dense"), wide, hidden)?,
            narrow_norm: layer_norm(&tensors.under("output.LayerNorm"), config)?,
            heads: config.heads,
            activation: config.activation,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        let attended = self.attended.forward(&self.attention(x, bias)?)?;
        let x = self.attended_norm.forward(&(x + attended)?)?;
        let widened = apply(self.activation, &self.widen.forward(&x)?)?;
        let narrowed = self.narrow.forward(&widened)?;
        self.narrow_norm.forward(&(x + narrowed)?)
    }

    fn attention(&self, x: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        let (rows, tokens, hidden) = x.dims3()?;
        let width = hidden / self.heads;
        let by_head = |part: &Linear| -> candle_core::Result<Tensor> {
            let part = part
                .forward(x)?
                .reshape((rows, tokens, self.heads, width))?;
            part.transpose(1, 2)?.contiguous()
        };
        let (query, key, value) = (
            by_head(&self.query)?,
            by_head(&self.key)?,
            by_head(&self.value)?,
        );
        let scale = 1.0 / (width as f64).sqrt();
        let scores = (query.matmul(&key.t()?)? * scale)?.broadcast_add(bias)?;
        let mixed = softmax_last_dim(&scores)?.matmul(&value)?;
        mixed.transpose(1, 2)?.reshape((rows, tokens, hidden))
    }
}

fn layer_norm(tensors: &Tensors<'_>, config: &BertConfig) -> Result<LayerNorm, LoadError> {
    let weight = tensors.take("weight", &[config.hidden])?;
    let bias = tensors.take("bias", &[config.hidden])?;
    Ok(LayerNorm::new(weight, bias, config.epsilon))
}
