//! A plain model in the form that a stock KServe opens, through the binaries.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    harness::{Deployment, Output, TABULAR, binaries::copy_folder},
    kserve_guest::decrypt,
    stock_tools::{said, verify_folder},
};

const USAGE: i32 = 2;
const INPUT: i32 = 6;
const ENVIRONMENT: i32 = 8;
const RESOURCE: &str = "kbs:///tabular/v1/kserve";

/// A deployment, a plain model of its own, and where its export goes.
struct Case {
    deployment: Deployment,
    plain: PathBuf,
    out: PathBuf,
    key: PathBuf,
}

impl Case {
    fn new() -> Self {
        let deployment = Deployment::new();
        let [plain, out, key] =
            ["plain", "exported", "resource.key"].map(|name| deployment.path(name));
        copy_folder(&TABULAR.folder(), &plain);
        Self {
            deployment,
            plain,
            out,
            key,
        }
    }

    fn export(&self) -> Output {
        self.export_to(RESOURCE)
    }

    fn export_to(&self, resource: &str) -> Output {
        let mut args = ["model", "export", "--profile", "kserve-jwe", "--model"]
            .map(OsString::from)
            .to_vec();
        args.extend([TABULAR.name.into(), self.plain.clone().into_os_string()]);
        for (name, value) in [
            ("--resource", OsStr::new(resource)),
            ("--out", self.out.as_os_str()),
            ("--key", self.key.as_os_str()),
        ] {
            args.extend([name.into(), value.to_owned()]);
        }
        self.deployment.sealift(args)
    }

    /// The attempt was refused, and nothing of it is left beside the state folder and the model.
    fn assert_refused(&self, code: i32, fact: &str, remedy: &str) {
        self.export().assert_refused(code, fact, remedy);
        self.assert_nothing_left();
    }

    fn assert_nothing_left(&self) {
        let mut names = names(self.deployment.folder());
        names.retain(|name| name != "state" && name != "plain");
        assert_eq!(names, [""; 0]);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn kserve_opens_what_the_command_exports_with_the_key_that_it_wrote() {
    let case = Case::new();
    let exported = case.export().json();
    let mode = fs::metadata(&case.key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read(&case.key).unwrap();
    assert_eq!(key.len(), 32);
    assert_eq!(
        (&exported["profile"], &exported["resource"]),
        (&"kserve-jwe".into(), &RESOURCE.into())
    );

    let publish = case.deployment.path("publish.pem");
    fs::write(&publish, exported["publish_key"].as_str().unwrap()).unwrap();
    let verified = verify_folder(&case.out, &publish);
    assert!(verified.status.success(), "{}", said(&verified));

    let listed = exported["files"].as_object().unwrap();
    let mut encrypted = names(&case.out);
    encrypted.retain(|name| name != "model.sig");
    assert!(encrypted.iter().eq(listed.keys()), "{encrypted:?}");
    let opened = decrypt(&case.out, RESOURCE, &key);
    assert!(opened.status.success(), "{}", said(&opened));
    fs::remove_file(case.out.join("model.sig")).unwrap();
    assert_eq!(names(&case.out), names(&case.plain));
    for name in names(&case.plain) {
        let [plain, opened] = [&case.plain, &case.out].map(|folder| folder.join(&name));
        assert_eq!(
            fs::read(plain).unwrap(),
            fs::read(opened).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_person_is_told_how_the_key_becomes_the_resource() {
    let case = Case::new();
    let output = std::process::Command::new(case.deployment.binary("sealift"))
        .arg("--state")
        .arg(case.deployment.state())
        .args(["model", "export", "plain", "--profile", "kserve-jwe"])
        .args(["--model", "tabular", "--resource", RESOURCE])
        .args(["--out", "exported", "--key", "resource.key"])
        .current_dir(case.deployment.folder())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("set-resource --path tabular/v1/kserve --resource-file resource.key\n"),
        "{told}"
    );
    assert!(told.contains("-----BEGIN PUBLIC KEY-----"), "{told}");
}

#[test]
fn a_folder_that_exists_is_not_exported_over() {
    let case = Case::new();
    fs::create_dir(&case.out).unwrap();
    let remedy = "name a folder that does not exist yet";
    case.export()
        .assert_refused(ENVIRONMENT, "/exported` exists already", remedy);
    assert_eq!(names(&case.out), [""; 0]);
    assert!(!case.key.exists());
}

#[test]
fn a_key_file_that_exists_is_not_written_over() {
    let case = Case::new();
    fs::write(&case.key, "of another export").unwrap();
    let remedy = "name a file that does not exist yet";
    case.export()
        .assert_refused(ENVIRONMENT, "/resource.key` exists already", remedy);
    assert_eq!(fs::read(&case.key).unwrap(), b"of another export");
    assert!(!case.out.exists());
}

#[test]
fn a_key_that_cannot_be_written_leaves_no_folder() {
    let mut case = Case::new();
    case.key = case.deployment.path("missing/resource.key");
    let fact = "missing/resource.key`: No such file";
    case.assert_refused(ENVIRONMENT, fact, "mend what the cause names");
}

#[test]
fn a_key_is_not_put_into_the_folder_that_it_opens() {
    let mut case = Case::new();
    case.key = case.out.join("resource.key");
    let fact = "the key would stand in the folder that it opens";
    case.assert_refused(USAGE, fact, "name a file elsewhere");
}

#[test]
fn a_folder_that_cannot_get_its_name_leaves_no_key() {
    let mut case = Case::new();
    // Another way to say where the folder belongs: the key takes its place.
    case.key = case.plain.join("../exported");
    case.assert_refused(ENVIRONMENT, "cannot rename", "mend what the cause names");
}

#[test]
fn a_resource_that_is_none_is_refused() {
    let case = Case::new();
    let output = case.export_to("kbs:///tabular/kserve");
    assert_eq!(output.code, Some(USAGE), "{output:#?}");
    let told = "write kbs:///<repository>/<type>/<tag>";
    assert!(output.stderr.contains(told), "{output:#?}");
    case.assert_nothing_left();
}

#[test]
fn a_model_that_is_not_there_is_not_exported() {
    let case = Case::new();
    fs::remove_dir_all(&case.plain).unwrap();
    case.assert_refused(INPUT, "there is no folder", "/plain`");
}

#[test]
fn an_empty_model_folder_is_not_exported() {
    let case = Case::new();
    fs::remove_dir_all(&case.plain).unwrap();
    fs::create_dir(&case.plain).unwrap();
    case.assert_refused(INPUT, "has no files", "name the one that holds the weights");
}

#[test]
fn an_empty_file_is_not_exported() {
    let case = Case::new();
    fs::write(case.plain.join("merges.txt"), "").unwrap();
    case.assert_refused(INPUT, "`merges.txt` is empty", "remove it");
}

#[test]
fn a_subfolder_is_not_exported() {
    let case = Case::new();
    fs::create_dir(case.plain.join("onnx")).unwrap();
    case.assert_refused(INPUT, "`onnx` cannot be read whole", "not a regular file");
}
