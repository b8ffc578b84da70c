//! Seconds of the demo's run.

use std::{error::Error, process::Command, time::Instant};

use crate::figure::Figure;

const COMMAND: &str = "make bench ONLY=demo";

/// The seconds of a whole demo.
pub(crate) fn figures() -> Result<Vec<Figure>, Box<dyn Error>> {
    Ok(vec![Figure::new("demo.seconds", run()?, "s", COMMAND)])
}

/// Runs the demo's script on the release binaries, as `make demo` does after its build.
pub(crate) fn run() -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    let output = Command::new("scripts/demo.sh")
        .arg("target/release")
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(start.elapsed().as_secs_f64())
}
