//! `adapter_config.json`, as far as merging needs it.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::AdapterError;

/// Largest rank: that of the widest layer there is.
const MAX_RANK: u64 = 1 << 16;

/// Settings that say how an adapter was trained or found, and nothing about its product.
const WITHOUT_EFFECT: [&str; 17] = [
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
];

/// Ways to start a training that leave the base weights alone. Others subtract what the adapter
/// starts from, so that their base is not the model on disk.
const PLAIN_STARTS: [&str; 4] = ["eva", "gaussian", "orthogonal", "true"];

#[derive(Deserialize)]
struct Settings {
    peft_type: String,
    r: u64,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    init_lora_weights: Value,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A LoRA adapter's rank and scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Config {
    /// Rows of A and columns of B.
    pub(crate) rank: u64,
    /// What B·A is multiplied with.
    pub(crate) scale: f64,
}

impl Config {
    /// Reads `adapter_config.json`. A setting that is not known to be without effect must be off:
    /// a later PEFT may compute something else under it.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, AdapterError> {
        let settings: Settings =
            serde_json::from_slice(json).map_err(AdapterError::AdapterConfig)?;
        let setting = |text: String| Err(AdapterError::Setting(text));
        if settings.peft_type != "LORA" {
            return setting(format!("peft_type = {}", settings.peft_type));
        }
        if !plain_start(&settings.init_lora_weights) {
            return setting(format!(
                "init_lora_weights = {}",
                settings.init_lora_weights
            ));
        }
        if settings.r == 0 || settings.r > MAX_RANK || !settings.lora_alpha.is_finite() {
            return setting(format!(
                "r = {}, lora_alpha = {}",
                settings.r, settings.lora_alpha
            ));
        }
        let effective = |(name, value): &(&String, &Value)| {
            !WITHOUT_EFFECT.contains(&name.as_str()) && !is_off(name, value)
        };
        if let Some((name, value)) = settings.others.iter().find(effective) {
            return setting(format!("{name} = {value}"));
        }
        let rank = settings.r as f64;
        let divisor = if settings.use_rslora {
            rank.sqrt()
        } else {
            rank
        };
        Ok(Self {
            rank: settings.r,
            scale: settings.lora_alpha / divisor,
        })
    }
}

fn plain_start(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::String(text) => PLAIN_STARTS.contains(&text.as_str()),
        _ => false,
    }
}

fn is_off(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::String(text) => name == "bias" && text == "none",
        _ => false,
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
mod tests {
    use super::*;

    fn config(more: &str) -> Result<Config, AdapterError> {
        let json = format!(r#"{{"peft_type":"LORA","r":4,"lora_alpha":6{more}}}"#);
        Config::parse(json.as_bytes())
    }

    #[test]
    fn the_scale_is_alpha_over_the_rank_or_over_its_root() {
        assert_eq!(config("").unwrap().scale, 1.5);
        assert_eq!(config(r#","use_rslora":true"#).unwrap().scale, 3.0);
    }

    #[test]
    fn settings_that_change_the_product_are_refused_by_name() {
        for (name, value) in [
            ("use_dora", "true"),
            ("bias", r#""lora_only""#),
            ("fan_in_fan_out", "true"),
            ("rank_pattern", r#"{"classifier":8}"#),
            ("alpha_pattern", r#"{"classifier":8}"#),
            ("lora_bias", "true"),
            ("layer_replication", "[[0,1]]"),
            ("target_parameters", r#"["x"]"#),
            ("init_lora_weights", r#""pissa""#),
            ("a_setting_of_tomorrow", "1"),
        ] {
            let refused = config(&format!(r#","{name}":{value}"#)).unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
            assert!(
                refused.to_string().contains("merge_and_unload"),
                "{refused}"
            );
        }
    }

    #[test]
    fn other_adapters_and_ranks_that_are_none_are_refused() {
        for json in [
            r#"{"peft_type":"IA3","r":4,"lora_alpha":6}"#,
            r#"{"peft_type":"LORA","r":0,"lora_alpha":6}"#,
            r#"{"peft_type":"LORA","r":65537,"lora_alpha":6}"#,
        ] {
            let refused = Config::parse(json.as_bytes());
            assert!(matches!(refused, Err(AdapterError::Setting(_))), "{json}");
        }
        let refused = Config::parse(br#"{"peft_type":"LORA"}"#);
        assert!(matches!(refused, Err(AdapterError::AdapterConfig(_))));
    }
}
