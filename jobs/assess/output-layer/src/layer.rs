//! The output layer that a `config.json` describes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{HeadLabels, LabelError, Labels, MAX_LABELS, TokensError, tokens::token_labels};

/// The one head of a classifier.
const CLASSIFIER: &str = "classifier";

/// The layer that several heads make.
const HEADS: &str = "heads";

/// The output layer of a language model.
const LANGUAGE_HEAD: &str = "lm_head";

/// The tensor of a language model's token embeddings, [vocabulary, width].
const EMBEDDINGS: &str = "model.embed_tokens.weight";

/// Architectures whose answers are tokens.
const LANGUAGE_MODELS: [&str; 1] = ["llama"];

/// A model's output layer: the layer whose outputs are the model's answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputLayer {
    /// Its name, which is also the name of the encrypted layer: `classifier`, `heads` where there
    /// are several, or `lm_head` of a language model.
    pub layer: String,
    /// Its heads; their rows, one after the other, are the rows of the layer.
    pub heads: Vec<Head>,
}

/// One head of an output layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its name among several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tensor of its weights, [labels, width] or a convolution of kernel size 1.
    pub weight: String,
    /// The tensor of its bias, [labels], where it has one; without it the bias is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<String>,
    /// Its labels, in the order of its rows.
    pub labels: Vec<String>,
}

