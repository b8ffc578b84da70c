//! Products of a mask and a binary secret in Z_q[X]/(X^N + 1), exact, by Fourier transform.
//!
//! A mask below 2^48 is cut into two parts below 2^24, so that a part's product with a secret is
//! an integer within ±2^35 that double precision finds exactly. The error of a product of
//! polynomials x and y by transforms of 2^n points, twiddles and twists good to β, is at most
//! ‖x‖·‖y‖·((1 + ε)^(3n)·(1 + √5·ε)^(3n+1)·(1 + β)^(3n) − 1) in each coefficient (Percival 2003, with
//! the √5 of Brent, Percival and Zimmermann, "Error bounds on complex floating-point
//! multiplication", 2007). With
//! ε = 2^-53, β ≤ 2^-51, n = 11 (ten of the transform and the twist), ‖x‖ ≤ 2^24·√N and ‖y‖ ≤ √N that
//! is below 2^-9, and an integer is told from its neighbours by an error below 2^-1.
//!
//! Decryption rounds to multiples of Δ, which are far apart, and needs no exact product: it takes
//! a mask as one number in ±2^47, ‖x‖ ≤ 2^47·√N, whose products are good to 2^13 by the same
//! bound. Every noise plan leaves room for that ([`sealift_fhe_layer::TRANSFORM_ERROR`]). Masks that are encrypted
//! under are multiplied exactly.

use std::f64::consts::PI;
use std::num::Wrapping;
use std::sync::LazyLock;

use dyn_stack::PodStack;
use pulp::Arch;
use sealift_fhe_layer::{LOG2_MODULUS, RING_DIMENSION};
use tfhe_fft::c64;
use tfhe_fft::ordered::FftAlgo;
use tfhe_fft::unordered::{Method, Plan};
use zeroize::{Zeroize, Zeroizing};

use crate::ring::{MODULUS_MASK, Polynomial, zero};

/// Points of a transform: a polynomial p is folded into p_j + i·p_{j + N/2}.
const POINTS: usize = RING_DIMENSION / 2;

/// Bits of the parts that a mask is cut into.
const PART_BITS: u32 = LOG2_MODULUS / 2;

const PARTS: usize = 2;

/// Points of the transforms at the bottom of the recursion. Fixed, so that every run computes
/// the same; a plan that measures would also hold up whoever asks first.
const BASE_POINTS: usize = 128;

/// Words that the stack of a plan may lose to alignment.
const ALIGNMENT: usize = 16;

/// 1.5·2^52: added to a number within ±2^51, it leaves the nearest integer in the low bits.
const INTEGER: f64 = 6_755_399_441_055_744.0;

/// Tables of constants; nothing secret.
struct Tables {
    plan: Plan,
    /// ζ^j with ζ = exp(iπ/N), which makes cyclic transforms negacyclic.
    twist: Vec<c64>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let method = Method::UserProvided {
        base_algo: FftAlgo::Dif4,
        base_n: BASE_POINTS,
    };
    let power = |j: usize| {
        let (sine, cosine) = (PI * j as f64 / RING_DIMENSION as f64).sin_cos();
        c64::new(cosine, sine)
    };
    Tables {
        plan: Plan::new(POINTS, method),
        twist: (0..POINTS).map(power).collect(),
    }
});

/// Values of a polynomial at powers of ζ, in the order of the plan. Wiped when dropped.
struct Spectrum(Vec<c64>);

impl Spectrum {
    fn zero(points: usize) -> Self {
        Self(vec![c64::new(0.0, 0.0); points])
    }
}

impl Zeroize for Spectrum {
    fn zeroize(&mut self) {
        for point in &mut self.0 {
            point.re.zeroize();
            point.im.zeroize();
        }
    }
}

/// A binary secret, transformed, and divided by the number of points.
pub(crate) struct TransformedSecret(Zeroizing<Spectrum>);

/// One mask after the other times secrets, in memory that is used again and wiped when dropped.
pub(crate) struct Multiplication {
    tables: &'static Tables,
    /// The parts of the mask, the lowest first.
    mask: [Zeroizing<Spectrum>; PARTS],
    parts: [Zeroizing<Spectrum>; PARTS],
    stack: Zeroizing<Spectrum>,
    product: Polynomial,
}

impl Multiplication {
    pub(crate) fn new() -> Self {
        let spectra = || std::array::from_fn(|_| Zeroizing::new(Spectrum::zero(POINTS)));
        Self {
            tables: &TABLES,
            mask: spectra(),
            parts: spectra(),
            stack: Zeroizing::new(Spectrum::zero(BASE_POINTS + ALIGNMENT)),
            product: zero(),
        }
    }

    /// Takes the mask of the products to come: N residues modulo q.
    pub(crate) fn set_mask(&mut self, mask: &[u64]) {
        for (shift, part) in (0..).step_by(PART_BITS as usize).zip(&mut self.mask) {
            let fold = |word: u64| f64::from((word >> shift) as u32 & ((1 << PART_BITS) - 1));
            twisted(mask, &self.tables.twist, &mut part.0, fold);
            let stack = PodStack::new_any(&mut self.stack.0);
            self.tables.plan.fwd(&mut part.0, stack);
        }
    }

