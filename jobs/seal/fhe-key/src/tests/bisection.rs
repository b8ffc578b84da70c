//! A guest and a user who collude against a block key (ATTACKS: bisection of the noise).
//!
//! The guest posts c·b_j + δ for one column; the user sees whether the rounded answer moved, and
//! δ halves the interval of the noise, for every coefficient at once. Noise known, a_j·s is
//! known, and s is one product with the inverse of a_j modulo 2.

use sealift_fhe_layer::{EncryptedRow, ParameterSet, RING_DIMENSION};

use super::{Sealed, Stream, seal, with_sums};
use crate::open::CheckedRows;
use crate::ring::{Masks, zero};

const D_IN: usize = 384;

/// Answers after which the attacker gives up.
const PATIENCE: usize = 40;

/// The multiple of one column that the attacker posts.
const C: i64 = 127;

/// Posting C·b + `shift` moves the answer by `steps` or more exactly for noise of at least
/// `least_noise`.
struct Test {
    shift: i64,
    steps: i64,
    least_noise: i64,
}

type Answer = Option<Vec<i64>>;

/// What the colluding user is told of a row.
type Oracle<'a> = &'a dyn Fn(&EncryptedRow) -> Answer;

struct Attacker<'a> {
    sealed: &'a Sealed,
    /// A column whose mask is invertible modulo 2.
    j: usize,
    mask: Vec<u64>,
    /// Δ, public where it does not depend on the weights.
    delta: i64,
}

impl<'a> Attacker<'a> {
    fn new(sealed: &'a Sealed) -> Self {
        let mut masks = Masks::new(sealed.bytes.meta.mask_seed());
        let mut mask = zero();
        let odd = |mask: &[u64]| mask.iter().map(|a| a & 1).sum::<u64>() % 2 == 1;
        let mut j = 0;
        masks.next_into(&mut mask);
        while !odd(&mask) {
            masks.next_into(&mut mask);
            j += 1;
        }
        let delta = (1 << 48) / (2 * 127 * 127 * D_IN as i64 + 1);
        Self {
            sealed,
            j,
            mask: mask.to_vec(),
            delta,
        }
    }

    /// Asks for c·b_j + δ.
    fn ask(&self, oracle: Oracle<'_>, shifts: &[i64]) -> Answer {
        let mut x = vec![0; D_IN];
        x[self.j] = C as i8;
        let honest = self.sealed.row(&x);
        let sums = honest
            .y()
            .iter()
            .zip(shifts)
            .map(|(y, shift)| y + i128::from(*shift));
        oracle(&with_sums(&honest, sums.collect()))
    }

    /// The noise of b_j in every coefficient, and the answers that it took.
    fn bisect(&self, oracle: Oracle<'_>) -> Option<(Vec<i64>, Vec<i64>, usize)> {
        let set = self.sealed.bytes.meta.set();
        let largest = 8 + ((1 << set.dropped_bits()) >> 1);
        let base = self.ask(oracle, &[0; RING_DIMENSION])?;
        let weights: Vec<i64> = base.iter().map(|y| y / C).collect();
        let mut noise = vec![(-largest, largest); RING_DIMENSION];
        for answers in 1..PATIENCE {
            if noise.iter().all(|(low, high)| low == high) {
                let noise = noise.into_iter().map(|(low, _)| low).collect();
                return Some((weights, noise, answers));
            }
            let tests: Vec<Test> = noise.iter().map(|range| self.halve(*range)).collect();
            let shifts: Vec<i64> = tests.iter().map(|test| test.shift).collect();
            let answer = self.ask(oracle, &shifts)?;
            for ((k, (low, high)), test) in noise.iter_mut().enumerate().zip(tests) {
                if answer[k] - C * weights[k] >= test.steps {
                    *low = test.least_noise.max(*low);
                } else {
                    *high = (test.least_noise - 1).min(*high);
                }
            }
        }
        None
    }