/// Why a `config.json` describes no output layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON of a model's configuration.
    #[error("config.json is not the configuration of a model")]
    Json(#[source] serde_json::Error),
    /// Neither labels nor heads.
    #[error("config.json needs `id2label`, as a classifier's has, or `heads` with one each")]
    NoLabels,
    /// Both forms.
    #[error("config.json has `id2label` and `heads`; where it has heads, each has its `id2label`")]
    TwoForms,
    /// Label numbers that do not count from 0.
    #[error("`id2label` of config.json must number its labels 0, 1, 2 … without a gap")]
    Numbers,
    /// A language model without its tokenizer.
    #[error("the answers of a language model are its tokens, which tokenizer.json has to name")]
    NoTokenizer,
    /// A tokenizer that does not name them.
    #[error("tokenizer.json does not name the answers of the model")]
    Tokens(#[source] TokensError),
    /// Labels of a language model.
    #[error("config.json has labels or heads, but the answers of a language model are its tokens")]
    LabelledTokens,
    /// Labels or heads that name no answers.
    #[error("config.json names no usable answers")]
    Labels(#[source] LabelError),
}

/// What decides whether a model answers with tokens.
#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
}

#[derive(Deserialize)]
struct LanguageConfig {
    vocab_size: usize,
    #[serde(default)]
    tie_word_embeddings: bool,
    id2label: Option<serde::de::IgnoredAny>,
    heads: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    id2label: Option<BTreeMap<String, String>>,
    #[serde(default)]
    heads: Option<Vec<ConfigHead>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigHead {
    name: String,
    id2label: BTreeMap<String, String>,
}

impl OutputLayer {
    /// Reads `config.json`, and for a language model its tokens from `tokenizer.json`.
    ///
    /// The output layer of a language model is `lm_head`, or its token embeddings where the
    /// configuration ties both together.
    pub fn read(config: &[u8], tokenizer: Option<&[u8]>) -> Result<Self, ConfigError> {
        let kind: Kind = serde_json::from_slice(config).map_err(ConfigError::Json)?;
        match kind.model_type.as_deref() {
            Some(kind) if LANGUAGE_MODELS.contains(&kind) => {
                Self::of_language_model(config, tokenizer.ok_or(ConfigError::NoTokenizer)?)
            }
            _ => Self::from_config(config),
        }
    }

    fn of_language_model(config: &[u8], tokenizer: &[u8]) -> Result<Self, ConfigError> {
        let config: LanguageConfig = serde_json::from_slice(config).map_err(ConfigError::Json)?;
        if config.id2label.is_some() || config.heads.is_some() {
            return Err(ConfigError::LabelledTokens);
        }
        // Before as many names are made.
        if config.vocab_size > MAX_LABELS {
            return Err(ConfigError::Labels(LabelError::Count));
        }
        let labels = token_labels(tokenizer, config.vocab_size).map_err(ConfigError::Tokens)?;
        let mut head = Head::of(None, LANGUAGE_HEAD, labels);
        if config.tie_word_embeddings {
            (head.weight, head.bias) = (EMBEDDINGS.to_owned(), None);
        }
        let layer = Self {
            layer: LANGUAGE_HEAD.into(),
            heads: vec![head],
        };
        layer.labels().map_err(ConfigError::Labels)?;
        Ok(layer)
    }

    /// Whether the layer's weights are a language model's token embeddings, which whoever runs
    /// the model needs as they are.
    pub fn is_tied(&self) -> bool {
        self.holds(EMBEDDINGS)
    }

    /// Reads `config.json`: `id2label` for the one head `classifier`, or
    /// `"heads": [{"name": …, "id2label": …}, …]` for the heads `heads.<name>`. Each head is
    /// given a bias, which [`with_biases_that`](Self::with_biases_that) compares with the model.
    pub fn from_config(config: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = serde_json::from_slice(config).map_err(ConfigError::Json)?;
        let layer = match (config.id2label, config.heads) {
            (Some(id2label), None) => Self {
                layer: CLASSIFIER.into(),
                heads: vec![Head::of(None, CLASSIFIER, in_order(id2label)?)],
            },
            (None, Some(heads)) => Self {
                layer: HEADS.into(),
                heads: heads
                    .into_iter()
                    .map(Head::named)
                    .collect::<Result<_, _>>()?,
            },
            (None, None) => return Err(ConfigError::NoLabels),
            (Some(_), Some(_)) => return Err(ConfigError::TwoForms),
        };
        layer.labels().map_err(ConfigError::Labels)?;
        Ok(layer)
    }

    /// The labels of its outputs. A layer that was read from elsewhere than a configuration may
    /// have none that can be used.
    pub fn labels(&self) -> Result<Labels, LabelError> {
        match self.heads.as_slice() {
            [
                Head {
                    name: None, labels, ..
                },
            ] => Labels::one(labels.clone()),
            heads => {
                let named = heads.iter().map(|head| HeadLabels {
                    name: head.name.clone().unwrap_or_default(),
                    labels: head.labels.clone(),
                });
                Labels::heads(named.collect())
            }
        }
    }

    /// Names of its tensors, head by head.
    pub fn tensors(&self) -> impl Iterator<Item = &str> {
        self.heads
            .iter()
            .flat_map(|head| [Some(head.weight.as_str()), head.bias.as_deref()])
            .flatten()
    }

    /// Whether the tensor of this name is a weight or bias of the layer.
    pub fn holds(&self, tensor: &str) -> bool {
        self.tensors().any(|name| name == tensor)
    }

    /// The layer as a model has it: a bias that `exists` denies is a bias of zeros.
    #[must_use]
    pub fn with_biases_that(mut self, exists: impl Fn(&str) -> bool) -> Self {
        for head in &mut self.heads {
            head.bias = head.bias.take().filter(|bias| exists(bias));
        }
        self
    }
}

impl Head {
    fn of(name: Option<String>, module: &str, labels: Vec<String>) -> Self {
        Self {
            name,
            weight: format!("{module}.weight"),
            bias: Some(format!("{module}.bias")),
            labels,
        }
    }

    fn named(ConfigHead { name, id2label }: ConfigHead) -> Result<Self, ConfigError> {
        let module = format!("{HEADS}.{name}");
        Ok(Self::of(Some(name), &module, in_order(id2label)?))
    }
}

/// The labels in the order of their numbers, which count from 0.
fn in_order(mut by_id: BTreeMap<String, String>) -> Result<Vec<String>, ConfigError> {
    let labels = (0..by_id.len()).map(|id| by_id.remove(&id.to_string()));
    labels.collect::<Option<_>>().ok_or(ConfigError::Numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(config: &str) -> Result<OutputLayer, ConfigError> {
        OutputLayer::from_config(config.as_bytes())
    }

    #[test]
    fn labels_stand_in_the_order_of_their_numbers() {
        let layer = layer(
            r#"{"model_type":"mlp","id2label":{"10":"k","2":"c","0":"a","1":"b","3":"d",
            "4":"e","5":"f","6":"g","7":"h","8":"i","9":"j"}}"#,
        )
        .unwrap();
        assert_eq!(layer.heads[0].labels.concat(), "abcdefghijk");
        assert_eq!(layer.layer, "classifier");
        assert!(layer.holds("classifier.weight") && layer.holds("classifier.bias"));
        assert!(!layer.holds("layers.0.weight"));
    }

    #[test]
    fn labels_that_do_not_count_from_zero_are_refused() {
        for labels in [
            r#"{"1":"a"}"#,
            r#"{"0":"a","2":"b"}"#,
            r#"{"zero":"a"}"#,
            r#"{"0":"a","00":"b"}"#,
        ] {
            let refused = layer(&format!(r#"{{"id2label":{labels}}}"#));
            assert!(matches!(refused, Err(ConfigError::Numbers)), "{labels}");
        }
    }

    #[test]
    fn several_heads_are_one_layer_in_their_order() {
        let layer = layer(
            r#"{"heads":[{"name":"topic","id2label":{"0":"a","1":"b","2":"c"}},
                {"name":"mood","id2label":{"0":"d","1":"e"}}]}"#,
        )
        .unwrap();
        assert_eq!(layer.layer, "heads");
        assert_eq!(layer.heads[0].weight, "heads.topic.weight");
        assert_eq!(layer.heads[1].bias.as_deref(), Some("heads.mood.bias"));
        assert_eq!(layer.labels().unwrap().outputs(), 5);
    }

    #[test]
    fn a_bias_that_the_model_does_not_have_is_left_out() {
        let layer = layer(r#"{"id2label":{"0":"a"}}"#).unwrap();
        let with = layer
            .clone()
            .with_biases_that(|name| name == "classifier.bias");
        assert_eq!(with, layer);
        let without = layer.with_biases_that(|_| false);
        assert_eq!(without.heads[0].bias, None);
        assert!(!without.holds("classifier.bias"));
    }

    #[test]
    fn a_configuration_without_usable_answers_is_refused_with_the_reason() {
        let heads = |heads: &str| layer(&format!(r#"{{"heads":{heads}}}"#)).unwrap_err();
        assert!(matches!(layer("{}"), Err(ConfigError::NoLabels)));
        assert!(matches!(layer("{"), Err(ConfigError::Json(_))));
        let both = layer(r#"{"id2label":{"0":"a"},"heads":[]}"#);
        assert!(matches!(both, Err(ConfigError::TwoForms)));
        let empty = layer(r#"{"id2label":{}}"#);
        assert!(matches!(empty, Err(ConfigError::Labels(LabelError::Count))));
        assert!(matches!(
            heads("[]"),
            ConfigError::Labels(LabelError::Heads(0))
        ));
        let twice = r#"[{"name":"a","id2label":{"0":"x"}},{"name":"a","id2label":{"0":"x"}}]"#;
        assert!(matches!(
            heads(twice),
            ConfigError::Labels(LabelError::Repeated(_))
        ));
        let dotted = r#"[{"name":"a.b","id2label":{"0":"x"}}]"#;
        assert!(matches!(
            heads(dotted),
            ConfigError::Labels(LabelError::Name(_))
        ));
        assert!(matches!(heads(r#"[{"name":"a"}]"#), ConfigError::Json(_)));
    }

    fn language_model(members: &str, tokenizer: Option<&[u8]>) -> Result<OutputLayer, ConfigError> {
        let config = format!(r#"{{"model_type":"llama","vocab_size":2{members}}}"#);
        OutputLayer::read(config.as_bytes(), tokenizer)
    }

    const TOKENIZER: Option<&[u8]> = Some(br#"{"model":{"vocab":{"a":0,"b":1}}}"#);

    #[test]
    fn the_answers_of_a_language_model_are_its_tokens() {
        let layer = language_model("", TOKENIZER).unwrap();
        assert_eq!(layer.heads[0].labels, ["a", "b"]);
        assert_eq!(layer.heads[0].weight, "lm_head.weight");
        assert!(!layer.is_tied());
        let tied = language_model(r#","tie_word_embeddings":true"#, TOKENIZER).unwrap();
        assert!(tied.is_tied());
        assert_eq!(tied.tensors().collect::<Vec<_>>(), [EMBEDDINGS]);
    }

    #[test]
    fn a_language_model_without_tokens_or_with_labels_is_refused() {
        let missing = language_model("", None);
        assert!(matches!(missing, Err(ConfigError::NoTokenizer)));
        for member in [r#","id2label":{"0":"a"}"#, r#","heads":[]"#] {
            let refused = language_model(member, TOKENIZER);
            assert!(matches!(refused, Err(ConfigError::LabelledTokens)));
        }
        let config = br#"{"model_type":"llama","vocab_size":1000000000000}"#;
        let refused = OutputLayer::read(config, TOKENIZER);
        assert!(matches!(refused, Err(ConfigError::Labels(_))));
    }
}
