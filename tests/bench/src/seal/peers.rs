//! What sealing is measured against.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::{Result, child::Measured, model::PlainModel};

/// Bytes per second of user time that `openssl speed` passes through `algorithm` on one thread.
pub(super) fn openssl_bytes_per_second(algorithm: &str) -> Result<f64> {
    let output = succeed(Command::new("openssl").args([
        "speed", "-mr", "-seconds", "2", "-evp", algorithm, "-bytes", "16384",
    ]))?;
    let text = String::from_utf8(output.stdout)?;
    let rate = text
        .lines()
        .find(|line| line.starts_with("+F:"))
        .and_then(|line| line.rsplit(':').next())
        .ok_or("`openssl speed` printed no rate")?;
    Ok(rate.trim().parse()?)
}

/// The PyPI package `cryptotensors` in an environment of its own.
pub(super) struct CryptoTensors;

impl CryptoTensors {
    pub(super) fn install() -> Result<Self> {
        succeed(Command::new("tests/bench/peers/cryptotensors.sh").arg("install"))?;
        Ok(Self)
    }

    /// From the plain file to its sealed file.
    pub(super) fn seal(&self, model: &PlainModel, out: &Path) -> Result<Measured> {
        self.run("seal", &[&model.file(), &out.to_owned()])
    }

    /// From its sealed file to every tensor in memory.
    pub(super) fn open(&self, sealed: &Path) -> Result<Measured> {
        self.run("open", &[&sealed.to_owned()])
    }

    #[expect(
        clippy::unused_self,
        reason = "the value says that the package is installed"
    )]
    fn run(&self, task: &str, paths: &[&PathBuf]) -> Result<Measured> {
        let mut command = Command::new("tests/bench/peers/cryptotensors.sh");
        let output = succeed(command.arg(task).args(paths))?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

fn succeed(command: &mut Command) -> Result<Output> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {said}").into());
    }
    Ok(output)
}
