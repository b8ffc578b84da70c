//! The state folder: what stands where, and who may read it.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use sealift_run::RunId;

use crate::{
    exit_code::ExitCode,
    failure::{Failure, OrFail},
};

/// Where everything of one local deployment stands.
///
/// | path | what | losing it |
/// |---|---|---|
/// | `engine.sqlite` | run log | finished and unfinished runs are forgotten |
/// | `store/` | published models, batches, results | they must be published and sealed again |
/// | `stores/` | which store each run publishes to | unfinished runs go on in `store/` |
/// | `artifacts/` | what jobs of a run leave for each other, results too | unfinished runs start over |
/// | `owner/` | the owner's keys | see SECURITY.md |
/// | `user/` | the model user's keys | results can never be opened |
/// | `key-manager/` | the encrypted key store | every model version must be sealed again |
/// | `simulated/` | the software AMD-SP's keys | `sealift init` anew |
/// | `trust/` | what is trusted | `sealift reference accept --simulated` |
/// | `logs/` | what the processes say on standard error | nothing |
#[derive(Clone, Debug)]
pub(crate) struct Layout(PathBuf);

impl Layout {
    /// Makes the folder (mode 0700); fails if it exists.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| Failure::unwritable(parent, source))?;
        }
        if path.exists() {
            return Err(Failure::new(
                ExitCode::Environment,
                format!("the state folder `{}` exists already", path.display()),
            )
            .remedy("use it as it is, name another with --state, or remove it: all its keys and runs are lost"));
        }
        let make = |folder: &Path| fs::DirBuilder::new().mode(0o700).create(folder);
        make(path).map_err(|source| Failure::unwritable(path, source))?;
        // Relative paths would be resolved by children in their own working folder.
        let path = path
            .canonicalize()
            .map_err(|source| Failure::unreadable(path, source))?;
        let state = Self(path);
        for name in ["store", "artifacts", "user", "trust", "key-manager", "logs"] {
            let folder = state.0.join(name);
            make(&folder).map_err(|source| Failure::unwritable(&folder, source))?;
        }
        Ok(state)
    }

    /// Opens a folder that [`create`](Self::create) made and that belongs to this user alone.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let metadata = fs::metadata(path).map_err(|source| {
            Failure::new(
                ExitCode::Environment,
                format!("no state folder at `{}`", path.display()),
            )
            .remedy("make one with `sealift init`, or name yours with --state or SEALIFT_STATE")
            .because(source)
        })?;
        if metadata.mode() & 0o077 != 0 {
            return Err(Failure::new(
                ExitCode::Environment,
                format!("others can reach the state folder `{}`", path.display()),
            )
            .remedy(format!("make it private: chmod 700 `{}`", path.display())));
        }
        let path = path.canonicalize().or_fail(
            ExitCode::Environment,
            format!("cannot resolve `{}`", path.display()),
        )?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// Which store a run publishes to.
    pub(crate) fn store_of(&self, run: &RunId) -> PathBuf {
        self.0.join("stores").join(run.to_string())
    }

    pub(crate) fn owner(&self) -> PathBuf {
        self.0.join("owner")
    }

    pub(crate) fn user(&self) -> PathBuf {
        self.0.join("user")
    }

    pub(crate) fn key_manager(&self) -> PathBuf {
        self.0.join("key-manager")
    }

    pub(crate) fn simulated(&self) -> PathBuf {
        self.0.join("simulated")
    }

    pub(crate) fn trust(&self) -> PathBuf {
        self.0.join("trust")
    }

    /// Where the standard error of the process `name` is appended to.
    pub(crate) fn log_of(&self, name: &str) -> PathBuf {
        self.0.join("logs").join(format!("{name}.log"))
    }

    /// The key manager's measured configuration.
    pub(crate) fn key_manager_config(&self) -> PathBuf {
        self.key_manager().join("init-data.toml")
    }

    /// Which builds of the sibling binaries this state folder accepts.
    pub(crate) fn accepted_builds(&self) -> PathBuf {
        self.trust().join("builds.json")
    }
}
