//! What `sealift plan` predicts of an encrypted layer, beside what is then measured.

use std::{error::Error, fs, hint::black_box};

use sealift_fhe_key::PredictedTimes;
use sealift_fhe_layer::{LayerMeta, LayerReader};
use sealift_protection_plan::EncryptedCost;

use crate::{
    fhe::{BATCH, Head, SET},
    figure::Figure,
    timing::Clock,
};

const COMMAND: &str = "make bench ONLY=cost";

/// Bytes that a layer is read in.
const PIECE: usize = 1 << 20;

/// Bytes of a page, in which the kernel counts resident memory.
const PAGE: u64 = 4096;

/// Rounds in which predicting and measuring take turns, of which the shortest times count: the load
/// of a shared host changes between the two.
const ROUNDS: usize = 5;

/// Predictions and measurements of a narrow head and of a vocabulary.
pub(crate) fn figures() -> Result<Vec<Figure>, Box<dyn Error>> {
    let mut figures = Vec::new();
    for (d_in, d_out) in [(384, 2), (768, 1000), (384, 30_522)] {
        let name = format!("cost.{d_in}x{d_out}");
        for (what, unit, [predicted, measured]) in both(d_in, d_out)? {
            let figure = |ending, value, unit| {
                Figure::new(format!("{name}.{what}.{ending}"), value, unit, COMMAND)
            };
            figures.extend([
                figure("predicted", predicted, unit),
                figure("measured", measured, unit),
                figure("ratio", predicted / measured, "predicted over measured"),
            ]);
        }
    }
    Ok(figures)
}

type Pair = (&'static str, &'static str, [f64; 2]);

fn both(d_in: usize, d_out: usize) -> Result<Vec<Pair>, Box<dyn Error>> {
    let bytes = EncryptedCost::of(d_in as u64, d_out as u64)?;
    let head = Head::sealed(d_in, d_out)?;
    let meta = head.layer().meta();
    // Before other work frees memory that would be used again.
    let grown = if meta.body_bytes() >= PIECE {
        Some(resident_growth(meta)?)
    } else {
        None
    };
    let (predicted, measured) = shortest(&head, (d_in, d_out))?;
    let [seal, guest, key_manager] = [0, 1, 2].map(|time| [predicted[time], measured[time]]);
    let mut pairs = vec![
        (
            "published_bytes",
            "bytes",
            [bytes.published_bytes as f64, meta.body_bytes() as f64],
        ),
        (
            "row_bytes",
            "bytes",
            [bytes.row_bytes as f64, head.row_bytes()? as f64],
        ),
        ("seal_seconds", "s", seal),
        ("guest_us_per_row", "µs", guest.map(|seconds| seconds * 1e6)),
        (
            "key_manager_us_per_row",
            "µs",
            key_manager.map(|seconds| seconds * 1e6),
        ),
    ];
    pairs.extend(grown.map(|grown| {
        let sides = [bytes.guest_bytes as f64, grown as f64];
        ("guest_bytes", "bytes", sides)
    }));
    Ok(pairs)
}

/// Seconds of sealing, and of guest and key manager per row.
type Times = [f64; 3];

/// The shortest predicted and the shortest measured times of some rounds.
fn shortest(head: &Head, shape: (usize, usize)) -> Result<(Times, Times), Box<dyn Error>> {
    let (mut predicted, mut measured) = ([f64::INFINITY; 3], [f64::INFINITY; 3]);
    for _ in 0..ROUNDS {
        let times = PredictedTimes::measured(SET, shape, || Clock::ThisThread.now())?;
        let times = [
            times.seal_seconds,
            times.guest_seconds_per_row,
            times.key_manager_seconds_per_row,
        ];
        predicted = pairwise(predicted, times);
        let times = [
            head.weights() as f64 / (head.sealing().value * 1e6),
            head.evaluation_seconds(BATCH),
            head.key_manager()?.value / 1e6,
        ];
        measured = pairwise(measured, times);
    }
    Ok((predicted, measured))
}

fn pairwise(one: Times, other: Times) -> Times {
    std::array::from_fn(|time| one[time].min(other[time]))
}

/// Bytes of resident memory that reading a layer adds. Of a layer of a few pages it tells nothing.
fn resident_growth(meta: &LayerMeta) -> Result<u64, Box<dyn Error>> {
    let piece = vec![1; PIECE.min(meta.body_bytes())];
    let before = resident()?;
    let mut reader = LayerReader::new(meta.clone());
    let mut left = meta.body_bytes();
    while left > 0 {
        let taken = left.min(piece.len());
        reader.push(&piece[..taken])?;
        left -= taken;
    }
    let layer = black_box(reader.finish()?);
    let after = resident()?;
    drop(layer);
    Ok(after.saturating_sub(before))
}

fn resident() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).ok_or("statm is empty")?;
    Ok(pages.parse::<u64>()? * PAGE)
}
