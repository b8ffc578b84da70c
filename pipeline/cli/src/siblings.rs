//! The other binaries of this build: found beside this one, never by PATH, and of the accepted
//! build.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use sealift_evidence::Measurement;
use sealift_simulated_sp::MeasuredExecutable;

use crate::{
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
};

/// A binary of another trust zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sibling {
    Confidential,
    KeyManager,
    Operator,
    Owner,
}

impl Sibling {
    pub(crate) const ALL: [Self; 4] = [
        Self::Confidential,
        Self::KeyManager,
        Self::Operator,
        Self::Owner,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Confidential => "sealift-confidential",
            Self::KeyManager => "sealift-key-manager",
            Self::Operator => "sealift-operator",
            Self::Owner => "sealift-owner",
        }
    }

    /// Where it stands: beside the running executable.
    pub(crate) fn path(self) -> Result<PathBuf, Failure> {
        let own = std::env::current_exe()
            .or_fail(ExitCode::Environment, "cannot find the running executable")?;
        let path = own.with_file_name(self.name());
        if path.is_file() {
            return Ok(path);
        }
        let fact = format!("`{}` is not beside `{}`", self.name(), own.display());
        Err(Failure::new(ExitCode::Environment, fact)
            .remedy("build every binary: cargo build --release --workspace --bins"))
    }

    /// Opens and measures it.
    pub(crate) fn measure(self) -> Result<MeasuredExecutable, Failure> {
        MeasuredExecutable::open(&self.path()?).or_fail(
            ExitCode::Environment,
            format!("cannot measure `{}`", self.name()),
        )
    }
}

/// The measurement of each sibling that a state folder accepts.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct AcceptedBuilds(BTreeMap<String, Measurement>);

impl AcceptedBuilds {
    /// Measures the siblings as they are now.
    pub(crate) fn current() -> Result<Self, Failure> {
        let measured =
            |sibling: Sibling| Ok((sibling.name().to_owned(), sibling.measure()?.measurement()));
        Sibling::ALL
            .into_iter()
            .map(measured)
            .collect::<Result<_, Failure>>()
            .map(Self)
    }

    pub(crate) fn get(&self, sibling: Sibling) -> Option<Measurement> {
        self.0.get(sibling.name()).copied()
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self)
            .or_fail(ExitCode::Unexpected, "cannot write measurements as JSON")?;
        fs::write(path, text).map_err(|source| Failure::unwritable(path, source))
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = fs::read(path).map_err(|source| Failure::unreadable(path, source))?;
        serde_json::from_slice(&bytes).or_fail(
            ExitCode::Environment,
            format!("`{}` is damaged", path.display()),
        )
    }
}

/// Opens `sibling` if it is of the build that the state folder accepts.
pub(crate) fn accepted(layout: &Layout, sibling: Sibling) -> Result<MeasuredExecutable, Failure> {
    let executable = sibling.measure()?;
    let accepted = AcceptedBuilds::read(&layout.accepted_builds())?;
    if accepted.get(sibling) == Some(executable.measurement()) {
        return Ok(executable);
    }
    let fact = format!(
        "`{}` is of another build than this state folder accepts",
        sibling.name()
    );
    Err(Failure::new(ExitCode::Environment, fact).remedy(
        "if you rebuilt it, accept the new measurements: sealift reference accept --simulated",
    ))
}
