//! Tools from PyPI and npm, pinned in `tests/interop`, installed into the target folder once for each
//! state of those files. The interpreter that has those of PyPI may be named by
//! `SEALIFT_INTEROP_PYTHON` instead. No test is ever skipped.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use sealift_signed_document::Digest;

/// `tests/interop` of the workspace that this is compiled in.
pub(crate) fn scripts() -> PathBuf {
    let ancestors = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut folders = ancestors.map(|folder| folder.join("tests/interop"));
    folders.find(|folder| folder.is_dir()).unwrap()
}

/// The interpreter that has the tools.
pub(crate) fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| match std::env::var_os("SEALIFT_INTEROP_PYTHON") {
        Some(path) => path.into(),
        None => make_environment(),
    })
}

fn make_environment() -> PathBuf {
    let environment = installed("interop-venv", &["requirements.txt"], |folder| {
        let mut make = Command::new("python3");
        succeed(make.args(["-m", "venv", "--clear"]).arg(folder));
        let mut install = Command::new(folder.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--no-deps", "-r"]);
        succeed(install.arg(scripts().join("requirements.txt")));
    });
    environment.join("bin/python")
}

/// The folder `name` of the target folder as `install` leaves it, made once for each state of the
/// files `pinned_by`.
pub(crate) fn installed(name: &str, pinned_by: &[&str], install: impl FnOnce(&Path)) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let folder = target.join(name);
    let pins = pinned_by
        .iter()
        .flat_map(|file| fs::read(scripts().join(file)).unwrap());
    let state = Digest::of(&pins.collect::<Vec<_>>()).to_string();
    // Tests run side by side, in processes of their own.
    let lock = File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let marker = folder.join("made-from.sha256");
    if !fs::read_to_string(&marker).is_ok_and(|made| made == state) {
        install(&folder);
        fs::write(marker, state).unwrap();
    }
    folder
}

pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What `model_signing verify key` says of a folder under the publish key in the PEM file `key`.
pub(crate) fn verify_folder(folder: &Path, key: &Path) -> Output {
    Command::new(python())
        .args(["-m", "model_signing", "verify", "key"])
        .arg(folder)
        .arg("--public_key")
        .arg(key)
        .arg("--signature")
        .arg(folder.join("model.sig"))
        .output()
        .unwrap()
}

/// Everything that a tool said.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
