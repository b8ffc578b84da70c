//! The guest's product against encrypted weights in concrete-ml-extensions, one row at a time.

use std::{error::Error, io::Write, process::Command};

use serde::Deserialize;

use crate::{fhe::Head, figure::Figure};

const COMMAND: &str = "make bench ONLY=concrete-ml";

const D_IN: usize = 384;
const D_OUT: usize = 30_522;

/// Outputs that the peer computes; the rest are extrapolated, because all take minutes.
const OUTPUTS: usize = 64;

const TURNS: usize = 2;

const PEER: &str = "concrete-ml-extensions 0.2.0, its default parameters, one thread: run for 64 outputs \
                    of 384 inputs, extrapolated linearly to 30,522 outputs";

/// What the peer's script prints.
#[derive(Deserialize)]
struct Run {
    seconds: f64,
    largest_error: u64,
}

/// The peer's seconds over ours. Without the peer, which needs one version of Python, the bench
/// says so and has no figure.
pub(crate) fn figures() -> Result<Vec<Figure>, Box<dyn Error>> {
    let run = match peer() {
        Ok(run) => run,
        Err(error) => {
            let mut out = std::io::stdout();
            writeln!(
                out,
                "concrete-ml: not measured, the peer did not run: {error}"
            )?;
            return Ok(Vec::new());
        }
    };
    let ours = Head::sealed(D_IN, D_OUT)?.evaluation_seconds(1);
    let theirs = run.seconds * D_OUT as f64 / OUTPUTS as f64;
    let figure = |name, value, unit| Figure::new(name, value, unit, COMMAND);
    let ratio = figure("fhe.vs_concrete_ml.ratio", theirs / ours, "ratio").more_is_better();
    Ok(vec![
        figure("fhe.vs_concrete_ml.ours_us", ours * 1e6, "µs"),
        figure("fhe.vs_concrete_ml.peer_64_outputs_s", run.seconds, "s"),
        figure("fhe.vs_concrete_ml.peer_extrapolated_s", theirs, "s").against(PEER),
        figure(
            "fhe.vs_concrete_ml.peer_largest_error",
            run.largest_error as f64,
            "units",
        ),
        ratio.against(PEER),
    ])
}

fn peer() -> Result<Run, Box<dyn Error>> {
    let output = Command::new("tests/bench/peers/concrete-ml.sh")
        .args([D_IN, OUTPUTS, TURNS].map(|number| number.to_string()))
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
