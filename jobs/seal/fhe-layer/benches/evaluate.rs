//! What an encrypted layer costs against the same layer in plain f32, in one run on one thread.
//!
//! The f32 side is a hand-written product over prepacked weights where the machine has AVX-512,
//! because a slow baseline would flatter us; there is no baseline elsewhere. Repetitions are
//! interleaved and the least time counts.
//!
//! `cargo bench -p sealift-fhe-layer` (or `cargo test --bench evaluate` for the dev profile, in
//! which this crate is optimised too).

#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports to whoever runs it"
)]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Duration;

use sealift_fhe_layer::{EncryptedLayer, LayerMeta, MaskSeed, ParameterSet, ScaleRange};

const SHAPES: [(usize, usize); 3] = [(384, 30_522), (768, 1000), (384, 2)];
const BATCHES: [usize; 3] = [1, 32, 256];
const REPETITIONS: usize = 3;
const LEAST_TIME: Duration = Duration::from_millis(100);

fn main() {
    println!(
        "{:>15} {:>6} {:>8} {:>10} {:>7}",
        "shape", "batch", "set", "µs/item", "× f32"
    );
    for (d_in, d_out) in SHAPES {
        for batch in BATCHES {
            measure(d_in, d_out, batch);
        }
    }
}

fn measure(d_in: usize, d_out: usize, batch: usize) {
    let layers: Vec<EncryptedLayer> = ParameterSet::ALL
        .iter()
        .map(|set| layer(*set, d_in, d_out))
        .collect();
    let xs: Vec<Vec<i8>> = (0..batch)
        .map(|item| {
            (0..d_in)
                .map(|j| ((item * 31 + j * 7) % 255) as i8)
                .map(|v| v.max(-127))
                .collect()
        })
        .collect();
    let xs: Vec<&[i8]> = xs.iter().map(Vec::as_slice).collect();
    let plain = f32_layer::Packed::new(d_in, d_out);
    let floats = f32_layer::pack(&xs);

    let mut sums = vec![Vec::new(); layers.len()];
    let mut answers = vec![vec![0.0; d_out]; batch];
    let mut least = [Duration::MAX; 4];
    for _ in 0..REPETITIONS {
        for ((layer, sums), least) in layers.iter().zip(&mut sums).zip(&mut least) {
            *least = (*least).min(time(|| {
                let one = NonZeroUsize::MIN;
                layer
                    .evaluate_batch_into(&xs, one, sums)
                    .expect("good activations");
                black_box(&mut *sums);
            }));
        }
        if let Some(plain) = &plain {
            least[3] = least[3].min(time(|| {
                plain.multiply(&floats, &mut answers);
                black_box(&answers);
            }));
        }
    }
    let per_item = |time: Duration| time.as_secs_f64() * 1e6 / batch as f64;
    for (set, time) in ParameterSet::ALL.iter().zip(least) {
        let ratio = plain.as_ref().map(|_| per_item(time) / per_item(least[3]));
        let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let shape = format!("{d_in}x{d_out}");
        let set = format!("{set:?}");
        println!(
            "{shape:>15} {batch:>6} {set:>8} {:>10.1} {ratio:>7}",
            per_item(time)
        );
    }
}

