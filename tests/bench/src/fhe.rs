//! What encrypted layers cost: the guest's product against plaintext products of the same shape,
//! the key manager's work, and sealing.

mod plain;

use std::{error::Error, hint::black_box, num::NonZeroUsize, thread};

use sealift_fhe_key::{EncryptedLayerBytes, LayerKeys, LayerSecrets, PlainLayer};
use sealift_fhe_layer::{
    EncryptedLayer, Kernel, LimbMatrix, LimbMatrixBuilder, ParameterSet, ScaleRange,
};

use self::plain::{Gemm, Problem, Product as _};
use crate::figure::Figure;
use crate::timing::{Clock, medians};

const COMMAND: &str = "make bench ONLY=fhe";

pub(crate) const SET: ParameterSet = ParameterSet::P48B40;

/// Item counts of a batch.
const BATCHES: [usize; 3] = [1, 32, 256];

/// Items of the narrow head's batch and of the key manager's.
pub(crate) const BATCH: usize = 32;

const SCALE: f32 = 0.05;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Every figure of encrypted layers, in the default parameter set.
pub(crate) fn figures() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (d_in, d_out) in [(384, 30_522), (768, 1000)] {
        let head = Head::sealed(d_in, d_out)?;
        for batch in BATCHES {
            ratios(&head, batch, Clock::ThisThread, &mut figures)?;
            ratios(&head, batch, Clock::Wall, &mut figures)?;
        }
        if d_out > 1000 {
            figures.push(head.key_manager()?);
            figures.push(head.sealing());
            figures.push(head.disk());
        }
    }
    let narrow = Head::sealed(384, 2)?;
    figures.push(narrow.item());
    figures.push(narrow.key_manager()?);
    figures.extend(kernels()?);
    Ok(figures)
}

/// An output layer, sealed.
pub(crate) struct Head {
    d_in: usize,
    d_out: usize,
    weights: Vec<i8>,
    layer: EncryptedLayer,
    secrets: LayerSecrets,
}

impl Head {
    pub(crate) fn sealed(d_in: usize, d_out: usize) -> Result<Self> {
        let weights = bytes(d_in * d_out, 7);
        let (layer, secrets) = seal(d_in, &weights)?;
        Ok(Self {
            d_in,
            d_out,
            weights,
            layer,
            secrets,
        })
    }

    fn name(&self) -> String {
        format!("{}x{}", self.d_in, self.d_out)
    }

    pub(crate) fn layer(&self) -> &EncryptedLayer {
        &self.layer
    }

    /// Weights of the layer.
    pub(crate) fn weights(&self) -> usize {
        self.weights.len()
    }

    /// Seconds of the guest per item of a batch, on one thread.
    pub(crate) fn evaluation_seconds(&self, batch: usize) -> f64 {
        let xs = activations(self.d_in, batch);
        let xs: Vec<&[i8]> = xs.iter().map(Vec::as_slice).collect();
        let mut sums = Vec::new();
        let mut evaluate = || {
            let done = self
                .layer
                .evaluate_batch_into(&xs, NonZeroUsize::MIN, &mut sums);
            let _ = black_box((done, &mut sums));
        };
        let [seconds] = medians(Clock::ThisThread, [&mut evaluate]);
        seconds / batch as f64
    }

    /// Bytes of a row's activation and sums on the wire.
    pub(crate) fn row_bytes(&self) -> Result<usize> {
        let x = activations(self.d_in, 1).remove(0);
        let rows = self
            .layer
            .evaluate_rows(&[(x.as_slice(), SCALE)], NonZeroUsize::MIN)?;
        Ok(rows[0].encode().len())
    }

    /// Microseconds of the guest per item.
    fn item(&self) -> Figure {
        let name = format!("fhe.head_{}.b{BATCH}.us_per_item", self.name());
        let microseconds = self.evaluation_seconds(BATCH) * 1e6;
        Figure::new(name, microseconds, "µs", COMMAND)
    }

    /// Microseconds of the key manager per item: check, mask, decryption, rounding. One thread.
    pub(crate) fn key_manager(&self) -> Result<Figure> {
        let xs = activations(self.d_in, BATCH);
        let items: Vec<(&[i8], f32)> = xs.iter().map(|x| (x.as_slice(), SCALE)).collect();
        let rows = self.layer.evaluate_rows(&items, NonZeroUsize::MIN)?;
        let grid = self.secrets.rounding_grid(0.01)?;
        let mut failure = None;
        let mut open = || match self.secrets.check(&rows) {
            Ok(checked) => checked.logits(Some(&grid), |logits| {
                if let Err(error) = black_box(logits) {
                    failure = Some(error.to_string());
                }
            }),
            Err(refused) => failure = Some(refused.reason.to_string()),
        };
        let [seconds] = medians(Clock::ThisThread, [&mut open]);
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        let name = format!("fhe.km.{}.us_per_item", self.name());
        Ok(Figure::new(
            name,
            seconds * 1e6 / BATCH as f64,
            "µs",
            COMMAND,
        ))
    }

    /// Millions of weights sealed per second on one thread, with keys and check vector.
    pub(crate) fn sealing(&self) -> Figure {
        let mut work = || drop(black_box(encrypt(self.d_in, &self.weights)));
        let [seconds] = medians(Clock::ThisThread, [&mut work]);
        let speed = self.weights.len() as f64 / seconds / 1e6;
        let name = "fhe.encrypt.mweights_per_s";
        Figure::new(name, speed, "Mweights/s", COMMAND).more_is_better()
    }

