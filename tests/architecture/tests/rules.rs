//! One test per sentence of ARCHITECTURE.md about what a process can reach.
//!
//! Reachability is what `cargo tree -p BINARY -e normal` lists.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::{Metadata, MetadataCommand, Package};

struct Workspace {
    metadata: Metadata,
    root: PathBuf,
}

impl Workspace {
    fn load() -> Self {
        let metadata = MetadataCommand::new()
            .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .no_deps()
            .exec()
            .expect("cargo metadata answers for the workspace under test");
        let root = metadata.workspace_root.clone().into_std_path_buf();
        Self { metadata, root }
    }

    fn members(&self) -> Vec<&Package> {
        self.metadata.workspace_packages()
    }

    /// The member's folder below the workspace, as in `jobs/seal/sealed-model`.
    fn folder(&self, package: &Package) -> String {
        let folder = package
            .manifest_path
            .parent()
            .expect("a manifest stands in a folder");
        let below = folder
            .as_std_path()
            .strip_prefix(&self.root)
            .expect("members are inside");
        below.to_string_lossy().into_owned()
    }

    fn members_under(&self, prefix: &str) -> Vec<&Package> {
        let under = |package: &&Package| self.folder(package).starts_with(prefix);
        let found: Vec<_> = self.members().into_iter().filter(under).collect();
        assert!(!found.is_empty(), "no member stands under `{prefix}`");
        found
    }

    /// Names of everything that `name` links, itself excluded.
    ///
    /// `cargo tree` and not the metadata's graph: the latter lists optional packages that no
    /// feature turns on.
    fn reach(&self, name: &str) -> BTreeSet<String> {
        let output = Command::new(env!("CARGO"))
            .args([
                "tree", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}",
            ])
            .args(["--offline", "--locked"])
            .current_dir(&self.root)
            .output()
            .expect("cargo is runnable where tests run");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.lines().filter_map(|line| line.split(' ').next());
        names
            .filter(|other| *other != name)
            .map(ToString::to_string)
            .collect()
    }

    fn assert_unreachable(&self, from: &str, forbidden: &[&str]) {
        let reach = self.reach(from);
        for pattern in forbidden {
            let hit = reach.iter().find(|name| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            });
            assert!(
                hit.is_none(),
                "`{from}` links `{}`",
                hit.map_or("", String::as_str)
            );
        }
    }
}

fn names(packages: &[&Package]) -> BTreeSet<String> {
    packages
        .iter()
        .map(|package| package.name.to_string())
        .collect()
}

#[test]
fn pipeline_knows_no_job_and_no_worker() {
    let workspace = Workspace::load();
    let mut forbidden = names(&workspace.members_under("jobs/"));
    forbidden.extend(names(&workspace.members_under("workers/")));
    for package in workspace.members_under("pipeline/") {
        if package.name == "sealift" {
            continue;
        }
        let reach = workspace.reach(&package.name);
        assert_eq!(
            reach.intersection(&forbidden).next(),
            None,
            "reached by `{}`",
            package.name
        );
    }
}

#[test]
fn the_control_plane_links_no_job_and_opens_no_model() {
    let workspace = Workspace::load();
    workspace.assert_unreachable(
        "sealift",
        &[
            "sealift-assess",
            "sealift-seal",
            "sealift-publish",
            "sealift-provision",
            "sealift-attest",
            "sealift-score",
            "sealift-inference",
            "sealift-fhe-key",
            "tfhe*",
            "candle-*",
        ],
    );
}

#[test]
fn jobs_know_no_worker() {
    let workspace = Workspace::load();
    let workers = names(&workspace.members_under("workers/"));
    for package in workspace.members_under("jobs/") {
        let reach = workspace.reach(&package.name);
        assert_eq!(
            reach.intersection(&workers).next(),
            None,
            "reached by `{}`",
            package.name
        );
    }
}

#[test]
fn domain_crates_do_not_know_they_are_run_as_jobs() {
    let workspace = Workspace::load();
    let (domains, steps): (Vec<_>, Vec<_>) = workspace
        .members_under("jobs/")
        .into_iter()
        .partition(|package| workspace.folder(package).matches('/').count() == 2);
    let mut forbidden = names(&steps);
    forbidden.insert("sealift-job".into());
    for package in domains {
        let reach = workspace.reach(&package.name);
        assert_eq!(
            reach.intersection(&forbidden).next(),
            None,
            "reached by `{}`",
            package.name
        );
    }
}

