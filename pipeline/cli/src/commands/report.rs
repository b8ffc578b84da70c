//! `sealift report`: the facts of a finished run in one table and one JSON file.

use std::{collections::BTreeMap, fs, path::Path};

use sealift_store::RunReport;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::look;
use crate::{
    args::Report,
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    output::{Output, table},
};

/// What `sealift batch compare --json` printed.
#[derive(Deserialize)]
struct Compared {
    rows: u64,
    label_agreement: f64,
    #[serde(default)]
    head_agreement: BTreeMap<String, f64>,
    integer_reference_agreement: Option<f64>,
    max_logit_error: Option<f64>,
}

/// What `sealift receipts verify --json` printed.
#[derive(Deserialize)]
struct Verified {
    receipts_verified: u64,
    assurance: String,
}

/// The facts of a run, as other programs read them.
#[derive(Debug, Serialize)]
struct Summary {
    rows: u64,
    label_agreement: f64,
    /// Of each head, where heads have names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    head_agreement: BTreeMap<String, f64>,
    integer_reference_agreement: Option<f64>,
    max_logit_error: Option<f64>,
    tensors: Value,
    bytes: Value,
    seconds: BTreeMap<String, f64>,
    assurance: String,
    receipts_verified: u64,
}

pub(crate) async fn report(layout: &Layout, args: &Report, output: Output) -> Result<(), Failure> {
    let compared: Compared = read(&args.comparison, "sealift batch compare --json")?;
    let verified: Verified = read(&args.receipts, "sealift receipts verify --json")?;
    let reader = look::demanded_reader(layout).await?;
    let run = look::find_run(&reader, args.run.as_deref()).await?;
    let run = look::report(&reader, &run).await?;
    let summary = Summary {
        rows: compared.rows,
        label_agreement: compared.label_agreement,
        head_agreement: compared.head_agreement,
        integer_reference_agreement: compared.integer_reference_agreement,
        max_logit_error: compared.max_logit_error,
        tensors: sealed_fact(&run, "tensors")?,
        bytes: sealed_fact(&run, "bytes")?,
        seconds: seconds(&run),
        assurance: verified.assurance,
        receipts_verified: verified.receipts_verified,
    };
    let text = serde_json::to_string_pretty(&summary)
        .or_fail(ExitCode::Unexpected, "cannot write the summary as JSON")?;
    fs::write(&args.out, text + "\n").map_err(|source| Failure::unwritable(&args.out, source))?;
    output.document(&summary);
    output.line(table(&rows(&summary)).trim_end());
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path, made_by: &str) -> Result<T, Failure> {
    let bytes = fs::read(path).map_err(|source| Failure::unreadable(path, source))?;
    serde_json::from_slice(&bytes).or_fail(
        ExitCode::Input,
        format!("`{}` is not what `{made_by}` prints", path.display()),
    )
}

/// A member of what the run's `seal` job left.
fn sealed_fact(run: &RunReport, member: &str) -> Result<Value, Failure> {
    let seal = run.jobs.iter().find(|job| job.kind.starts_with("seal@"));
    let output = seal
        .and_then(|job| job.tasks.first())
        .and_then(|task| task.output.as_ref());
    output
        .and_then(|output| output.get(member))
        .cloned()
        .ok_or_else(|| {
            Failure::new(
                ExitCode::Input,
                format!("run {} sealed no model", run.summary.id),
            )
            .remedy("name a finished run of a pipeline with a `seal` job")
        })
}

fn seconds(run: &RunReport) -> BTreeMap<String, f64> {
    let took = |start: u64, end: u64| end.saturating_sub(start) as f64 / 1000.0;
    let jobs = run
        .jobs
        .iter()
        .filter_map(|job| Some((job.name.clone(), took(job.started_ms?, job.settled_ms?))));
    jobs.collect()
}

/// The facts as a person reads them.
fn rows(summary: &Summary) -> Vec<Vec<String>> {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let text = |name: &str, value: String| vec![name.to_owned(), value];
    let count =
        |value: &Value, name: &str| value.get(name).map_or_else(String::new, Value::to_string);
    let Summary { tensors, bytes, .. } = summary;
    let mut rows = vec![
        text("rows scored", summary.rows.to_string()),
        text(
            "agreement with expected labels",
            percent(summary.label_agreement),
        ),
    ];
    for (head, share) in &summary.head_agreement {
        rows.push(text(&format!("agreement of head {head}"), percent(*share)));
    }
    if let Some(share) = summary.integer_reference_agreement {
        rows.push(text("agreement with the integer reference", percent(share)));
    }
    if let Some(error) = summary.max_logit_error {
        rows.push(text("largest logit error", format!("{error:.6}")));
    }
    rows.push(text(
        "tensors plain | sealed | fhe",
        format!(
            "{} | {} | {}",
            count(tensors, "plain"),
            count(tensors, "sealed"),
            count(tensors, "fhe")
        ),
    ));
    rows.push(text(
        "bytes before and after",
        format!("{} -> {}", count(bytes, "plain"), count(bytes, "published")),
    ));
    for (job, seconds) in &summary.seconds {
        rows.push(text(&format!("seconds in {job}"), format!("{seconds:.2}")));
    }
    rows.push(text("assurance", summary.assurance.clone()));
    rows.push(text(
        "receipts verified",
        summary.receipts_verified.to_string(),
    ));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(compared: &str) -> Summary {
        let compared: Compared = serde_json::from_str(compared).unwrap();
        Summary {
            rows: compared.rows,
            label_agreement: compared.label_agreement,
            head_agreement: compared.head_agreement,
            integer_reference_agreement: compared.integer_reference_agreement,
            max_logit_error: compared.max_logit_error,
            tensors: Value::Null,
            bytes: Value::Null,
            seconds: BTreeMap::new(),
            assurance: "simulated".to_owned(),
            receipts_verified: 1,
        }
    }

    #[test]
    fn each_head_with_a_name_has_its_agreement_in_the_report() {
        let summary = summary(
            r#"{"rows":4,"label_agreement":0.75,"head_agreement":{"digit":0.5,"parity":1.0}}"#,
        );
        let printed = rows(&summary);
        assert_eq!(printed[2], ["agreement of head digit", "50.00 %"]);
        assert_eq!(printed[3], ["agreement of head parity", "100.00 %"]);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["head_agreement"]["digit"], 0.5);
    }

    #[test]
    fn a_model_that_is_one_head_has_no_agreement_by_head() {
        let summary = summary(r#"{"rows":4,"label_agreement":1.0}"#);
        assert!(!rows(&summary).concat().concat().contains("head"));
        let json = serde_json::to_value(&summary).unwrap();
        assert!(json.get("head_agreement").is_none());
    }
}