    fn disk(&self) -> Figure {
        let stored =
            self.layer.meta().body_bytes() + self.layer.meta().mask_seed().as_bytes().len();
        let value = stored as f64 / self.weights.len() as f64;
        Figure::new("fhe.disk_bytes_per_weight", value, "bytes", COMMAND)
    }
}

/// The encrypted product over the faster of two f32 products, and over an int8 product.
fn ratios(head: &Head, batch: usize, clock: Clock, figures: &mut Vec<Figure>) -> Result<()> {
    let threads = match clock {
        Clock::ThisThread => NonZeroUsize::MIN,
        Clock::Wall => thread::available_parallelism()?,
    };
    let xs = activations(head.d_in, batch);
    let xs: Vec<&[i8]> = xs.iter().map(Vec::as_slice).collect();
    let problem = Problem {
        shape: (head.d_in, head.d_out),
        weights: &head.weights,
        xs: &xs,
    };
    let mut sums = Vec::new();
    let mut encrypted = || {
        let done = head.layer.evaluate_batch_into(&xs, threads, &mut sums);
        let _ = black_box((done, &mut sums));
    };
    let Some([mut packed, mut bytes]) = plain::prepacked(problem) else {
        return Err("the plaintext products need AVX2 with FMA, or AVX-512 with VNNI".into());
    };
    let mut gemm = Gemm::new(problem);
    let (mut f32_packed, mut f32_gemm, mut int8) = (
        || packed.multiply(threads),
        || gemm.multiply(threads),
        || bytes.multiply(threads),
    );
    let seconds = medians(
        clock,
        [&mut encrypted, &mut f32_packed, &mut f32_gemm, &mut int8],
    );
    let [encrypted, f32_packed, f32_gemm, int8] = seconds;
    let (f32, peer) = if f32_packed <= f32_gemm {
        (f32_packed, packed.peer())
    } else {
        (f32_gemm, gemm.peer())
    };
    let ending = if clock == Clock::Wall {
        ".all_threads"
    } else {
        ""
    };
    let figure = |what: &str, value, unit| {
        let name = format!("fhe.head_{}.b{batch}.{what}{ending}", head.name());
        Figure::new(name, value, unit, COMMAND)
    };
    figures.extend([
        figure("us_per_item", encrypted * 1e6 / batch as f64, "µs"),
        figure("ratio_f32", encrypted / f32, "ratio").against(peer),
        figure("ratio_gemm", encrypted / f32_gemm, "ratio").against(gemm.peer()),
        figure("ratio_int8", encrypted / int8, "ratio").against(bytes.peer()),
    ]);
    Ok(())
}

/// Weights per nanosecond of every kernel of this machine, for information.
fn kernels() -> Result<Vec<Figure>> {
    let (d_in, d_out) = (384, 2048);
    let xs = activations(d_in, BATCH);
    let xs: Vec<&[i8]> = xs.iter().map(Vec::as_slice).collect();
    let speed = |kernel: Kernel| {
        let matrix = limbs(kernel, d_in, d_out)?;
        let mut sums = Vec::new();
        let mut work = || matrix.sums(&xs, NonZeroUsize::MIN, &mut sums);
        let [seconds] = medians(Clock::ThisThread, [&mut work]);
        let name = format!("fhe.kernel.{}.gmac_per_s", kernel.name());
        let value = (d_in * d_out * BATCH) as f64 / seconds / 1e9;
        Ok(Figure::new(name, value, "G/s", COMMAND).more_is_better())
    };
    Kernel::available().into_iter().map(speed).collect()
}

fn limbs(kernel: Kernel, d_in: usize, d_out: usize) -> Result<LimbMatrix> {
    let planes = SET.body_planes();
    let mut matrix = LimbMatrixBuilder::for_kernel(kernel, (d_in, d_out, planes));
    for j in 0..d_in {
        let column = bytes(d_out * planes, j + 3);
        matrix.push_column(&column.iter().map(|v| v.cast_unsigned()).collect::<Vec<_>>());
    }
    matrix.finish().ok_or_else(|| "a column is missing".into())
}

fn seal(d_in: usize, weights: &[i8]) -> Result<(EncryptedLayer, LayerSecrets)> {
    let (bytes, secrets) = encrypt(d_in, weights)?;
    let layer = EncryptedLayer::from_bytes(bytes.meta, &bytes.body)?;
    Ok((layer, secrets))
}

fn encrypt(d_in: usize, weights: &[i8]) -> Result<(EncryptedLayerBytes, LayerSecrets)> {
    let d_out = weights.len() / d_in;
    let (row_scales, bias) = (vec![0.01; d_out], vec![0.5; d_out]);
    let scale = ScaleRange::new(0.001, 0.1)?;
    let plain = PlainLayer {
        layer: "head",
        weights,
        row_scales: &row_scales,
        bias: &bias,
        scale,
    };
    Ok(LayerKeys::generate(SET, d_in, d_out)?.encrypt(&plain)?)
}

fn activations(d_in: usize, batch: usize) -> Vec<Vec<i8>> {
    (0..batch).map(|item| bytes(d_in, 2 * item + 31)).collect()
}

/// Values in [-127, 127], the same in every run.
fn bytes(count: usize, step: usize) -> Vec<i8> {
    (0..count)
        .map(|i| ((i * step + i / 255) % 255) as u8)
        .map(|v| (v.cast_signed()).max(-127))
        .collect()
}
