//! Sealing and opening: bytes per CPU-second against AES-256-GCM alone and against the package
//! that the container's form comes from, scaling with threads, and peak memory.
//!
//! Models and sealed folders are made in `target/bench/seal` and removed. Every measurement is a
//! process of its own, so that its CPU time and its peak of resident memory are its own.

mod child;
mod model;
mod peers;

use std::{error::Error, fs, path::Path};

pub(crate) use child::{CHILD, run as run_child};

use crate::{
    figure::Figure,
    seal::{
        child::{Measured, Task, measure},
        model::PlainModel,
        peers::{CryptoTensors, openssl_bytes_per_second},
    },
};

const COMMAND: &str = "make bench ONLY=seal";

/// Where everything is made.
const FOLDER: &str = "target/bench/seal";

/// Bytes of the model whose speed is measured.
const SPEED_BYTES: u64 = 1 << 30;

/// Bytes of the model whose peak of memory is measured: well above what a peak may be.
const PEAK_BYTES: u64 = 2 << 30;

/// Rounds in which the contenders take turns, of which the fastest of each counts.
const ROUNDS: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What AES-256-GCM alone is measured as.
const OPENSSL: &str = "openssl speed -evp aes-256-gcm -bytes 16384, one thread, user time";

/// What the other implementation is measured as.
const PEER: &str = "PyPI cryptotensors 0.2.3 on the same model and disk, CPU time";