fn layer(set: ParameterSet, d_in: usize, d_out: usize) -> EncryptedLayer {
    let scale = ScaleRange::new(0.001, 0.1).expect("a good range");
    let bound = 127 * 127 * d_in as u64;
    let seed = MaskSeed::from_bytes([0; 16]);
    let meta = LayerMeta::new("head", (set, d_in, d_out), seed, scale, bound).expect("good facts");
    let body: Vec<u8> = (0..meta.body_bytes())
        .map(|i| (i * 37 + i / 255) as u8)
        .collect();
    EncryptedLayer::from_bytes(meta, &body).expect("a body of the right length")
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

#[cfg(not(target_arch = "x86_64"))]
mod f32_layer {
    pub(super) struct Packed;

    impl Packed {
        pub(super) fn new(_d_in: usize, _d_out: usize) -> Option<Self> {
            None
        }

        pub(super) fn multiply(&self, _batch: &(), _sums: &mut [Vec<f32>]) {}
    }

    pub(super) fn pack(_xs: &[&[i8]]) {}
}

/// y = W·x in f32, weights prepacked for 32 outputs × 12 items of accumulators.
#[cfg(target_arch = "x86_64")]
mod f32_layer {
    use std::arch::x86_64::{
        __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };

    const OUTPUTS: usize = 32;

    pub(super) struct Packed {
        d_in: usize,
        weights: Vec<[f32; OUTPUTS]>,
    }

    impl Packed {
        pub(super) fn new(d_in: usize, d_out: usize) -> Option<Self> {
            let weights = vec![[0.5; OUTPUTS]; d_in * d_out.div_ceil(OUTPUTS)];
            is_x86_feature_detected!("avx512f").then_some(Self { d_in, weights })
        }

        #[expect(unsafe_code, reason = "the constructor found the instructions")]
        pub(super) fn multiply(&self, batch: &[Group], sums: &mut [Vec<f32>]) {
            for (block, weights) in self.weights.chunks_exact(self.d_in).enumerate() {
                let from = block * OUTPUTS;
                let mut rest = &mut *sums;
                for group in batch {
                    match group {
                        Group::Twelve(xs) => {
                            let rows = rest.split_off_mut(..12).expect("twelve rows");
                            unsafe { block_sums(weights, xs, rows, from) }
                        }
                        Group::Four(xs) => {
                            let rows = rest.split_off_mut(..4).expect("four rows");
                            unsafe { block_sums(weights, xs, rows, from) }
                        }
                        Group::One(xs) => {
                            let rows = rest.split_off_mut(..1).expect("a row");
                            unsafe { block_sums(weights, xs, rows, from) }
                        }
                    }
                }
            }
        }
    }

    /// Items that are multiplied together, input by input.
    pub(super) enum Group {
        Twelve(Vec<[f32; 12]>),
        Four(Vec<[f32; 4]>),
        One(Vec<[f32; 1]>),
    }

    /// Packs a batch; not part of the measured time.
    pub(super) fn pack(mut xs: &[&[i8]]) -> Vec<Group> {
        let mut groups = Vec::new();
        while !xs.is_empty() {
            let items;
            (groups, items) = match xs.len() {
                12.. => (pushed(groups, Group::Twelve(together(xs))), 12),
                4.. => (pushed(groups, Group::Four(together(xs))), 4),
                _ => (pushed(groups, Group::One(together(xs))), 1),
            };
            xs = &xs[items..];
        }
        groups
    }

    fn pushed(mut groups: Vec<Group>, group: Group) -> Vec<Group> {
        groups.push(group);
        groups
    }

    fn together<const M: usize>(xs: &[&[i8]]) -> Vec<[f32; M]> {
        (0..xs[0].len())
            .map(|j| std::array::from_fn(|m| f32::from(xs[m][j])))
            .collect()
    }

    #[target_feature(enable = "avx512f")]
    fn block_sums<const M: usize>(
        weights: &[[f32; OUTPUTS]],
        xs: &[[f32; M]],
        sums: &mut [Vec<f32>],
        from: usize,
    ) {
        let mut acc = [[_mm512_setzero_ps(); 2]; M];
        accumulate(weights, xs, &mut acc);
        for (sums, acc) in sums.iter_mut().zip(acc) {
            let values = acc.map(lanes);
            let sums = &mut sums[from..];
            for (sums, values) in sums.chunks_mut(16).zip(&values) {
                sums.copy_from_slice(&values[..sums.len()]);
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline(never)]
    fn accumulate<const M: usize>(
        weights: &[[f32; OUTPUTS]],
        xs: &[[f32; M]],
        sums: &mut [[__m512; 2]; M],
    ) {
        let mut acc = [[_mm512_setzero_ps(); 2]; M];
        for (weights, xs) in weights.iter().zip(xs) {
            let (halves, _) = weights.as_chunks::<16>();
            let halves = [load(&halves[0]), load(&halves[1])];
            for (acc, x) in acc.iter_mut().zip(xs) {
                let x = _mm512_set1_ps(*x);
                for (acc, half) in acc.iter_mut().zip(halves) {
                    *acc = _mm512_fmadd_ps(half, x, *acc);
                }
            }
        }
        *sums = acc;
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    #[expect(
        unsafe_code,
        reason = "the array is 64 bytes long; the load needs no alignment"
    )]
    fn load(half: &[f32; 16]) -> __m512 {
        unsafe { _mm512_loadu_ps(half.as_ptr()) }
    }

    #[inline]
    #[expect(unsafe_code, reason = "both are 64 bytes of plain numbers")]
    fn lanes(register: __m512) -> [f32; 16] {
        unsafe { std::mem::transmute(register) }
    }
}
