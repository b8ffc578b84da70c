//! What the encrypted layers of a plan cost, asked of the owner's binary: only it opens plaintext
//! weights.

use std::{path::Path, time::Duration};

use sealift_definition::{
    Plan,
    plan::{Argument, PlannedJob},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    child::ask_unchecked,
    deployment::args,
    failure::Failure,
    output::{Output, table},
    siblings::Sibling,
};

/// The kind that decides how a head is protected.
const ASSESS: &str = "assess@1";

/// The cost of the layers that one job plans to encrypt homomorphically.
#[derive(Serialize)]
pub(crate) struct JobCost {
    job: String,
    #[serde(flatten)]
    cost: Cost,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Cost {
    Layers(Vec<LayerCost>),
    /// Why it is not known.
    Unknown(String),
}

/// One layer's cost, as the owner's binary prints it. Times are those of one thread.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(Clone))]
struct LayerCost {
    layer: String,
    set: String,
    d_in: u64,
    d_out: u64,
    published_bytes: u64,
    guest_bytes: u64,
    row_bytes: u64,
    security_bits: f64,
    seal_seconds: f64,
    guest_us_per_row: f64,
    key_manager_us_per_row: f64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heads: Vec<HeadShare>,
}

/// What one head takes of its layer, which is evaluated as a whole.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(Clone))]
struct HeadShare {
    head: String,
    outputs: u64,
    published_bytes: u64,
}

/// The cost of each job that encrypts a head.
pub(crate) fn of(plan: &Plan) -> Vec<JobCost> {
    plan.jobs.iter().filter_map(job_cost).collect()
}

fn job_cost(job: &PlannedJob) -> Option<JobCost> {
    let text = |name: &str| match job.with.get(name) {
        Some(Argument::Value(Value::String(text))) => Some(text),
        _ => None,
    };
    if job.kind != ASSESS || text("head").is_none_or(|head| head != "fhe") {
        return None;
    }
    let cost = match text("model") {
        Some(model) => match ask(Path::new(model)) {
            Ok(layers) => Cost::Layers(layers),
            // The innermost cause is what the owner's binary said.
            Err(failure) => Cost::Unknown(failure.innermost()),
        },
        None => Cost::Unknown("the model is made by a job of the run".to_owned()),
    };
    let job = job.name.clone();
    Some(JobCost { job, cost })
}

fn ask(model: &Path) -> Result<Vec<LayerCost>, Failure> {
    let mut all = vec!["cost".into()];
    all.extend(args([("--model", model.into())]));
    ask_unchecked(&Sibling::Owner.path()?, Sibling::Owner.name(), all)
}

/// Prints costs for people.
pub(crate) fn print(costs: &[JobCost], output: Output) {
    for JobCost { job, cost } in costs {
        match cost {
            Cost::Unknown(reason) => {
                output.line(format!(
                    "the cost of encrypting in `{job}` is unknown: {reason}\n"
                ));
            }
            Cost::Layers(layers) => {
                output.line(format!(
                    "encrypted layers of `{job}`; times are for one thread on this machine"
                ));
                output.line(table(&rows(layers)));
            }
        }
    }
}

fn rows(layers: &[LayerCost]) -> Vec<Vec<String>> {
    let titles = [
        "layer",
        "inputs",
        "outputs",
        "published",
        "guest RAM",
        "per row",
        "security",
        "sealing",
        "guest/row",
        "key manager/row",
    ];
    let mut rows = vec![titles.iter().map(ToString::to_string).collect::<Vec<_>>()];
    for layer in layers {
        rows.push(layer_row(layer));
        rows.extend(
            layer
                .heads
                .iter()
                .map(|head| head_row(layer, head, titles.len())),
        );
    }
    for row in &mut rows {
        row[0].insert_str(0, "  ");
    }
    rows
}

fn layer_row(layer: &LayerCost) -> Vec<String> {
    vec![
        layer.layer.clone(),
        layer.d_in.to_string(),
        layer.d_out.to_string(),
        bytes(layer.published_bytes),
        bytes(layer.guest_bytes),
        bytes(layer.row_bytes),
        format!("{:.0} bits", layer.security_bits),
        seconds(layer.seal_seconds),
        seconds(layer.guest_us_per_row / 1e6),
        seconds(layer.key_manager_us_per_row / 1e6),
    ]
}

/// What is a head's own; the rest it has in common with the others.
fn head_row(layer: &LayerCost, head: &HeadShare, columns: usize) -> Vec<String> {
    let mut row = vec![
        format!("  {}", head.head),
        layer.d_in.to_string(),
        head.outputs.to_string(),
        bytes(head.published_bytes),
    ];
    row.resize(columns, String::new());
    row
}

fn bytes(count: u64) -> String {
    const KIB: f64 = 1024.0;
    let count = count as f64;
    if count < KIB {
        format!("{count} B")
    } else if count < KIB * KIB {
        format!("{:.1} KiB", count / KIB)
    } else {
        format!("{:.1} MiB", count / KIB / KIB)
    }
}

/// As `12.3ms`; nothing for what no duration can be.
fn seconds(value: f64) -> String {
    Duration::try_from_secs_f64(value).map_or_else(|_| "-".to_owned(), |time| format!("{time:.1?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_with_their_units() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(58_602_240), "55.9 MiB");
        assert_eq!(seconds(0.000_123_4), "123.4µs");
        assert_eq!(seconds(-1.0), "-");
    }

    #[test]
    fn a_cost_is_one_row_of_a_table_and_unknown_ones_say_why() {
        let layer = LayerCost {
            layer: "classifier".to_owned(),
            set: "P48B40".to_owned(),
            d_in: 384,
            d_out: 2,
            published_bytes: 3_840,
            guest_bytes: 30_720,
            row_bytes: 400,
            security_bits: 132.0,
            seal_seconds: 0.05,
            guest_us_per_row: 1.5,
            key_manager_us_per_row: 2.0,
            heads: vec![],
        };
        let printed = rows(std::slice::from_ref(&layer));
        assert_eq!(printed.len(), 2);
        assert_eq!(printed[1][3], "3.8 KiB");
        let known = Cost::Layers(vec![layer]);
        let unknown = Cost::Unknown("no model".to_owned());
        let json = |cost| {
            let job = "assess".to_owned();
            serde_json::to_value(JobCost { job, cost }).unwrap()
        };
        assert_eq!(json(known)["layers"][0]["set"], "P48B40");
        assert_eq!(json(unknown)["unknown"], "no model");
    }

    #[test]
    fn each_encrypted_head_has_a_line_below_its_layer() {
        let text = r#"{"layer":"heads","set":"P48B40","d_in":32,"d_out":12,
            "published_bytes":1920,"guest_bytes":2560,"row_bytes":128,"security_bits":132.0,
            "seal_seconds":0.05,"guest_us_per_row":1.5,"key_manager_us_per_row":2.0,
            "heads":[{"head":"digit","outputs":10,"published_bytes":1600},
                {"head":"parity","outputs":2,"published_bytes":320}]}"#;
        let layer: LayerCost = serde_json::from_str(text).unwrap();
        let printed = rows(&[layer]);
        assert_eq!(printed.len(), 4);
        assert_eq!(printed[2][..4], ["    digit", "32", "10", "1.6 KiB"]);
        assert_eq!(printed[3][..4], ["    parity", "32", "2", "320 B"]);
        assert!(printed.iter().all(|row| row.len() == printed[0].len()));
    }
}