    /// Transforms a binary secret of N coefficients.
    pub(crate) fn transformed(&mut self, secret: &[u64]) -> TransformedSecret {
        let mut spectrum = Zeroizing::new(Spectrum::zero(POINTS));
        // A power of two: exact here, and the inverse transform need not divide.
        let share = 1.0 / POINTS as f64;
        let fold = |bit: u64| f64::from(bit as u32) * share;
        twisted(secret, &self.tables.twist, &mut spectrum.0, fold);
        let stack = PodStack::new_any(&mut self.stack.0);
        self.tables.plan.fwd(&mut spectrum.0, stack);
        TransformedSecret(spectrum)
    }

    /// mask·secret modulo q.
    pub(crate) fn times(&mut self, secret: &TransformedSecret) -> &[u64] {
        for (part, mask) in self.parts.iter_mut().zip(&self.mask) {
            pointwise(&mask.0, &secret.0.0, &mut part.0);
            let stack = PodStack::new_any(&mut self.stack.0);
            self.tables.plan.inv(&mut part.0, stack);
        }
        self.join();
        &self.product
    }

    /// Rounds the parts to integers and puts them together.
    fn join(&mut self) {
        let [low, high] = &self.parts;
        let (first, second) = self.product.split_at_mut(POINTS);
        let products = first.iter_mut().zip(second);
        let points = low.0.iter().zip(&high.0).zip(&self.tables.twist);
        Arch::new().dispatch(|| {
            for ((first, second), ((low, high), twist)) in products.zip(points) {
                let (low, high) = (low * twist.conj(), high * twist.conj());
                *first = joined(low.re, high.re);
                *second = joined(low.im, high.im);
            }
        });
    }
}

/// A few masks times secrets, each product within 2^13 of the exact one; in memory that is used
/// again and wiped when dropped.
pub(crate) struct NearMultiplication {
    tables: &'static Tables,
    masks: Vec<Zeroizing<Spectrum>>,
    points: Zeroizing<Spectrum>,
    stack: Zeroizing<Spectrum>,
    product: Polynomial,
}

impl NearMultiplication {
    /// Room for `masks` masks.
    pub(crate) fn new(masks: usize) -> Self {
        let spectrum = |points| Zeroizing::new(Spectrum::zero(points));
        Self {
            tables: &TABLES,
            masks: (0..masks).map(|_| spectrum(POINTS)).collect(),
            points: spectrum(POINTS),
            stack: spectrum(BASE_POINTS + ALIGNMENT),
            product: zero(),
        }
    }

    /// Takes mask number `index` of the products to come: N integers, of which only the residue
    /// modulo q counts.
    pub(crate) fn set_mask(&mut self, index: usize, mask: &[Wrapping<i64>]) {
        const UNUSED_BITS: u32 = u64::BITS - LOG2_MODULUS;
        let centred = |Wrapping(word): Wrapping<i64>| (word << UNUSED_BITS >> UNUSED_BITS) as f64;
        let spectrum = &mut self.masks[index].0;
        twisted(mask, &self.tables.twist, spectrum, centred);
        let stack = PodStack::new_any(&mut self.stack.0);
        self.tables.plan.fwd(spectrum, stack);
    }

    /// mask·secret modulo q, nearly, of mask number `index`.
    pub(crate) fn times(&mut self, index: usize, secret: &TransformedSecret) -> &[u64] {
        pointwise(&self.masks[index].0, &secret.0.0, &mut self.points.0);
        let stack = PodStack::new_any(&mut self.stack.0);
        self.tables.plan.inv(&mut self.points.0, stack);
        let (first, second) = self.product.split_at_mut(POINTS);
        let products = first.iter_mut().zip(second);
        let points = self.points.0.iter().zip(&self.tables.twist);
        Arch::new().dispatch(|| {
            for ((first, second), (point, twist)) in products.zip(points) {
                let point = point * twist.conj();
                *first = reduced(point.re);
                *second = reduced(point.im);
            }
        });
        &self.product
    }
}

/// The integer nearest to a number within ±2^60, modulo q.
///
/// What is taken off is a multiple of q, and what is left is a multiple of the number's own last
/// place: exact.
#[inline(always)]
fn reduced(value: f64) -> u64 {
    const MODULUS: f64 = (1_u64 << LOG2_MODULUS) as f64;
    let multiple = (value * (1.0 / MODULUS) + INTEGER) - INTEGER;
    let rest = value - multiple * MODULUS;
    (rest + INTEGER).to_bits().wrapping_sub(INTEGER.to_bits()) & MODULUS_MASK
}

/// The integers nearest to two parts, the higher above the lower, modulo q.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn joined(low: f64, high: f64) -> u64 {
    let integer = |value: f64| (value + INTEGER).to_bits().wrapping_sub(INTEGER.to_bits());
    integer(high)
        .wrapping_shl(PART_BITS)
        .wrapping_add(integer(low))
        & MODULUS_MASK
}

/// Folds the words of a polynomial, each made a number by `number`, and twists them.
#[expect(
    clippy::inline_always,
    reason = "compiled once per vector width, in its caller"
)]
#[inline(always)]
fn twisted<W: Copy>(words: &[W], twist: &[c64], points: &mut [c64], number: impl Fn(W) -> f64) {
    let (first, second) = words.split_at(POINTS);
    let words = first.iter().zip(second);
    Arch::new().dispatch(|| {
        for ((point, (first, second)), twist) in points.iter_mut().zip(words).zip(twist) {
            *point = c64::new(number(*first), number(*second)) * twist;
        }
    });
}

fn pointwise(a: &[c64], b: &[c64], products: &mut [c64]) {
    Arch::new().dispatch(|| {
        for (product, (a, b)) in products.iter_mut().zip(a.iter().zip(b)) {
            *product = a * b;
        }
    });
}
