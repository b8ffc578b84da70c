//! A result file is an age file that stock `age` opens with the user's identity.

use std::{fs, process::Command};

use serde_json::Value;

use crate::harness::{Deployment, TABULAR};

#[test]
fn stock_age_opens_a_result_file() {
    let deployment = Deployment::new();
    let batch = deployment.seal_rows(TABULAR, 4, 4);
    deployment.run(TABULAR, &batch.folder, &[]).assert_success();
    let file = deployment.results().join("00000.age");
    let mut age = Command::new("age");
    age.arg("--decrypt")
        .arg("--identity")
        .arg(deployment.state().join("user/age"))
        .arg(file);
    let opened = age.output().unwrap_or_else(|error| {
        panic!("cannot run `age` ({error}); install it: sudo apt-get install age")
    });
    assert!(
        opened.status.success(),
        "{}",
        String::from_utf8_lossy(&opened.stderr)
    );
    let text = String::from_utf8(opened.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines.len(),
        1 + batch.rows,
        "line 1 says what the records are of"
    );
    assert_eq!(lines[0]["partition"], 0);
    let expected = fs::read_to_string(&batch.expected).unwrap();
    for (record, expected) in lines[1..].iter().zip(expected.lines()) {
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(record["custom_id"], expected["custom_id"]);
        assert!(
            record
                .to_string()
                .contains(expected["expected_label"].as_str().unwrap())
        );
    }
}