#[test]
fn the_confidential_guest_links_no_database_no_cloud_control_no_verifier_and_no_tfhe() {
    Workspace::load().assert_unreachable(
        "sealift-confidential",
        &[
            "sqlx*",
            "libsqlite3-sys",
            "kube*",
            "k8s-openapi",
            "apalis*",
            "sealift-store",
            "sealift-host",
            "sealift-verifier",
            "sealift-simulated-sp",
            "sealift-fhe-key",
            "tfhe*",
            "sealift-cloud-store",
            "reqwest",
            "hyper-rustls",
        ],
    );
}

#[test]
fn the_key_manager_links_no_model_engine_no_queue_and_no_database_server_client() {
    Workspace::load().assert_unreachable(
        "sealift-key-manager",
        &[
            "candle-*",
            "tokenizers",
            "safetensors",
            "sealift-inference",
            "sealift-sealed-model",
            "sealift-model-store",
            "apalis*",
            "sealift-store",
            "sealift-host",
            "sqlx-postgres",
            "sqlx-mysql",
            "kube*",
            "object_store",
        ],
    );
}

/// The model user verifies and pulls what was published where it is, so `sealift` links it too;
/// the operator relays to guests what they may not reach.
#[test]
fn cloud_stores_are_linked_by_neither_guest_nor_key_manager() {
    let workspace = Workspace::load();
    for from in ["sealift-confidential", "sealift-key-manager"] {
        workspace.assert_unreachable(from, &["sealift-cloud-store", "hyper-rustls", "reqwest"]);
    }
}

#[test]
fn only_the_owner_seals() {
    let workspace = Workspace::load();
    for package in workspace.members() {
        if package.name != "sealift-owner" {
            workspace.assert_unreachable(&package.name, &["sealift-seal", "sealift-assess"]);
        }
    }
}

#[test]
fn tfhe_stands_in_one_crate() {
    let workspace = Workspace::load();
    for package in workspace.members() {
        let direct = package
            .dependencies
            .iter()
            .any(|dependency| dependency.name == "tfhe");
        assert_eq!(
            direct,
            package.name == "sealift-fhe-key",
            "`{}`",
            package.name
        );
    }
}

#[test]
fn no_second_tls_or_crypto_stack_is_linked() {
    let workspace = Workspace::load();
    for package in workspace.members() {
        workspace.assert_unreachable(&package.name, &["ring", "openssl*", "native-tls"]);
    }
}

#[test]
fn versions_and_features_of_third_parties_stand_once() {
    let workspace = Workspace::load();
    for package in workspace.members() {
        let text = fs::read_to_string(&package.manifest_path).expect("a manifest is readable");
        for line in text.lines().map(str::trim) {
            let own_version = line.starts_with("version") && !line.contains("workspace");
            let inline = line.contains("version = \"");
            assert!(
                !own_version && !inline,
                "`{}`: {line}",
                package.manifest_path
            );
        }
    }
}

#[test]
fn every_member_holds_the_workspace_lints() {
    let workspace = Workspace::load();
    for package in workspace.members() {
        let text = fs::read_to_string(&package.manifest_path).expect("a manifest is readable");
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "`{}`",
            package.manifest_path
        );
    }
}

#[test]
fn no_path_is_named_for_a_bucket() {
    const BUCKETS: [&str; 7] = [
        "common", "utils", "util", "helpers", "types", "misc", "core",
    ];
    let workspace = Workspace::load();
    for package in workspace.members() {
        let folder = package
            .manifest_path
            .parent()
            .expect("a manifest stands in a folder");
        for path in source_files(folder.join("src").as_std_path()) {
            let stem = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            assert!(!BUCKETS.contains(&stem.as_str()), "{}", path.display());
        }
    }
}

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("a source folder is readable").path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// A claim of README's table without its test would be a claim.
#[test]
fn every_guarantee_in_the_readme_names_tests_that_exist() {
    let workspace = Workspace::load();
    let readme = fs::read_to_string(workspace.root.join("README.md")).expect("README is readable");
    let table = readme
        .split("## Guarantees")
        .nth(1)
        .expect("README has a table of guarantees");
    let table = table.split("\n## ").next().unwrap_or_default();
    let named: BTreeSet<&str> = table.split('`').skip(1).step_by(2).collect();
    let named = named.iter().filter(|name| !name.contains('/'));
    let sources: String = ["pipeline", "jobs", "workers", "tests"]
        .iter()
        .flat_map(|folder| source_files(&workspace.root.join(folder)))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).expect("a source file is readable"))
        .collect();
    for name in named {
        assert!(
            sources.contains(&format!("fn {name}(")),
            "no test is named `{name}`"
        );
    }
}
