//! What definitions are checked against is what the workers host.

use std::{fs, process::Command};

use crate::harness::{
    Deployment, Running, TABULAR, TINY_BERT, binaries::prepared, fixtures::workspace,
};

fn assert_printed_as_committed(binary: &str, file: &str) {
    let mut command = Command::new(prepared().binaries().join(binary));
    let printed = Running::start(command.arg("kinds")).wait();
    printed.assert_success();
    let path = workspace().join("definitions/schema").join(file);
    let committed = fs::read_to_string(&path).unwrap();
    assert!(
        printed.stdout == committed,
        "{} differs from what `{binary} kinds` prints; run `make schema`",
        path.display()
    );
}

#[test]
fn the_committed_schema_of_the_owner_is_what_its_worker_prints() {
    assert_printed_as_committed("sealift-owner", "owner.json");
}

#[test]
fn the_committed_schema_of_the_operator_is_what_its_worker_prints() {
    assert_printed_as_committed("sealift-operator", "operator.json");
}

#[test]
fn the_committed_definitions_are_valid() {
    let deployment = Deployment::new();
    for model in [TABULAR, TINY_BERT] {
        let validated = deployment.sealift(["validate".as_ref(), model.definition().as_os_str()]);
        assert_eq!(validated.json()["valid"], true);
    }
}