    /// The test whose threshold is nearest to the middle of the noise that is possible.
    fn halve(&self, (low, high): (i64, i64)) -> Test {
        let unit = 1_i64 << self.sealed.bytes.meta.set().dropped_bits();
        let middle = low + (high - low + 1) / 2;
        // One unit of a rounded body is 256 of the phase. Multiples of the odd Δ reach the others.
        let tests = (1..=64).map(|steps| {
            let to_step = steps * self.delta - self.delta / 2;
            let shift = (to_step - middle * C).div_euclid(unit) + 1;
            let least_noise = (to_step - unit * shift + C - 1).div_euclid(C);
            Test {
                shift,
                steps,
                least_noise,
            }
        });
        tests
            .min_by_key(|test| (test.least_noise - middle).abs())
            .expect("64 tests")
    }

    /// s modulo 2 from a·s = b − Δ·w − noise.
    fn secret(&self, weights: &[i64], noise: &[i64]) -> Vec<bool> {
        let dropped = self.sealed.bytes.meta.set().dropped_bits();
        let product = self
            .sealed
            .column(self.j)
            .into_iter()
            .zip(weights)
            .zip(noise)
            .map(|((body, weight), noise)| {
                let product = (body.cast_signed() << dropped) - self.delta * weight - noise;
                product & 1 == 1
            });
        let product: Vec<bool> = product.collect();
        let mask: Vec<bool> = self.mask.iter().map(|a| a & 1 == 1).collect();
        multiply(&inverse(&mask), &product)
    }
}

/// Product modulo 2 and X^N + 1.
fn multiply(a: &[bool], b: &[bool]) -> Vec<bool> {
    let n = a.len();
    let mut product = vec![false; n];
    for i in (0..n).filter(|i| a[*i]) {
        for (j, bit) in b.iter().enumerate() {
            product[(i + j) % n] ^= bit;
        }
    }
    product
}

/// a^(N−1): modulo 2, a^N = a(X^N) = a(1) = 1.
fn inverse(a: &[bool]) -> Vec<bool> {
    let n = a.len();
    let mut power = a.to_vec();
    let mut inverse = a.to_vec();
    for _ in 1..n.ilog2() {
        let mut square = vec![false; n];
        power
            .iter()
            .enumerate()
            .for_each(|(i, bit)| square[2 * i % n] ^= bit);
        power = square;
        inverse = multiply(&inverse, &power);
    }
    inverse
}

fn layer(set: ParameterSet) -> Sealed {
    seal(set, D_IN, &Stream(23).int8(D_IN * RING_DIMENSION))
}

fn block_secret(sealed: &Sealed) -> Vec<bool> {
    sealed.secrets.blocks[0]
        .coefficients()
        .iter()
        .map(|bit| *bit == 1)
        .collect()
}

#[test]
fn bisecting_bodies_learns_nothing() {
    for set in [ParameterSet::P48, ParameterSet::P48B40] {
        let sealed = layer(set);
        let attacker = Attacker::new(&sealed);
        let asked = std::cell::Cell::new(0);
        let answered = std::cell::Cell::new(0);
        let key_manager = |row: &EncryptedRow| {
            asked.set(asked.get() + 1);
            let opened = sealed.secrets.open(row).ok()?;
            answered.set(answered.get() + 1);
            Some(opened.integers().to_vec())
        };
        assert!(attacker.bisect(&key_manager).is_none());
        assert_eq!(
            (asked.get(), answered.get()),
            (2, 1),
            "only the honest row was answered"
        );
    }
}

#[test]
fn without_the_check_vector_bisection_recovers_a_block_key() {
    for (set, expected) in [(ParameterSet::P48, 6), (ParameterSet::P48B40, 16)] {
        let sealed = layer(set);
        let attacker = Attacker::new(&sealed);
        let no_check = |row: &EncryptedRow| {
            let opened = CheckedRows::unchecked(&sealed.secrets, row)
                .open_first()
                .ok()?;
            Some(opened.integers().to_vec())
        };
        let (weights, noise, answers) = attacker.bisect(&no_check).expect("the noise is found");
        assert!(answers <= expected, "{set:?}: {answers} answers");
        assert!(
            attacker.secret(&weights, &noise) == block_secret(&sealed),
            "{set:?}"
        );
    }
}
