//! `sealift validate` and `sealift plan`: what a definition says, before anything runs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use sealift_definition::{
    Definition, Diagnostics, Folders, Given, Kinds, Plan, Resolved,
    plan::{Argument, PlannedJob},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    commands::plan_cost,
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    output::{Output, table},
};

/// What the workers of this release host, as they print it.
pub(crate) const KIND_FILES: [&str; 2] = [
    include_str!("../../../../definitions/schema/owner.json"),
    include_str!("../../../../definitions/schema/operator.json"),
];

/// Checks a definition as a whole.
pub(crate) fn validate(file: &Path, output: Output) -> Result<(), Failure> {
    let resolved = resolve(file, output)?;
    output.document(&json!({
        "valid": true,
        "name": resolved.name(),
        "sha256": resolved.sha256(),
        "warnings": resolved.warnings(),
    }));
    if !resolved.warnings().is_empty() {
        output.note(resolved.warnings().to_string());
    }
    output.line(format!(
        "{}: definition `{}` is valid",
        file.display(),
        resolved.name()
    ));
    Ok(())
}

/// Shows what a run would do; nothing is written.
pub(crate) fn plan(file: &Path, inputs: &[String], output: Output) -> Result<(), Failure> {
    let plan = planned(file, inputs, output)?;
    let costs = plan_cost::of(&plan);
    output.document(&Priced {
        plan: &plan,
        encrypted_layers: &costs,
    });
    output.line(format!(
        "{} (definition {})",
        plan.definition,
        &plan.definition_sha256[..12]
    ));
    output.line("\ninputs");
    let inputs = plan
        .inputs
        .iter()
        .map(|(name, value)| vec![format!("  {name}"), text(value)]);
    output.line(table(&inputs.collect::<Vec<_>>()));
    output.line("jobs, in an order that respects their needs");
    let ordered = plan
        .topological_order()
        .or_fail(ExitCode::Unexpected, "a checked definition has no order")?;
    let is_finally = |job: &PlannedJob| plan.finally.iter().any(|other| other.name == job.name);
    let rows: Vec<_> = ordered
        .into_iter()
        .map(|job| job_row(job, is_finally(job)))
        .collect();
    output.line(table(&rows));
    plan_cost::print(&costs, output);
    output.line("Nothing was run and nothing was written.");
    Ok(())
}

/// A plan with what its encrypted layers cost, as programs read it.
#[derive(Serialize)]
struct Priced<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    #[serde(rename = "encrypted-layers", skip_serializing_if = "<[_]>::is_empty")]
    encrypted_layers: &'a [plan_cost::JobCost],
}

/// Checks a definition against the kinds of this release.
pub(crate) fn resolve(file: &Path, output: Output) -> Result<Resolved, Failure> {
    let bytes = fs::read(file).map_err(|source| Failure::unreadable(file, source))?;
    let kinds = kinds()?;
    Definition::check(&file.display().to_string(), &bytes, &kinds)
        .map_err(|diagnostics| mistakes(file, &diagnostics, output))
}

/// A definition with its inputs.
pub(crate) fn planned(file: &Path, inputs: &[String], output: Output) -> Result<Plan, Failure> {
    let resolved = resolve(file, output)?;
    let given = given_inputs(inputs)?;
    let here =
        std::env::current_dir().or_fail(ExitCode::Environment, "cannot find the working folder")?;
    let definition = absolute_folder(file, &here);
    resolved
        .plan(
            given,
            Folders {
                definition: &definition,
                given: &here,
            },
        )
        .map_err(|diagnostics| mistakes(file, &diagnostics, output))
}

fn kinds() -> Result<Kinds, Failure> {
    let mut all = Vec::new();
    for text in KIND_FILES {
        let kinds: Vec<serde_json::Value> = serde_json::from_str(text)
            .or_fail(ExitCode::Unexpected, "the committed schemas are not JSON")?;
        all.extend(kinds);
    }
    let bytes = serde_json::to_vec(&all)
        .or_fail(ExitCode::Unexpected, "the committed schemas are not JSON")?;
    Kinds::from_json(&bytes).or_fail(ExitCode::Unexpected, "the committed schemas are no kinds")
}

fn absolute_folder(file: &Path, here: &Path) -> PathBuf {
    let parent = file.parent().unwrap_or_else(|| Path::new(""));
    here.join(parent)
}

fn given_inputs(inputs: &[String]) -> Result<BTreeMap<String, Given>, Failure> {
    let split = |text: &String| {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Failure::new(ExitCode::Usage, format!("--input {text} is not NAME=VALUE"))
                .remedy("write --input batch=reviews.batch")
        })?;
        Ok((name.to_owned(), Given::from(value)))
    };
    inputs.iter().map(split).collect()
}

fn mistakes(file: &Path, diagnostics: &Diagnostics, output: Output) -> Failure {
    output.document(&json!({ "valid": false, "mistakes": diagnostics }));
    output.note(diagnostics.to_string());
    let count = diagnostics.len() + diagnostics.omitted();
    let noun = if count == 1 { "mistake" } else { "mistakes" };
    Failure::new(
        ExitCode::Definition,
        format!("{} has {count} {noun}", file.display()),
    )
    .remedy("nothing was run; mend them and try again")
}

fn job_row(job: &PlannedJob, finally: bool) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(for_each) = &job.for_each {
        let list = match &for_each.list {
            Argument::Output { job, output } => format!("each of {job}.{output}"),
            _ => "each element".to_owned(),
        };
        remarks.push(format!("{list}, {} at once", for_each.max_parallel));
    }
    if job.compensate {
        remarks.push("taken back if the run fails".to_owned());
    }
    if finally {
        remarks.push("always, at the end".to_owned());
    }
    let needs = if job.needs.is_empty() {
        String::new()
    } else {
        format!("after {}", job.needs.join(", "))
    };
    vec![
        format!("  {}", job.name),
        job.kind.clone(),
        format!("on {}", job.zone),
        needs,
        remarks.join("; "),
    ]
}

fn text(value: &serde_json::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToOwned::to_owned)
}
