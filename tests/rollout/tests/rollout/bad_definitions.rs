//! Definitions and inputs with mistakes: nothing runs, nothing is written.

use std::{ffi::OsStr, fs, path::Path};

use serde_json::Value;

use crate::harness::{Deployment, Output, TABULAR};

const DEFINITION: i32 = 3;
const USAGE: i32 = 2;

fn run(deployment: &Deployment, definition: &Path, inputs: &[&str]) -> Output {
    let inputs = inputs
        .iter()
        .flat_map(|input| ["--input", input])
        .map(OsStr::new);
    deployment.sealift(
        [OsStr::new("run"), definition.as_ref()]
            .into_iter()
            .chain(inputs),
    )
}

/// It was refused for one mistake, whose message, place and remedy are given.
#[track_caller]
fn assert_mistake(output: &Output, message: &str) -> Value {
    output.assert_refused(DEFINITION, "mistake", "nothing was run");
    let said = output.documents().remove(0);
    assert_eq!(said["valid"], false);
    let text = said["mistakes"].to_string();
    assert!(text.contains(message), "nobody said `{message}`: {said:#}");
    assert!(text.contains("\"line\""), "{said:#}");
    assert!(
        text.contains("\"help\"") || text.contains("\"remedy\""),
        "{said:#}"
    );
    said
}

fn assert_nothing_ran(deployment: &Deployment) {
    assert!(!deployment.state().join("engine.sqlite").exists());
    deployment.assert_no_process_left();
}

#[test]
fn a_definition_that_is_no_yaml_is_refused_with_the_place() {
    let deployment = Deployment::new();
    let definition = deployment.path("broken.yaml");
    fs::write(&definition, "version: 1\nname: [broken\njobs: {}\n").unwrap();
    assert_mistake(&run(&deployment, &definition, &[]), "broken.yaml");
    assert_nothing_ran(&deployment);
}

#[test]
fn a_definition_with_an_unknown_kind_is_refused_with_the_place() {
    let deployment = Deployment::new();
    let definition = deployment.path("unknown.yaml");
    let text = fs::read_to_string(TABULAR.definition()).unwrap();
    fs::write(
        &definition,
        text.replace("uses: publish@1", "uses: publisch@1"),
    )
    .unwrap();
    assert_mistake(&run(&deployment, &definition, &["batch=b"]), "publisch@1");
    assert_nothing_ran(&deployment);
}

#[test]
fn an_unknown_input_is_refused() {
    let deployment = Deployment::new();
    let output = run(&deployment, &TABULAR.definition(), &["batch=b", "heat=fhe"]);
    output.assert_refused(DEFINITION, "mistake", "nothing was run");
    assert!(output.stdout.contains("heat"), "{output:#?}");
    assert_nothing_ran(&deployment);
}

#[test]
fn a_missing_input_is_refused() {
    let deployment = Deployment::new();
    let output = run(&deployment, &TABULAR.definition(), &[]);
    output.assert_refused(DEFINITION, "mistake", "nothing was run");
    assert!(output.stdout.contains("batch"), "{output:#?}");
    assert_nothing_ran(&deployment);
}

#[test]
fn an_input_that_is_no_pair_is_refused() {
    let deployment = Deployment::new();
    let output = run(&deployment, &TABULAR.definition(), &["batch"]);
    output.assert_refused(USAGE, "is not NAME=VALUE", "--input");
    assert_nothing_ran(&deployment);
}
