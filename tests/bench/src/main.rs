//! `make bench`: measures, prints, and writes `target/bench/results.json`.
//!
//! A figure is `{name, value, unit, better, peer, command, machine}`. Ratios compare two things in
//! one run on one machine; nothing here is a test, so nothing fails for being slow.

#[cfg(target_arch = "x86_64")]
mod concrete_ml;
#[cfg(target_arch = "x86_64")]
mod cost;
mod demo;
mod encoder;
// Its plaintext peers are x86-64 kernels.
#[cfg(target_arch = "x86_64")]
mod fhe;
mod figure;
mod machine;
mod scoring;
mod seal;
mod timing;

use std::{error::Error, fs, io::Write, path::Path, process::ExitCode};

use crate::figure::Figure;

/// Where the figures go.
const RESULTS: &str = "target/bench/results.json";

/// Measures one area.
type Bench = fn() -> Result<Vec<Figure>, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [child, rest @ ..] if child == seal::CHILD => seal::run_child(rest),
        _ => run(arguments.first().map(String::as_str)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(only: Option<&str>) -> Result<(), Box<dyn Error>> {
    let all: &[(&str, Bench)] = &[
        #[cfg(target_arch = "x86_64")]
        ("concrete-ml", concrete_ml::figures),
        #[cfg(target_arch = "x86_64")]
        ("cost", cost::figures),
        ("demo", demo::figures),
        ("encoder", encoder::figures),
        #[cfg(target_arch = "x86_64")]
        ("fhe", fhe::figures),
        ("scoring", scoring::figures),
        ("seal", seal::figures),
    ];
    if let Some(only) = only
        && !all.iter().any(|(name, _)| *name == only)
    {
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        return Err(format!("no bench is named `{only}`; choose from {names:?}").into());
    }
    let mut figures = Vec::new();
    for (name, bench) in all {
        if only.is_none_or(|only| only == *name) {
            figures.extend(bench()?);
        }
    }
    for figure in &figures {
        writeln!(std::io::stdout(), "{figure}")?;
    }
    write(&figures)
}

fn write(figures: &[Figure]) -> Result<(), Box<dyn Error>> {
    let path = Path::new(RESULTS);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, serde_json::to_string_pretty(figures)? + "\n")?;
    Ok(())
}
