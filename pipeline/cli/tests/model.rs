//! `sealift model` on the golden version, as a user without any state folder runs it.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something it builds on fails"
)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../jobs/seal/sealed-model/tests/vectors")
        .join(name)
        .join("folder")
}

fn sealift(args: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
    command
        .args(["--state", "/nonexistent", "--json", "model"])
        .args(args)
        .args(paths);
    command.output().unwrap()
}

fn document(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn inspecting_names_every_tensor_and_claims_no_verification() {
    let shown = document(&sealift(&["inspect"], &[&golden("format-1")]));
    assert_eq!(shown["verified"], false);
    let tensors = shown["manifest"]["tensors"].as_array().unwrap();
    assert!(!tensors.is_empty());
    assert!(
        tensors
            .iter()
            .all(|tensor| tensor["bytes"].is_u64() && tensor["protection"].is_string())
    );
    assert_eq!(shown["signer"].as_str().unwrap().len(), 64);
    let sealed: u64 = shown["protection"]["sealed"]["tensors"].as_u64().unwrap();
    assert_eq!(
        sealed,
        tensors
            .iter()
            .filter(|t| t["protection"] == "sealed")
            .count() as u64
    );
}

#[test]
fn a_version_does_not_differ_from_itself_but_from_another() {
    let (one, other) = (golden("format-1"), golden("cryptotensors-0.2.3"));
    let same = document(&sealift(&["diff"], &[&one, &one]));
    assert_eq!(
        (
            &same["identical"],
            same["differences"].as_array().unwrap().len()
        ),
        (&true.into(), 0)
    );
    let differs = document(&sealift(&["diff"], &[&one, &other]));
    assert_eq!(differs["identical"], false);
    let names = |kind: &str| {
        let all = differs["differences"].as_array().unwrap();
        all.iter().filter(|d| d["kind"] == kind).count()
    };
    assert!(names("file") > 0 && names("tensor") > 0, "{differs}");
}

#[test]
fn a_folder_that_is_not_there_ends_with_6_and_verifying_without_trust_with_8() {
    let missing = sealift(&["inspect"], &[Path::new("/nonexistent/version")]);
    assert_eq!(missing.status.code(), Some(6));
    let untrusting = sealift(&["verify"], &[&golden("format-1")]);
    assert_eq!(untrusting.status.code(), Some(8));
}
