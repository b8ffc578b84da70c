//! The kinds that the definitions of these tests use, and how a refusal is asserted.

#![expect(
    dead_code,
    reason = "the fields of the kinds' types exist for their schemas"
)]

use std::collections::BTreeMap;

use schemars::{JsonSchema, schema_for};
use sealift_definition::{Definition, Diagnostic, Diagnostics, Kinds, Resolved};
use serde_json::{Value, json};

/// How the layers to seal are chosen.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    /// Only the last layer.
    LastLayer,
    /// The riskiest first.
    RiskRanked,
    All,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct PlanInput {
    model: String,
    policy: Policy,
    risk_budget: Option<f64>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(JsonSchema)]
struct Layer {
    name: String,
    parameters: u64,
    inside: Option<Box<Self>>,
}

#[derive(JsonSchema)]
struct PlanOutput {
    layers: Vec<Layer>,
    report: String,
    budget_left: f64,
    best: Option<Layer>,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct SealInput {
    model: String,
    layers: Vec<Layer>,
    threads: Option<u16>,
    labels: Option<BTreeMap<String, String>>,
    to: Option<Target>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "store", deny_unknown_fields)]
enum Target {
    Folder { path: String },
    Bucket { name: String, region: String },
}

#[derive(JsonSchema)]
struct SealOutput {
    bundle: String,
    bytes: u64,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct SealLayerInput {
    layer: Layer,
    #[serde(default)]
    note: Option<String>,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct NotifyInput {
    text: String,
    about: Option<Vec<String>>,
    wait_ms: Option<u32>,
}

fn kind(name: &str, zone: &str, effectful: bool, schemas: (Value, Value)) -> Value {
    let (input, output) = schemas;
    json!({"kind": name, "zone": zone, "effectful": effectful, "input": input, "output": output})
}

/// Kinds whose schemas `schemars` writes for the types above.
pub(crate) fn kinds() -> Kinds {
    let schemas = |input: schemars::Schema, output: schemars::Schema| {
        (Value::from(input), Value::from(output))
    };
    let printed = json!([
        kind(
            "plan@1",
            "owner",
            false,
            schemas(schema_for!(PlanInput), schema_for!(PlanOutput))
        ),
        kind(
            "seal@1",
            "owner",
            true,
            schemas(schema_for!(SealInput), schema_for!(SealOutput))
        ),
        kind(
            "seal-layer@1",
            "owner",
            true,
            schemas(schema_for!(SealLayerInput), schema_for!(SealOutput))
        ),
        kind(
            "notify@1",
            "operator",
            true,
            schemas(schema_for!(NotifyInput), schema_for!(()))
        ),
    ]);
    Kinds::from_json(printed.to_string().as_bytes()).expect("the kinds are well-formed")
}

pub(crate) fn check(text: &str) -> Result<Resolved, Diagnostics> {
    Definition::check("p.yaml", text.as_bytes(), &kinds())
}

pub(crate) fn accepted(text: &str) -> Resolved {
    check(text).unwrap_or_else(|refused| panic!("{refused}"))
}

/// `code line:column marked`, where `marked` is the text that the caret is under.
pub(crate) fn place(text: &str, found: &Diagnostic) -> String {
    let marked = &text[found.offset..found.offset + found.length];
    format!("{} {}:{} {marked}", found.code, found.line, found.column)
}

/// The definition is refused for one mistake: its place, its message, its remedy.
pub(crate) fn refused(text: &str, at: &str, message: &str, remedy: &str) -> Diagnostic {
    let refused = check(text).expect_err("the definition is accepted");
    let found: Vec<&Diagnostic> = refused.iter().collect();
    assert_eq!(found.len(), 1, "\n{refused}");
    assert_eq!(
        (
            place(text, found[0]).as_str(),
            found[0].message.as_str(),
            found[0].remedy.as_str()
        ),
        (at, message, remedy),
        "\n{refused}"
    );
    found[0].clone()
}

/// The places of all mistakes.
pub(crate) fn places(text: &str) -> Vec<String> {
    let refused = check(text).expect_err("the definition is accepted");
    refused.iter().map(|found| place(text, found)).collect()
}

/// A definition with one job around the body of that job.
pub(crate) fn job(body: &str) -> String {
    format!("version: 1\nname: p\njobs:\n  a:\n{}", indent(body, 4))
}

/// A definition with the given inputs, all of them read by a job.
pub(crate) fn with_inputs(inputs: &str) -> String {
    format!(
        "version: 1\nname: p\ninputs:\n{}jobs:\n  a: {{ uses: notify@1, with: {{ text: hello }} }}\n",
        indent(inputs, 2)
    )
}

/// A definition with the given jobs.
pub(crate) fn jobs(jobs: &str) -> String {
    format!("version: 1\nname: p\njobs:\n{}", indent(jobs, 2))
}

fn indent(text: &str, by: usize) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| format!("{:by$}{line}\n", ""))
        .collect();
    lines.concat()
}