/// Every figure of sealing and opening.
pub(crate) fn figures() -> Result<Vec<Figure>> {
    let folder = Path::new(FOLDER);
    remove(folder)?;
    fs::create_dir_all(folder)?;
    let measured = speed(folder).and_then(|mut figures| {
        figures.extend(peaks(folder)?);
        Ok(figures)
    });
    remove(folder)?;
    measured
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The fastest of some rounds.
struct Fastest(Measured);

impl Fastest {
    fn none() -> Self {
        Self(Measured {
            cpu_seconds: f64::INFINITY,
            wall_seconds: f64::INFINITY,
            peak_kib: 0,
        })
    }

    fn take(&mut self, next: &Measured) {
        self.0.cpu_seconds = self.0.cpu_seconds.min(next.cpu_seconds);
        self.0.wall_seconds = self.0.wall_seconds.min(next.wall_seconds);
        self.0.peak_kib = self.0.peak_kib.max(next.peak_kib);
    }

    /// Bytes of the model per CPU-second of all threads.
    fn rate(&self) -> f64 {
        SPEED_BYTES as f64 / self.0.cpu_seconds
    }
}

fn speed(folder: &Path) -> Result<Vec<Figure>> {
    let model = PlainModel::make(&folder.join("speed"), SPEED_BYTES)?;
    let peer = CryptoTensors::install()?;
    let sealed = folder.join("sealed");
    let theirs = folder.join("cryptotensors.safetensors");
    let (mut openssl, mut sha256) = (0.0_f64, 0.0_f64);
    let [mut seal, mut seal_2, mut open, mut open_2] = [(); 4].map(|()| Fastest::none());
    let [mut seal_peer, mut open_peer, mut stream, mut memory] = [(); 4].map(|()| Fastest::none());
    for _ in 0..ROUNDS {
        openssl = openssl.max(openssl_bytes_per_second("aes-256-gcm")?);
        sha256 = sha256.max(openssl_bytes_per_second("sha256")?);
        seal_2.take(&measure(Task::Seal, &model, (&sealed, 2))?);
        seal.take(&measure(Task::Seal, &model, (&sealed, 1))?);
        stream.take(&measure(Task::Stream, &model, (&sealed, 1))?);
        // A virtual machine gives free memory back to its host, and taking it again costs more
        // than decrypting. So everybody who takes memory gets what a process has just freed.
        let mut take_memory = || -> Result<()> {
            memory.take(&measure(Task::Memory, &model, (&sealed, 1))?);
            Ok(())
        };
        take_memory()?;
        open_2.take(&measure(Task::Open, &model, (&sealed, 2))?);
        take_memory()?;
        open.take(&measure(Task::Open, &model, (&sealed, 1))?);
        take_memory()?;
        seal_peer.take(&peer.seal(&model, &theirs)?);
        take_memory()?;
        open_peer.take(&peer.open(&theirs)?);
        remove(&sealed)?;
        fs::remove_file(&theirs)?;
    }
    model.remove()?;
    let seal_limit = limit([openssl, sha256, sha256]);
    let open_limit = limit([openssl, memory.rate()]);
    Ok(vec![
        ratio("seal.seal.ratio_openssl", seal.rate() / openssl).against(OPENSSL),
        ratio("seal.open.ratio_openssl", open.rate() / openssl).against(OPENSSL),
        ratio("seal.stream.ratio_openssl", stream.rate() / openssl).against(OPENSSL),
        ratio("seal.seal.ratio_limit", seal.rate() / seal_limit).against(SEAL_LIMIT),
        ratio("seal.open.ratio_limit", open.rate() / open_limit).against(OPEN_LIMIT),
        ratio(
            "seal.seal.ratio_cryptotensors",
            seal.rate() / seal_peer.rate(),
        )
        .against(PEER),
        ratio(
            "seal.open.ratio_cryptotensors",
            open.rate() / open_peer.rate(),
        )
        .against(PEER),
        ratio("seal.seal.scaling_2_threads", scaling(&seal, &seal_2)).against(WALL),
        ratio("seal.open.scaling_2_threads", scaling(&open, &open_2)).against(WALL),
        gigabytes("seal.seal.gb_per_cpu_s", seal.rate()),
        gigabytes("seal.open.gb_per_cpu_s", open.rate()),
        gigabytes("seal.stream.gb_per_cpu_s", stream.rate()),
        gigabytes("seal.openssl.gb_per_cpu_s", openssl),
        gigabytes("seal.sha256.gb_per_cpu_s", sha256),
        gigabytes("seal.new_memory.gb_per_cpu_s", memory.rate()),
    ])
}

/// What nothing that seals to a signed folder can do without.
const SEAL_LIMIT: &str = "AES-256-GCM once and SHA-256 twice, by openssl speed";

/// What nothing that opens into memory can do without.
const OPEN_LIMIT: &str = "AES-256-GCM by openssl speed, and taking the memory from the kernel";

/// The rate of several passes over the same bytes, one after the other.
fn limit<const N: usize>(rates: [f64; N]) -> f64 {
    1.0 / rates.into_iter().map(f64::recip).sum::<f64>()
}

/// What scaling is measured against.
const WALL: &str = "one thread, time on the wall";

fn scaling(one: &Fastest, two: &Fastest) -> f64 {
    one.0.wall_seconds / two.0.wall_seconds
}

/// The highest peak of a process that seals, and of one that opens part by part.
fn peaks(folder: &Path) -> Result<Vec<Figure>> {
    let model = PlainModel::make(&folder.join("peak"), PEAK_BYTES)?;
    let sealed = folder.join("sealed");
    let seal = measure(Task::Seal, &model, (&sealed, 2))?;
    let stream = measure(Task::Stream, &model, (&sealed, 1))?;
    model.remove()?;
    let megabytes =
        |name: &str, kib: u64| Figure::new(name, kib as f64 * 1024.0 / 1e6, "MB resident", COMMAND);
    Ok(vec![
        megabytes("seal.peak_mb", seal.peak_kib.max(stream.peak_kib)),
        megabytes("seal.seal.peak_mb", seal.peak_kib),
        megabytes("seal.stream.peak_mb", stream.peak_kib),
    ])
}

fn ratio(name: &str, value: f64) -> Figure {
    Figure::new(name, value, "ratio", COMMAND).more_is_better()
}

fn gigabytes(name: &str, bytes_per_second: f64) -> Figure {
    Figure::new(name, bytes_per_second / 1e9, "GB per CPU-second", COMMAND).more_is_better()
}
