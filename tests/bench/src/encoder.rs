//! Sentences per CPU-second of the MiniLM encoder, against onnxruntime.

use std::{error::Error, fs, path::Path, process::Command};

use safetensors::SafeTensors;
use sealift_inference::{Body, Input, TensorSource};

use crate::figure::Figure;

const COMMAND: &str = "make bench ONLY=encoder";

/// What `scripts/fetch-minilm.sh` makes.
const MODEL: &str = "target/models/minilm-sentiment";

/// More words than the model's 128 tokens, so that every row is cut to exactly these.
const WORDS: usize = 200;

/// Rounds of both engines in turn, of which the fastest of each counts.
const ROUNDS: usize = 3;

/// CPU-seconds of one measurement, at least.
const LEAST_SECONDS: f64 = 1.5;

/// Measures rows of 128 tokens one by one and 32 at a time, on one thread.
pub(crate) fn figures() -> Result<Vec<Figure>, Box<dyn Error>> {
    if !Command::new("scripts/fetch-minilm.sh").status()?.success() {
        return Err("scripts/fetch-minilm.sh failed".into());
    }
    let folder = Path::new(MODEL);
    let weights = fs::read(folder.join("model.safetensors"))?;
    let tensors = SafeTensors::deserialize(&weights)?;
    let source: &dyn TensorSource = &tensors;
    let read = |name: &str| fs::read(folder.join(name));
    let body = Body::load(
        &read("config.json")?,
        Some(&read("tokenizer.json")?),
        source,
    )?;
    let mut figures = Vec::new();
    for (rows, [ours, ratio]) in [
        (1, ["encoder.b1", "encoder.b1.ratio_onnxruntime"]),
        (32, ["encoder.b32", "encoder.b32.ratio_onnxruntime"]),
    ] {
        let (mut rate, mut peer) = (0.0_f64, 0.0_f64);
        for _ in 0..ROUNDS {
            rate = rate.max(our_rate(&body, rows)?);
            peer = peer.max(onnxruntime_rate(rows)?);
        }
        let figure = Figure::new(ours, rate, "sentences per CPU-second", COMMAND).more_is_better();
        figures.push(figure);
        let against = "onnxruntime on the same graph, rows of 128 tokens, one thread";
        let figure = Figure::new(ratio, rate / peer, "ratio", COMMAND).more_is_better();
        figures.push(figure.against(against));
    }
    Ok(figures)
}

fn our_rate(body: &Body, rows: usize) -> Result<f64, Box<dyn Error>> {
    let text = "word ".repeat(WORDS);
    let inputs = vec![Input::Text(&text); rows];
    body.activations(&inputs)?;
    let (start, mut sentences) = (cpu_seconds()?, 0);
    loop {
        body.activations(&inputs)?;
        sentences += rows;
        let seconds = cpu_seconds()? - start;
        if seconds >= LEAST_SECONDS {
            return Ok(sentences as f64 / seconds);
        }
    }
}

/// CPU time of this thread: what other processes take meanwhile does not count.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().ok_or("schedstat is empty")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}

fn onnxruntime_rate(rows: usize) -> Result<f64, Box<dyn Error>> {
    let output = Command::new("tests/bench/peers/onnxruntime.sh")
        .args([MODEL, &rows.to_string(), &LEAST_SECONDS.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
