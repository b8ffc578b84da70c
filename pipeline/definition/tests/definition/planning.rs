//! What a run is planned from its inputs, and which inputs are refused.

use std::collections::BTreeMap;
use std::path::Path;

use sealift_definition::plan::{Argument, PlanError, PlannedJob, Retry};
use sealift_definition::{Diagnostics, Folders, Given, Plan};
use serde_json::{Value, json};

use crate::world::{accepted, jobs, place};

const ROLLOUT: &str = "\
version: 1
name: rollout
inputs:
  model: { type: path }
  policy: { type: enum, values: [all, last-layer], default: last-layer }
  budget: { type: float, min: 0.0, max: 1.0, default: 0.5 }
  threads: { type: int, default: 4 }
  labels: { type: map, default: {} }
  template: { type: path, default: ./templates/a }
  wait: { type: duration, max: 1h, default: 30s }
  commit: { type: string, pattern: '[0-9a-f]{4}', default: 00ff }
  topics: { type: list, default: [a, b] }
defaults:
  retry: { max-attempts: 5, backoff: { initial: 2s } }
  timeout: 1h
jobs:
  plan:
    uses: plan@1
    with: { model: \"${{ inputs.model }}\", policy: \"${{ inputs.policy }}\", risk_budget: \"${{ inputs.budget }}\" }
    retry: { max-attempts: 1 }
  each:
    uses: seal-layer@1
    needs: [plan]
    strategy: { for-each: \"${{ jobs.plan.outputs.layers }}\", as: layer, max-parallel: 3 }
    with: { layer: \"${{ layer }}\", note: \"${{ inputs.commit }}\" }
    timeout: 250ms
    compensate: true
  seal:
    uses: seal@1
    needs: [plan]
    with:
      model: ${{ inputs.template }}
      layers: ${{ jobs.plan.outputs.layers }}
      threads: ${{ inputs.threads }}
      labels: ${{ inputs.labels }}
      to: { store: bucket, name: \"${{ jobs.plan.outputs.report }}\", region: here }
finally:
  tell:
    uses: notify@1
    with: { text: hi, about: [\"${{ jobs.seal.outputs.bundle }}\", x], wait_ms: \"${{ inputs.wait }}\" }
  tell_topics: { uses: notify@1, with: { text: hi, about: \"${{ inputs.topics }}\" } }
outputs:
  bundle: ${{ jobs.seal.outputs.bundle }}
  fixed: [1, { a: \"${{ inputs.threads }}\" }]
";

fn plan(given: &[(&str, Given)]) -> Result<Plan, Diagnostics> {
    let given: BTreeMap<String, Given> = given
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let folders = Folders {
        definition: Path::new("/definitions"),
        given: Path::new("/here"),
    };
    accepted(ROLLOUT).plan(given, folders)
}

fn planned(given: &[(&str, Given)]) -> Plan {
    plan(given).unwrap_or_else(|refused| panic!("{refused}"))
}

fn refused_given(name: &str, given: Given, at: &str, message: &str, remedy: &str) {
    let mut all = vec![(name, given)];
    if name != "model" {
        all.push(("model", "m".into()));
    }
    let refused = plan(&all).expect_err("the input is accepted");
    let found = refused.iter().next().expect("a refusal says why");
    assert_eq!(refused.len(), 1, "{refused}");
    assert_eq!(
        (
            place(ROLLOUT, found).as_str(),
            found.message.as_str(),
            found.remedy.as_str()
        ),
        (at, message, remedy)
    );
}

#[test]
fn a_plan_holds_what_is_known_and_names_what_is_not() {
    let plan = planned(&[("model", "m.safetensors".into()), ("budget", "1".into())]);
    assert_eq!(plan.definition, "rollout");
    assert_eq!(plan.definition_sha256, accepted(ROLLOUT).sha256());
    assert_eq!(plan.inputs["model"], json!("/here/m.safetensors"));
    assert_eq!(plan.inputs["template"], json!("/definitions/templates/a"));
    assert_eq!(plan.inputs["wait"], json!(30_000));
    let value = |value: Value| Argument::Value(value);
    let expected = PlannedJob {
        name: "plan".to_owned(),
        kind: "plan@1".to_owned(),
        zone: "owner".to_owned(),
        needs: Vec::new(),
        with: BTreeMap::from([
            ("model".to_owned(), value(json!("/here/m.safetensors"))),
            ("policy".to_owned(), value(json!("last-layer"))),
            ("risk_budget".to_owned(), value(json!(1.0))),
        ]),
        for_each: None,
        retry: Retry {
            max_attempts: 1,
            initial_ms: 2_000,
            factor: 2.0,
            max_ms: 60_000,
        },
        timeout_ms: 3_600_000,
        compensate: false,
    };
    assert_eq!(plan.jobs[0], expected);
}

#[test]
fn fan_out_keeps_the_element_and_the_list() {
    let plan = planned(&[("model", "m".into())]);
    let each = &plan.jobs[1];
    let for_each = each.for_each.as_ref().unwrap();
    assert_eq!(
        for_each.list,
        Argument::Output {
            job: "plan".to_owned(),
            output: "layers".to_owned()
        }
    );
    assert_eq!(for_each.max_parallel, 3);
    assert_eq!(each.with["layer"], Argument::Element);
    assert_eq!(each.with["note"], Argument::Value(json!("00ff")));
    assert_eq!(
        (each.timeout_ms, each.compensate, each.retry.max_attempts),
        (250, true, 5)
    );
}

#[test]
fn a_collection_is_a_value_unless_something_in_it_is_not_known() {
    let plan = planned(&[("model", "m".into()), ("labels", "{team: a}".into())]);
    let seal = &plan.jobs[2];
    assert_eq!(seal.with["labels"], Argument::Value(json!({"team": "a"})));
    let Argument::Map(to) = &seal.with["to"] else {
        panic!("{:?}", seal.with["to"])
    };
    assert_eq!(to["region"], Argument::Value(json!("here")));
    assert_eq!(
        to["name"],
        Argument::Output {
            job: "plan".to_owned(),
            output: "report".to_owned()
        }
    );
    let Argument::List(about) = &plan.finally[0].with["about"] else {
        panic!()
    };
    assert_eq!(about[1], Argument::Value(json!("x")));
    assert_eq!(
        plan.finally[1].with["about"],
        Argument::Value(json!(["a", "b"]))
    );
    assert_eq!(plan.outputs["fixed"], Argument::Value(json!([1, {"a": 4}])));
    assert_eq!(plan.finally[0].zone, "operator");
}

#[test]
fn values_of_json_are_taken_like_text() {
    let plan = planned(&[
        ("model", json!("m").into()),
        ("threads", json!(9).into()),
        ("wait", json!("1m").into()),
        ("topics", json!(["x"]).into()),
    ]);
    assert_eq!(plan.inputs["threads"], json!(9));
    assert_eq!(plan.inputs["wait"], json!(60_000));
    assert_eq!(plan.inputs["topics"], json!(["x"]));
}

#[test]
fn a_missing_input_is_refused_where_it_is_declared() {
    let refused = plan(&[]).unwrap_err();
    let found = refused.iter().next().unwrap();
    assert_eq!(
        (refused.len(), place(ROLLOUT, found).as_str()),
        (1, "E080 4:3 model")
    );
    assert_eq!(
        found.message,
        "the input `model` has no default and is not given"
    );
    assert_eq!(found.remedy, "give a path for it, as `model=…`");
}

#[test]
fn a_given_value_for_no_input_is_refused_with_the_nearest_one() {
    refused_given(
        "buget",
        "1".into(),
        "E081 3:1 inputs",
        "a value is given for `buget`, which is not an input",
        "did you mean `budget`?",
    );
}

#[test]
fn a_given_value_of_the_wrong_type_is_refused() {
    let cases = [
        (
            "threads",
            "four".into(),
            "E082 7:3 threads",
            "the input `threads` is of the type `int` and is given the text `four`",
            "give a whole number",
        ),
        (
            "threads",
            "007".into(),
            "E082 7:3 threads",
            "the input `threads` is of the type `int` and is given `007`",
            "give a whole number",
        ),
        (
            "threads",
            json!(1.5).into(),
            "E082 7:3 threads",
            "the input `threads` is of the type `int` and is given 1.5",
            "give a whole number",
        ),
        (
            "threads",
            json!(u64::MAX).into(),
            "E082 7:3 threads",
            "the input `threads` is of the type `int` and is given a value with a number that JSON cannot carry exactly",
            "give a whole number",
        ),
        (
            "wait",
            "PT5M".into(),
            "E082 10:3 wait",
            "the input `wait` is of the type `duration` and is given `PT5M`, which is a duration in the form of ISO 8601",
            "give `5m`",
        ),
        (
            "labels",
            "[a]".into(),
            "E082 8:3 labels",
            "the input `labels` is of the type `map` and is given a list",
            "give a map, as in `{a: 1}`",
        ),
        (
            "model",
            json!(3).into(),
            "E082 4:3 model",
            "the input `model` is of the type `path` and is given the number `3`",
            "give a path",
        ),
    ];
    for (name, given, at, message, remedy) in cases {
        refused_given(name, given, at, message, remedy);
    }
}

#[test]
fn a_given_value_outside_the_constraints_is_refused() {
    let cases = [
        (
            "commit",
            "00FF",
            "E083 11:3 commit",
            "the input `commit` is given `00FF`, which it does not allow",
            "give text that matches `[0-9a-f]{4}` from end to end",
        ),
        (
            "commit",
            "00ff\n",
            "E083 11:3 commit",
            "the input `commit` is given `00ff\\u{a}`, which it does not allow",
            "give text that matches `[0-9a-f]{4}` from end to end",
        ),
        (
            "budget",
            "1.5",
            "E083 6:3 budget",
            "the input `budget` is given 1.5, which it does not allow",
            "give a value from 0 to 1",
        ),
        (
            "policy",
            "last_layer",
            "E083 5:3 policy",
            "the input `policy` is given `last_layer`, which it does not allow",
            "did you mean `last-layer`?",
        ),
        (
            "wait",
            "2h",
            "E083 10:3 wait",
            "the input `wait` is given 2h, which it does not allow",
            "give a value of at most 1h",
        ),
    ];
    for (name, given, at, message, remedy) in cases {
        refused_given(name, given.into(), at, message, remedy);
    }
}

#[test]
fn a_given_value_that_a_job_does_not_accept_is_refused_where_it_is_read() {
    let refused = plan(&[
        ("model", "m".into()),
        ("threads", "70000".into()),
        ("labels", "{a: 1}".into()),
    ]);
    let refused = refused.unwrap_err();
    let found: Vec<_> = refused
        .iter()
        .map(|found| (place(ROLLOUT, found), found.message.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (
                "E084 34:20 inputs.threads".to_owned(),
                "`inputs.threads` is the number `70000`, and `threads` of `seal@1` takes a whole number of at least 0 and at most 65535 or nothing"
            ),
            (
                "E084 35:19 inputs.labels".to_owned(),
                "`inputs.labels` is the number `1` at `.a`, and `labels` of `seal@1` takes text"
            ),
        ]
    );
    let label = &refused.iter().next().unwrap().labels[0];
    assert_eq!(
        (label.line, label.column, label.message.as_str()),
        (7, 3, "the input is declared here")
    );
}

#[test]
fn every_given_mistake_is_reported_at_once() {
    let refused = plan(&[
        ("threads", "x".into()),
        ("budget", "2".into()),
        ("none", "1".into()),
    ])
    .unwrap_err();
    let codes: Vec<&str> = refused.iter().map(|found| found.code.as_str()).collect();
    assert_eq!(codes, ["E081", "E080", "E083", "E082"]);
}

#[test]
fn the_order_respects_needs_and_otherwise_the_file() {
    let text = jobs(
        "d: { uses: notify@1, needs: [b], with: { text: hi } }\na: { uses: notify@1, with: { text: hi } }\nb: { uses: notify@1, with: { text: hi } }\n",
    ) + "finally:\n  z: { uses: notify@1, needs: [y], with: { text: hi } }\n  y: { uses: notify@1, with: { text: hi } }\n";
    let plan = accepted(&text)
        .plan(BTreeMap::new(), Folders::both(Path::new("/")))
        .unwrap();
    let order: Vec<&str> = plan
        .topological_order()
        .unwrap()
        .iter()
        .map(|job| job.name.as_str())
        .collect();
    assert_eq!(order, ["a", "b", "d", "y", "z"]);
}

#[test]
fn a_stored_plan_that_was_changed_has_no_order() {
    let mut plan = planned(&[("model", "m".into())]);
    plan.jobs[0].needs = vec!["seal".to_owned()];
    assert!(matches!(
        plan.topological_order(),
        Err(PlanError::Cycle { .. })
    ));
    plan.jobs[0].needs = vec!["gone".to_owned()];
    assert!(matches!(
        plan.topological_order(),
        Err(PlanError::UnknownNeed { .. })
    ));
}

#[test]
fn the_digest_is_of_the_plan_and_survives_storage() {
    let plan = planned(&[("model", "m".into())]);
    let stored: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(plan.digest().unwrap(), stored.digest().unwrap());
    assert_eq!(plan.digest().unwrap().len(), 64);
    let other = planned(&[("model", "m".into()), ("threads", "5".into())]);
    assert_ne!(plan.digest().unwrap(), other.digest().unwrap());
}

#[test]
fn the_digest_of_a_known_plan_is_known() {
    let text = jobs("a: { uses: notify@1, with: { text: hi } }\n");
    let plan = accepted(&text)
        .plan(BTreeMap::new(), Folders::both(Path::new("/")))
        .unwrap();
    assert_eq!(
        serde_json::to_value(&plan).unwrap(),
        json!({
            "definition": "p",
            "definition-sha256": "9bfc3f0f052975f684bec7bf6f685cf280a883e73429923b166a56aa31acf816",
            "inputs": {},
            "jobs": [{
                "name": "a",
                "kind": "notify@1",
                "zone": "operator",
                "needs": [],
                "with": { "text": { "value": "hi" } },
                "for-each": null,
                "retry": { "max-attempts": 3, "initial-ms": 1000, "factor": 2.0, "max-ms": 60_000 },
                "timeout-ms": 900_000,
                "compensate": false,
            }],
            "finally": [],
            "outputs": {},
        })
    );
    // SHA-256 of the JSON above with sorted keys, no blanks, and `2` for `2.0`, by Python's hashlib.
    assert_eq!(
        plan.digest().unwrap(),
        "7cd04d9f9184385683f9a19ac8d1b1a028f3361c4fa749705086e2217249afc7"
    );
}

#[test]
fn a_path_that_stays_relative_is_refused() {
    let given = BTreeMap::from([("model".to_owned(), Given::from("m"))]);
    let refused = accepted(ROLLOUT)
        .plan(given, Folders::both(Path::new("here")))
        .unwrap_err();
    let found: Vec<_> = refused
        .iter()
        .map(|found| (place(ROLLOUT, found), found.message.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (
                "E083 4:3 model".to_owned(),
                "the path for the input `model` starts nowhere"
            ),
            (
                "E083 9:3 template".to_owned(),
                "the path for the input `template` starts nowhere"
            ),
        ]
    );
}
