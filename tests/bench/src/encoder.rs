//! Sentences per CPU-second of the MiniLM encoder, against onnxruntime and torch.

use std::{error::Error, fs, path::Path, process::Command};

use safetensors::SafeTensors;
use sealift_inference::{Body, Input, TensorSource};

use crate::figure::Figure;

const COMMAND: &str = "make bench ONLY=encoder";

/// What `scripts/fetch-minilm.sh` makes.
const MODEL: &str = "target/models/minilm-sentiment";

/// More words than the model's 128 tokens, so that every row is cut to exactly these.
const WORDS: usize = 200;

/// Rounds of all engines in turn, of which the fastest of each counts.
const ROUNDS: usize = 6;

/// CPU-seconds of one measurement, at least.
const LEAST_SECONDS: f64 = 1.5;

/// Another engine: `script MODEL ROWS SECONDS` prints its sentences per CPU-second.
struct Peer {
    name: &'static str,
    script: &'static str,
    what: &'static str,
}

const PEERS: [Peer; 2] = [
    Peer {
        name: "onnxruntime",
        script: "tests/bench/peers/onnxruntime.sh",
        what: "onnxruntime on the same graph, rows of 128 tokens, one thread",
    },
    Peer {
        name: "torch",
        script: "tests/bench/peers/torch.sh",
        what: "Debian's torch with OpenBLAS, rows of 128 tokens, one thread",
    },
];

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
    for rows in [1, 32] {
        let (rate, peers) = fastest(&body, rows)?;
        let name = format!("encoder.b{rows}");
        let unit = "sentences per CPU-second";
        figures.push(Figure::new(name.clone(), rate, unit, COMMAND).more_is_better());
        figures.extend(PEERS.iter().zip(peers).map(|(peer, theirs)| {
            let name = format!("{name}.ratio_{}", peer.name);
            let figure = Figure::new(name, rate / theirs, "ratio", COMMAND);
            figure.more_is_better().against(peer.what)
        }));
    }
    Ok(figures)
}

/// The best rate of ours and of each peer.
fn fastest(body: &Body, rows: usize) -> Result<(f64, [f64; PEERS.len()]), Box<dyn Error>> {
    let (mut ours, mut theirs) = (0.0_f64, [0.0_f64; PEERS.len()]);
    for _ in 0..ROUNDS {
        ours = ours.max(our_rate(body, rows)?);
        for (best, peer) in theirs.iter_mut().zip(&PEERS) {
            *best = best.max(peer.rate(rows)?);
        }
    }
    Ok((ours, theirs))
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

impl Peer {
    fn rate(&self, rows: usize) -> Result<f64, Box<dyn Error>> {
        let output = Command::new(self.script)
            .args([MODEL, &rows.to_string(), &LEAST_SECONDS.to_string()])
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }
}
