//! The five binaries in a folder of their own, with a state folder that `sealift init` made for
//! them: whoever builds meanwhile changes the target folder, and another build is refused.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

/// Every binary of a deployment.
pub(crate) const BINARIES: [&str; 5] = [
    "sealift",
    "sealift-confidential",
    "sealift-key-manager",
    "sealift-operator",
    "sealift-owner",
];

/// Where test processes of one target folder keep what they share.
const SHARED: &str = env!("CARGO_TARGET_TMPDIR");

/// Binaries and an initialised state folder, kept for as long as this process lives.
pub(crate) struct Prepared {
    folder: PathBuf,
    _in_use: File,
}

impl Prepared {
    /// The folder with the binaries.
    pub(crate) fn binaries(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// A state folder as `sealift init` leaves it; copied, never used.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }
}

/// What this test process shares.
pub(crate) fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(prepare)
}

fn prepare() -> Prepared {
    let shared = Path::new(SHARED);
    let built = built_folder();
    let alone = File::create(shared.join("rollout.lock")).unwrap();
    alone.lock().unwrap();
    let folder = shared.join(format!("rollout-{:016x}", fingerprint(&built)));
    if !folder.exists() {
        remove_unused(shared);
        fill(&built, &folder);
    }
    let in_use = File::open(folder.join("in-use")).unwrap();
    in_use.lock_shared().unwrap();
    Prepared {
        folder,
        _in_use: in_use,
    }
}

/// `target/<profile>`, from the `deps` folder that this test runs in.
fn built_folder() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own
        .parent()
        .and_then(Path::parent)
        .expect("tests run in target/<profile>/deps");
    for name in BINARIES {
        let path = folder.join(name);
        assert!(
            path.is_file(),
            "`{}` is missing; run `cargo build --workspace --bins` in the same profile first",
            path.display()
        );
    }
    folder.to_owned()
}

/// Changes with every build, and once a day: what `init` signs has an end.
fn fingerprint(built: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for name in BINARIES {
        let metadata = fs::metadata(built.join(name)).unwrap();
        (metadata.len(), metadata.modified().unwrap()).hash(&mut hasher);
    }
    let days = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        / 86_400;
    days.hash(&mut hasher);
    hasher.finish()
}

fn fill(built: &Path, folder: &Path) {
    let unfinished = folder.with_file_name("rollout-unfinished");
    drop(fs::remove_dir_all(&unfinished));
    fs::create_dir_all(unfinished.join("bin")).unwrap();
    for name in BINARIES {
        fs::copy(built.join(name), unfinished.join("bin").join(name)).unwrap();
    }
    let init = Command::new(unfinished.join("bin/sealift"))
        .arg("--state")
        .arg(unfinished.join("state"))
        .arg("init")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        init.status.success(),
        "sealift init: {}",
        String::from_utf8_lossy(&init.stderr)
    );
    File::create(unfinished.join("in-use")).unwrap();
    fs::rename(&unfinished, folder).unwrap();
}

/// Removes what earlier builds left, unless a test process still uses it.
fn remove_unused(shared: &Path) {
    for entry in fs::read_dir(shared).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with("rollout-");
        let unused = || {
            let Ok(file) = File::open(path.join("in-use")) else {
                return true;
            };
            file.try_lock().is_ok()
        };
        if is_ours && path.is_dir() && unused() {
            fs::remove_dir_all(&path).unwrap();
        }
    }
}

/// Copies a folder with modes and times.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(
        status.success(),
        "cp -a {} {}",
        from.display(),
        to.display()
    );
}
