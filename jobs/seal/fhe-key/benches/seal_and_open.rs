//! What an encrypted layer costs its owner (sealing) and the key manager (checking, opening).
//!
//! `cargo bench -p sealift-fhe-key` (or `cargo test --bench seal_and_open` for the dev profile,
//! in which this crate is optimised too). The least of a few repetitions counts, of
//! 32 rows at a time.

#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports to whoever runs it"
)]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Duration;

use sealift_fhe_key::{LayerKeys, PlainLayer};
use sealift_fhe_layer::{EncryptedLayer, ParameterSet, ScaleRange};

const SHAPES: [(usize, usize); 3] = [(384, 2), (768, 1000), (384, 30_522)];
const ROWS: usize = 32;
const REPETITIONS: usize = 3;
const LEAST_TIME: Duration = Duration::from_millis(100);

fn main() {
    println!("       shape      set  seal Mw/s  bundle kB  check µs   open µs");
    for (d_in, d_out) in SHAPES {
        for set in [ParameterSet::P48B40, ParameterSet::P48] {
            measure(set, d_in, d_out);
        }
    }
}

fn measure(set: ParameterSet, d_in: usize, d_out: usize) {
    let weights: Vec<i8> = (0..d_in * d_out)
        .map(|i| (i * 7 % 255) as i8)
        .map(|w| w.max(-127))
        .collect();
    let (scales, bias) = (vec![0.01; d_out], vec![0.5; d_out]);
    let plain = PlainLayer {
        layer: "head",
        weights: &weights,
        row_scales: &scales,
        bias: &bias,
        scale: ScaleRange::new(0.001, 0.1).expect("a good range"),
    };
    let mut sealed = None;
    let sealing = time(|| {
        let keys = LayerKeys::generate(set, d_in, d_out).expect("keys");
        sealed = keys.encrypt(&plain).ok();
    });
    let (bytes, secrets) = sealed.expect("a sealed layer");
    let layer = EncryptedLayer::from_bytes(bytes.meta, &bytes.body).expect("a layer");
    let x: Vec<i8> = (0..d_in).map(|j| (j % 100) as i8).collect();
    let rows = layer
        .evaluate_rows(&[(&x[..], 0.05); ROWS], NonZeroUsize::MIN)
        .expect("rows");

    let grid = secrets.rounding_grid(0.01).expect("a positive step");
    let (mut checking, mut opening) = (Duration::MAX, Duration::MAX);
    for _ in 0..REPETITIONS {
        checking = checking.min(time(|| {
            black_box(secrets.check(&rows).is_ok());
        }));
        let checked = secrets.check(&rows).expect("honest rows");
        opening = opening.min(time(|| {
            checked.logits(Some(&grid), |logits| {
                black_box(logits.is_ok());
            });
        }));
    }
    let speed = (d_in * d_out) as f64 / sealing.as_secs_f64() / 1e6;
    let kilobytes = secrets.to_bytes().len() as f64 / 1e3;
    let [checking, opening] =
        [checking, opening].map(|time| time.as_secs_f64() * 1e6 / ROWS as f64);
    let (shape, set) = (format!("{d_in}x{d_out}"), format!("{set:?}"));
    println!("{shape:>12} {set:>8} {speed:>10.2} {kilobytes:>10.1} {checking:>9.1} {opening:>9.1}");
}

/// Processor time per repetition. Other load on the machine does not add to it; it is counted
/// in ticks of a few milliseconds, hence the repetitions.
fn time(mut work: impl FnMut()) -> Duration {
    let mut repetitions = 1;
    loop {
        let start = processor_time();
        (0..repetitions).for_each(|_| work());
        let passed = processor_time().saturating_sub(start);
        if passed >= LEAST_TIME {
            return passed / repetitions;
        }
        repetitions *= 2;
    }
}

fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.expect("processor time in nanoseconds comes first"))
}
