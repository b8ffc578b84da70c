//! A language model with as many tokens as one that is used, made from `tiny-llama` and kept
//! nowhere.
//!
//! Each added row of its head is 0.8 of one row of the small head and 0.6 of another, drawn from a
//! fixed seed. So what it answers follows from the float64 scores that the small model's own
//! script computed, which share no code with the engine.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::{Value, json};

use super::{fixtures::TINY_LLAMA, safetensors::Tensors};

/// Tokens of BERT's vocabulary.
pub(crate) const VOCABULARY: usize = 30_522;

/// The model's name, and its folder's.
pub(crate) const NAME: &str = "wide-llama";

const SMALL: usize = 3_000;
const WIDTH: usize = 48;
const SHARES: (f32, f32) = (0.8, 0.6);

/// With this one the two highest scores of each text lie 0.07 apart or more, which is ten times
/// what 8 bits change.
const SEED: u64 = 10;

const FILES: [&str; 2] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];

/// SplitMix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// For each added token the two whose rows its own is made of.
fn parents() -> Vec<(usize, usize)> {
    let mut draws = Draws(SEED);
    let added = SMALL..VOCABULARY;
    added
        .map(|_| (draws.below(SMALL), draws.below(SMALL)))
        .collect()
}

/// Writes the model into the new folder `folder`: the head in one file, the rest in another.
pub(crate) fn write(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let small = TINY_LLAMA.folder();
    fs::copy(small.join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    let mut config: Value =
        serde_json::from_slice(&fs::read(small.join("config.json")).unwrap()).unwrap();
    config["vocab_size"] = json!(VOCABULARY);
    fs::write(folder.join("config.json"), config.to_string()).unwrap();

    let mut rest = Tensors::read(&small.join("model.safetensors"));
    for name in ["lm_head.weight", "model.embed_tokens.weight"] {
        let rows = rest.values(name).to_vec();
        let row = |at: usize| &rows[at * WIDTH..(at + 1) * WIDTH];
        let mixed = parents().into_iter().flat_map(|(one, other)| {
            let pairs = row(one).iter().zip(row(other));
            pairs.map(|(one, other)| SHARES.0 * one + SHARES.1 * other)
        });
        rest.extend_rows(name, mixed);
    }
    let head = rest.split_off("lm_head.weight");
    let mut places = serde_json::Map::new();
    for (file, tensors) in FILES.into_iter().zip([rest, head]) {
        tensors.write(&folder.join(file));
        places.extend(tensors.names().map(|name| (name.to_owned(), json!(file))));
    }
    let index = json!({ "metadata": {}, "weight_map": places });
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
}

/// Writes `rows.jsonl` and `test.jsonl` into `folder`: the texts of the small model, again and
/// again under other names until there are `count`, and the token that is expected next.
pub(crate) fn write_rows(count: usize, folder: &Path) {
    let small = fs::read_to_string(TINY_LLAMA.folder().join("test.jsonl")).unwrap();
    let parents = parents();
    let small: Vec<(String, String)> = small
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = row["text"].as_str().unwrap().to_owned();
            (text, next_token(&row, &parents))
        })
        .collect();
    let (mut rows, mut expected) = (String::new(), String::new());
    for (place, (text, label)) in (0..count).zip(small.iter().cycle()) {
        let custom_id = format!("text-{place}");
        let row = json!({ "custom_id": custom_id, "body": { "text": text } });
        let known = json!({ "custom_id": custom_id, "text": text, "expected_label": label });
        writeln!(rows, "{row}").unwrap();
        writeln!(expected, "{known}").unwrap();
    }
    fs::write(folder.join("rows.jsonl"), rows).unwrap();
    fs::write(folder.join("test.jsonl"), expected).unwrap();
}

/// The token of the highest score. No text of the small model has one of its own.
fn next_token(row: &Value, parents: &[(usize, usize)]) -> String {
    let small = row["expected_logits"].as_array().unwrap();
    let small: Vec<f64> = small.iter().map(|score| score.as_f64().unwrap()).collect();
    let shares = (f64::from(SHARES.0), f64::from(SHARES.1));
    let added = parents
        .iter()
        .map(|(one, other)| shares.0 * small[*one] + shares.1 * small[*other]);
    let all = small.iter().copied().chain(added);
    let best = all.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    let (best, _) = best.unwrap();
    assert!(best >= SMALL, "an added token is the answer");
    // A token without a name of its own is called by its number.
    format!("<{best}>")
}
