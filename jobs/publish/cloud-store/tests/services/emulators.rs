//! Emulators from PyPI and npm, pinned in `tests/emulators`, installed into the target folder once
//! for each state of those files. They listen on loopback ports that the system chooses, and end
//! with their standard input: however a test ends, its emulator ends too.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use sealift_signed_document::Digest;

/// A running emulator with the bucket or container `models`.
pub(crate) struct Emulator {
    process: Child,
    address: String,
}

impl Emulator {
    /// Amazon S3, by moto.
    pub(crate) fn s3() -> Self {
        let environment = installed("s3-venv", &["requirements.txt"], |folder| {
            succeed(
                Command::new("python3")
                    .args(["-m", "venv", "--clear"])
                    .arg(folder),
            );
            let mut install = Command::new(folder.join("bin/python"));
            install.args(["-m", "pip", "install", "--quiet", "-r"]);
            succeed(install.arg(sources().join("requirements.txt")));
        });
        let mut command = Command::new(environment.join("bin/python"));
        Self::start(command.arg(sources().join("moto_s3.py")))
    }

    /// Azure Blob Storage, by Azurite.
    pub(crate) fn azure() -> Self {
        let folder = installed(
            "azure-npm",
            &["package.json", "package-lock.json"],
            |folder| {
                drop(fs::remove_dir_all(folder));
                fs::create_dir_all(folder).unwrap();
                for name in ["package.json", "package-lock.json"] {
                    fs::copy(sources().join(name), folder.join(name)).unwrap();
                }
                let mut install = Command::new("npm");
                install.args([
                    "ci",
                    "--ignore-scripts",
                    "--no-audit",
                    "--no-fund",
                    "--silent",
                ]);
                succeed(install.current_dir(folder));
            },
        );
        Self::start(
            Command::new("node")
                .arg(sources().join("azurite.js"))
                .arg(folder),
        )
    }

    /// Does what the system does to a test that is killed, and says whether it ended well.
    pub(crate) fn ends_with_its_input(mut self) -> bool {
        drop(self.process.stdin.take());
        self.process.wait().unwrap().success()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn start(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // The address is printed when the bucket is there; the end of output means that it died.
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.starts_with("http://"));
        let address = address.unwrap_or_else(|| panic!("{command:?}: {:?}", process.wait()));
        // An emulator that logs must not wait for a reader.
        thread::spawn(move || lines.for_each(drop));
        Self { process, address }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// `tests/emulators` of the workspace that this is compiled in.
fn sources() -> PathBuf {
    let ancestors = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut folders = ancestors.map(|folder| folder.join("tests/emulators"));
    folders.find(|folder| folder.is_dir()).unwrap()
}

/// The folder `name` as `install` leaves it, for the present content of the files `pinned_by`.
fn installed(name: &str, pinned_by: &[&str], install: impl FnOnce(&Path)) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let folder = target.join("emulators").join(name);
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    // Tests run side by side, in processes of their own.
    let lock = File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let pins: Vec<_> = pinned_by
        .iter()
        .map(|file| fs::read(sources().join(file)).unwrap())
        .collect();
    let state = Digest::of(&pins.concat()).to_string();
    let marker = folder.join("made-from.sha256");
    if !fs::read_to_string(&marker).is_ok_and(|made| made == state) {
        install(&folder);
        fs::write(marker, state).unwrap();
    }
    folder
}

fn succeed(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{errors}");
}
