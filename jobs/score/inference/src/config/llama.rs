//! The settings of a Llama decoder.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{MAX_LAYERS, unsupported};
use crate::{LoadError, causal_attention::CausalHeads, text::TextLimits};

/// The architecture of these tensors and no other output layer.
const ARCHITECTURE: &str = "LlamaForCausalLM";

/// Hugging Face's value where `rope_theta` is not given.
const DEFAULT_THETA: f32 = 10_000.0;

#[derive(Deserialize)]
struct LlamaJson {
    architectures: Option<Vec<String>>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: String,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    rope_theta: Option<f32>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Map<String, Value>>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

pub(crate) struct LlamaConfig {
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: CausalHeads,
    pub(crate) intermediate: usize,
    pub(crate) epsilon: f32,
    pub(crate) theta: f32,
    max_tokens: usize,
}

impl LlamaConfig {
    pub(super) fn parse(json: &[u8]) -> Result<Self, LoadError> {
        let json: LlamaJson = serde_json::from_slice(json).map_err(LoadError::Config)?;
        check_supported(&json)?;
        let heads = heads(&json)?;
        if json.num_hidden_layers > MAX_LAYERS {
            return Err(LoadError::Contradiction(
                "num_hidden_layers is beyond any known model",
            ));
        }
        if json.max_position_embeddings == 0 {
            return Err(LoadError::Contradiction("the longest text has no tokens"));
        }
        let theta = theta(&json)?;
        Ok(Self {
            vocabulary: json.vocab_size,
            hidden: json.hidden_size,
            layers: json.num_hidden_layers,
            heads,
            intermediate: json.intermediate_size,
            epsilon: json.rms_norm_eps,
            theta,
            max_tokens: json.max_position_embeddings,
        })
    }
}

impl LlamaConfig {
    /// What follows a text is decided by its end.
    pub(crate) fn text(&self) -> TextLimits {
        TextLimits {
            vocabulary: self.vocabulary,
            max_tokens: self.max_tokens,
            keeps_end: true,
        }
    }
}

fn check_supported(json: &LlamaJson) -> Result<(), LoadError> {
    let architectures = json.architectures.as_deref().unwrap_or_default();
    if let Some(other) = architectures.iter().find(|name| *name != ARCHITECTURE) {
        return Err(unsupported("architectures", other, ARCHITECTURE));
    }
    if json.hidden_act != "silu" {
        return Err(unsupported("hidden_act", &json.hidden_act, "silu"));
    }
    if let Some(scaling) = &json.rope_scaling {
        return Err(unsupported("rope_scaling", scaling, "null"));
    }
    for (setting, is_set) in [
        ("attention_bias", json.attention_bias),
        ("mlp_bias", json.mlp_bias),
    ] {
        if is_set {
            return Err(unsupported(setting, &true, "false"));
        }
    }
    Ok(())
}

fn heads(json: &LlamaJson) -> Result<CausalHeads, LoadError> {
    let (hidden, queries) = (json.hidden_size, json.num_attention_heads);
    let keys = json.num_key_value_heads.unwrap_or(queries);
    if queries == 0 || keys == 0 || !queries.is_multiple_of(keys) {
        return Err(LoadError::Contradiction(
            "num_attention_heads is no multiple of num_key_value_heads",
        ));
    }
    let width = match json.head_dim {
        Some(width) => width,
        None if hidden.is_multiple_of(queries) => hidden / queries,
        None => {
            return Err(LoadError::Contradiction(
                "hidden_size is no multiple of the heads",
            ));
        }
    };
    if width == 0 || !width.is_multiple_of(2) {
        return Err(LoadError::Contradiction(
            "rotary positions need heads of an even width",
        ));
    }
    Ok(CausalHeads {
        queries,
        keys,
        width,
    })
}

/// The base of the rotary positions, in the form of transformers 4 or 5.
fn theta(json: &LlamaJson) -> Result<f32, LoadError> {
    let mut theta = json.rope_theta;
    for (member, value) in json.rope_parameters.iter().flatten() {
        match (member.as_str(), value) {
            ("rope_type", Value::String(kind)) if kind == "default" => {}
            ("rope_theta", Value::Number(base)) if theta.is_none() => {
                theta = base.as_f64().map(|base| base as f32);
            }
            _ => {
                let found = format!("{member}: {value}");
                let supported = "rope_type: default and rope_theta, which stands nowhere else";
                return Err(unsupported("rope_parameters", &found, supported));
            }
        }
    }
    let theta = theta.unwrap_or(DEFAULT_THETA);
    if theta.is_finite() && theta >= 1.0 {
        Ok(theta)
    } else {
        Err(unsupported("rope_theta", &theta, "1 or more"))
    }
}
