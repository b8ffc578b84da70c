//! A deployment of one test: its own state folder and its own copy of nothing else.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    Batch, Output, Running, TABULAR,
    binaries::{copy_folder, prepared},
    fixtures::Model,
    processes,
};

/// A state folder and the binaries it accepts.
pub(crate) struct Deployment {
    folder: TempDir,
    binaries: PathBuf,
}

impl Deployment {
    /// An initialised state folder in which nothing has run.
    pub(crate) fn new() -> Self {
        // Short, because a socket's path has at most 107 bytes.
        let folder = tempfile::Builder::new()
            .prefix("rollout-")
            .tempdir()
            .unwrap();
        copy_folder(&prepared().state(), &folder.path().join("state"));
        Self {
            folder,
            binaries: prepared().binaries(),
        }
    }

    /// A deployment with keys of its own: somebody else's.
    pub(crate) fn of_a_stranger() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("rollout-")
            .tempdir()
            .unwrap();
        let deployment = Self {
            folder,
            binaries: prepared().binaries(),
        };
        deployment.sealift(["init"]).assert_success();
        deployment
    }

    /// Takes the binaries from a folder of this test's own, which it may spoil.
    pub(crate) fn with_own_binaries() -> Self {
        let mut deployment = Self::new();
        deployment.binaries = deployment.path("bin");
        std::fs::create_dir(&deployment.binaries).unwrap();
        for name in super::binaries::BINARIES {
            let shared = prepared().binaries().join(name);
            std::fs::hard_link(&shared, deployment.binaries.join(name))
                .or_else(|_| std::fs::copy(&shared, deployment.binaries.join(name)).map(drop))
                .unwrap();
        }
        deployment
    }

    /// A path in the test's folder, beside the state folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a new folder beside the state folder.
    pub(crate) fn new_folder(&self, prefix: &str) -> PathBuf {
        let made = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(self.folder.path())
            .unwrap();
        made.keep()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Where a binary stands.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// Starts `sealift --json --state … ARGS`.
    pub(crate) fn start<I, S>(&self, args: I) -> Running
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(self.binary("sealift"));
        command
            .arg("--json")
            .arg("--state")
            .arg(self.state())
            .args(args);
        Running::start(command.current_dir(self.folder()))
    }

    /// Runs `sealift --json --state … ARGS` to its end.
    pub(crate) fn sealift<I, S>(&self, args: I) -> Output
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.start(args).wait()
    }

    /// Seals the first `rows` rows of `model` under full scores.
    pub(crate) fn seal_rows(&self, model: Model, rows: usize, rows_per_partition: usize) -> Batch {
        let sources = self.new_folder("rows");
        let (rows_file, expected) = model.rows(rows, &sources);
        let folder = sources.join("batch");
        let sealed = self
            .seal_batch(&rows_file, model.name, rows_per_partition, &folder)
            .json();
        assert_eq!(sealed["rows"], rows);
        let partitions = rows.div_ceil(rows_per_partition);
        Batch {
            folder,
            expected,
            rows,
            partitions,
            rows_per_partition,
        }
    }

    /// `sealift batch seal` under full scores.
    pub(crate) fn seal_batch(
        &self,
        rows: &Path,
        model: &str,
        rows_per_partition: usize,
        out: &Path,
    ) -> Output {
        let rows_per_partition = rows_per_partition.to_string();
        let mut args: Vec<&OsStr> = vec!["batch".as_ref(), "seal".as_ref(), rows.as_ref()];
        args.extend(["--model", model, "--output-policy", "dangerous_full_scores"].map(OsStr::new));
        args.extend(["--rows-per-partition", rows_per_partition.as_str(), "--out"].map(OsStr::new));
        args.push(out.as_ref());
        self.sealift(args)
    }

    /// Seals a new batch, rolls `version` of the tabular model out, and reads the answers: what went
    /// wrong before has spoiled nothing else.
    pub(crate) fn assert_usable(&self, version: &str) {
        let batch = self.seal_rows(TABULAR, 4, 4);
        let version = format!("model_version={version}");
        self.run(TABULAR, &batch.folder, &[&version])
            .assert_success();
        self.assert_no_process_left();
        assert_eq!(self.assert_results(&batch, None)["label_agreement"], 1.0);
    }

    /// Starts the run of `model` over `batch` with more inputs, each `name=value`.
    pub(crate) fn start_run(&self, model: Model, batch: &Path, inputs: &[&str]) -> Running {
        let batch = format!("batch={}", batch.display());
        let definition = model.definition();
        let mut args: Vec<&OsStr> = vec!["run".as_ref(), definition.as_ref()];
        let always = [batch.as_str(), "output_policy=dangerous_full_scores"];
        for input in always.iter().chain(inputs) {
            args.extend([OsStr::new("--input"), OsStr::new(input)]);
        }
        self.start(args)
    }

    /// Runs `model` over `batch` to its end.
    pub(crate) fn run(&self, model: Model, batch: &Path, inputs: &[&str]) -> Output {
        self.start_run(model, batch, inputs).wait()
    }

    /// The newest run as `sealift show` has it.
    pub(crate) fn show(&self) -> Value {
        self.sealift(["show"]).json()
    }

    /// Opens the newest run's results, compares them with what is expected, verifies the receipts
    /// and returns what `compare` said.
    pub(crate) fn assert_results(&self, batch: &Batch, reference: Option<&Path>) -> Value {
        let results = self.results();
        let opened = self.path("results.jsonl");
        let open = ["batch", "open"].map(OsStr::new);
        let told = [
            results.as_os_str(),
            "--batch".as_ref(),
            batch.folder.as_ref(),
        ];
        let out = [OsStr::new("--out"), opened.as_ref()];
        let output = self.sealift(open.into_iter().chain(told).chain(out)).json();
        assert_eq!(output["rows"], batch.rows);
        let verified = self.sealift(
            ["receipts", "verify"]
                .map(OsStr::new)
                .into_iter()
                .chain(told),
        );
        let verified = verified.json();
        assert_eq!(verified["receipts_verified"], batch.partitions);
        assert_eq!(verified["assurance"], "simulated");
        let rows_per_partition = batch.rows_per_partition.to_string();
        let mut compare: Vec<&OsStr> = vec!["batch".as_ref(), "compare".as_ref(), opened.as_ref()];
        compare.extend([OsStr::new("--expect"), batch.expected.as_ref()]);
        compare.extend(["--rows-per-partition", rows_per_partition.as_str()].map(OsStr::new));
        if let Some(model) = reference {
            compare.extend([OsStr::new("--integer-reference"), model.as_ref()]);
        }
        let compared = self.sealift(compare).json();
        assert_eq!(compared["rows"], batch.rows);
        compared
    }

    /// The results folder of the newest run.
    pub(crate) fn results(&self) -> PathBuf {
        let shown = self.show();
        let results = shown["outputs"]["results"].as_str();
        PathBuf::from(results.unwrap_or_else(|| panic!("the run has no results: {shown:#}")))
    }

    /// Kills every process of `name`; says whether there was one.
    pub(crate) fn kill(&self, name: &str) -> bool {
        processes::kill(self.folder(), |process| process.executable == name)
    }

    pub(crate) fn assert_no_process_left(&self) {
        processes::assert_none_left(self.folder());
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        // A failed test leaves nothing running.
        processes::kill(self.folder(), |_| true);
    }
}
