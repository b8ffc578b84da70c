//! The parts of a Hugging Face `config.json` that decide what is computed.

mod llama;

use sealift_output_layer::OutputLayer;
use serde::Deserialize;

use crate::{LoadError, text::TextLimits};

pub(crate) use llama::LlamaConfig;

/// Most layers of a model: the largest published encoders have fewer than a hundred.
const MAX_LAYERS: usize = 1024;

/// Other members are what training and other tools use, so they are ignored.
#[derive(Deserialize)]
struct Kind {
    model_type: String,
}

/// What a configuration describes.
pub(crate) struct Config {
    pub(crate) output: OutputLayer,
    pub(crate) family: Family,
}

pub(crate) enum Family {
    Bert(BertConfig),
    Llama(LlamaConfig),
    Mlp(MlpConfig),
}

impl Config {
    pub(crate) fn parse(json: &[u8], tokenizer: Option<&[u8]>) -> Result<Self, LoadError> {
        let kind: Kind = serde_json::from_slice(json).map_err(LoadError::Config)?;
        let family = match kind.model_type.as_str() {
            "bert" => Family::Bert(BertConfig::parse(json)?),
            "llama" => Family::Llama(LlamaConfig::parse(json)?),
            "mlp" => Family::Mlp(MlpConfig::parse(json)?),
            found => {
                return Err(unsupported("model_type", found, "bert, llama, mlp"));
            }
        };
        if matches!(family, Family::Llama(_)) && tokenizer.is_none() {
            return Err(LoadError::NoTokenizer);
        }
        let output = OutputLayer::read(json, tokenizer).map_err(LoadError::Answers)?;
        Ok(Self { output, family })
    }
}

fn unsupported<T: ToString + ?Sized>(
    setting: &'static str,
    found: &T,
    supported: &'static str,
) -> LoadError {
    LoadError::Unsupported {
        setting,
        found: found.to_string(),
        supported,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Gelu,
    Relu,
}

impl Activation {
    fn parse(name: &str) -> Result<Self, LoadError> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "relu" => Ok(Self::Relu),
            found => Err(unsupported("hidden_act", found, "gelu, relu")),
        }
    }
}

/// What the classifier sees of the last hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Hugging Face's pooler: tanh of a dense layer on the first token.
    Pooler,
    /// Mean over the tokens, scaled to length 1: sentence encoders.
    MeanL2,
}

#[derive(Deserialize)]
struct BertJson {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    hidden_act: String,
    #[serde(default)]
    pad_token_id: u32,
    position_embedding_type: Option<String>,
    classifier_pooling: Option<String>,
    max_seq_length: Option<usize>,
}

pub(crate) struct BertConfig {
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    pub(crate) positions: usize,
    pub(crate) types: usize,
    pub(crate) epsilon: f64,
    pub(crate) activation: Activation,
    pub(crate) pooling: Pooling,
    /// Longer texts are cut to this many tokens, as in training.
    pub(crate) max_tokens: usize,
}

impl BertConfig {
    fn parse(json: &[u8]) -> Result<Self, LoadError> {
        let json: BertJson = serde_json::from_slice(json).map_err(LoadError::Config)?;
        if json.num_attention_heads == 0
            || !json.hidden_size.is_multiple_of(json.num_attention_heads)
        {
            return Err(LoadError::Contradiction(
                "hidden_size is no multiple of the heads",
            ));
        }
        if json.num_hidden_layers > MAX_LAYERS {
            return Err(LoadError::Contradiction(
                "num_hidden_layers is beyond any known model",
            ));
        }
        if json.pad_token_id as usize >= json.vocab_size {
            return Err(LoadError::Contradiction(
                "pad_token_id is outside the vocabulary",
            ));
        }
        check_positions(json.position_embedding_type.as_deref())?;
        let most = json.max_position_embeddings;
        let max_tokens = json.max_seq_length.unwrap_or(most).min(most);
        // The first and the last token are markers.
        if max_tokens < 2 {
            return Err(LoadError::Contradiction("the longest text has no tokens"));
        }
        Ok(Self {
            vocabulary: json.vocab_size,
            hidden: json.hidden_size,
            layers: json.num_hidden_layers,
            heads: json.num_attention_heads,
            intermediate: json.intermediate_size,
            positions: most,
            types: json.type_vocab_size,
            epsilon: json.layer_norm_eps,
            activation: Activation::parse(&json.hidden_act)?,
            pooling: Pooling::parse(json.classifier_pooling.as_deref())?,
            max_tokens,
        })
    }
}

impl BertConfig {
    /// Of longer texts the first tokens are read, as in training.
    pub(crate) fn text(&self) -> TextLimits {
        TextLimits {
            vocabulary: self.vocabulary,
            max_tokens: self.max_tokens,
            keeps_end: false,
        }
    }
}

fn check_positions(kind: Option<&str>) -> Result<(), LoadError> {
    match kind {
        None | Some("absolute") => Ok(()),
        Some(found) => Err(unsupported("position_embedding_type", found, "absolute")),
    }
}

impl Pooling {
    fn parse(name: Option<&str>) -> Result<Self, LoadError> {
        match name {
            None => Ok(Self::Pooler),
            Some("mean_l2") => Ok(Self::MeanL2),
            Some(found) => Err(unsupported(
                "classifier_pooling",
                found,
                "mean_l2, or no such member",
            )),
        }
    }
}

#[derive(Deserialize)]
struct MlpJson {
    layer_sizes: Vec<usize>,
    hidden_act: String,
}

pub(crate) struct MlpConfig {
    /// Width of the features, then of each hidden layer.
    pub(crate) widths: Vec<usize>,
    pub(crate) activation: Activation,
}

impl MlpConfig {
    /// `layer_sizes` ends with the number of labels, which the head has.
    fn parse(json: &[u8]) -> Result<Self, LoadError> {
        let MlpJson {
            mut layer_sizes,
            hidden_act,
        } = serde_json::from_slice(json).map_err(LoadError::Config)?;
        let labels = layer_sizes.pop();
        if layer_sizes.is_empty() || layer_sizes.len() > MAX_LAYERS || labels.is_none() {
            return Err(LoadError::Contradiction(
                "layer_sizes has no input or no output",
            ));
        }
        if layer_sizes.contains(&0) {
            return Err(LoadError::Contradiction(
                "layer_sizes has a layer without neurons",
            ));
        }
        Ok(Self {
            widths: layer_sizes,
            activation: Activation::parse(&hidden_act)?,
        })
    }
}
