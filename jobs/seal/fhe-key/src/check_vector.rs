//! The secret that tells the sums of this layer's columns from all other integers.
//!
//! With r uniform modulo a prime p > 2·max|Y| and u_j = Σ_k r_k·b[j,k] made when the layer is
//! sealed, honest sums satisfy Σ_k r_k·Y_k ≡ Σ_j x_j·u_j (mod p). For any others, even one that
//! is off by one in one output, this holds with probability 1/p. Without the check a guest and a
//! user who collude bisect the noise through rounded answers and recover a block key.

use sealift_fhe_layer::{ParameterSet, Sums};
use zeroize::{Zeroize, Zeroizing};

use crate::ring::{NoRandomness, fill_random};

/// The Mersenne prime 2^61 − 1 or 2^89 − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckPrime {
    log2: u32,
}

impl CheckPrime {
    pub(crate) fn of(set: ParameterSet) -> Self {
        Self {
            log2: set.check_prime_log2(),
        }
    }

    /// p.
    pub(crate) fn value(self) -> u128 {
        (1 << self.log2) - 1
    }

    /// Bytes of one residue in binary forms.
    pub(crate) fn residue_bytes(self) -> usize {
        self.log2.div_ceil(8) as usize
    }

    fn reduce(self, value: u128) -> u128 {
        let folded = (value & self.value()) + (value >> self.log2);
        let folded = (folded & self.value()) + (folded >> self.log2);
        if folded >= self.value() {
            folded - self.value()
        } else {
            folded
        }
    }

    fn add(self, a: u128, b: u128) -> u128 {
        self.reduce(a + b)
    }

    /// a·b of residues below 2^89.
    fn mul(self, a: u128, b: u128) -> u128 {
        if self.log2 == 61 {
            return self.reduce(a * b);
        }
        // Halves of 45 bits: 2^90 ≡ 2 and 2^89 ≡ 1 modulo 2^89 − 1, and nothing exceeds u128.
        let low = |v: u128| v & ((1 << 45) - 1);
        let (a1, a0, b1, b0) = (a >> 45, low(a), b >> 45, low(b));
        let middle = a1 * b0 + a0 * b1;
        let middle = (middle >> 44) + ((middle & ((1 << 44) - 1)) << 45);
        self.reduce(self.reduce(2 * a1 * b1) + self.reduce(middle) + self.reduce(a0 * b0))
    }

    /// Σ secret·value of residues below p and at most 2^18 values within ±2^95, with one
    /// reduction at the end.
    ///
    /// Secrets are cut at 61 bits and values at 48, so that no sum of products leaves its type.
    fn dot(self, secrets: impl Iterator<Item = u128>, values: impl Iterator<Item = i128>) -> u128 {
        let (mut low_low, mut high_low) = (0_u128, 0_u128);
        let (mut low_high, mut high_high) = (0_i128, 0_i128);
        for (secret, value) in secrets.zip(values) {
            let (low, high) = ((secret & ((1 << 61) - 1)) as u64, (secret >> 61) as u32);
            let (value_low, value_high) = (value as u64 & ((1 << 48) - 1), (value >> 48) as i64);
            low_low += u128::from(low) * u128::from(value_low);
            low_high += i128::from(low) * i128::from(value_high);
            high_low += u128::from(high) * u128::from(value_low);
            high_high += i128::from(high) * i128::from(value_high);
        }
        let join = |low: u128, high: i128| {
            self.add(
                self.reduce(low),
                self.mul(self.residue(high), self.reduce(1 << 48)),
            )
        };
        let high = self.mul(join(high_low, high_high), self.reduce(1 << 61));
        self.add(join(low_low, low_high), high)
    }

    /// As [`Self::dot`] with p = 2^61 − 1 for any values of 64 bits: one multiplication each.
    ///
    /// Eight products stay within i128. Their sum is folded at 2^61 ≡ 1, and 2^15 folded sums
    /// stay far within i128 again.
    fn dot_narrow(self, secrets: &[u64], values: &[i64]) -> u128 {
        debug_assert_eq!(self.log2, 61, "secrets have 61 bits");
        let product =
            |(secret, value): (&u64, &i64)| i128::from(secret.cast_signed()) * i128::from(*value);
        let (secrets, last_secrets) = secrets.as_chunks::<PRODUCTS_AT_ONCE>();
        let (values, last_values) = values.as_chunks::<PRODUCTS_AT_ONCE>();
        let sums = secrets.iter().zip(values);
        let sums = sums.map(|(secrets, values)| secrets.iter().zip(values).map(product).sum());
        let last: i128 = last_secrets.iter().zip(last_values).map(product).sum();
        let (mut low, mut high) = (0_u128, 0_i128);
        for sum in sums.chain([last]) {
            low += sum.cast_unsigned() & self.value();
            high += sum >> self.log2;
        }
        self.add(self.reduce(low), self.residue(high))
    }

    fn residue(self, value: i128) -> u128 {
        value.rem_euclid(self.value().cast_signed()).cast_unsigned()
    }
}

/// Products of 61 bits by 64 whose sum fits 128 bits with a sign.
const PRODUCTS_AT_ONCE: usize = 8;

/// r in as few bytes as its prime needs: it is read as a whole for every row.
enum Secrets {
    /// Below 2^61 − 1.
    Narrow(Zeroizing<Vec<u64>>),
    Wide(Zeroizing<Vec<u128>>),
}

impl Secrets {
    fn of(prime: CheckPrime, residues: impl ExactSizeIterator<Item = u128>) -> Self {
        // Collected from an exact size, so that no copy is left behind by growing.
        if prime.log2 == 61 {
            Self::Narrow(Zeroizing::new(residues.map(|r| r as u64).collect()))
        } else {
            Self::Wide(Zeroizing::new(residues.collect()))
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Narrow(r) => r.len(),
            Self::Wide(r) => r.len(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = u128> {
        let (narrow, wide): (&[u64], &[u128]) = match self {
            Self::Narrow(r) => (r, &[]),
            Self::Wide(r) => (&[], r),
        };
        narrow
            .iter()
            .map(|r| u128::from(*r))
            .chain(wide.iter().copied())
    }
}

/// r and u, residues modulo p.
pub(crate) struct CheckVector {
    prime: CheckPrime,
    r: Secrets,
    u: Zeroizing<Vec<u128>>,
}

impl CheckVector {
    /// Draws r for `d_out` outputs; u is empty until the `d_in` columns come.
    pub(crate) fn generate(
        set: ParameterSet,
        d_in: usize,
        d_out: usize,
    ) -> Result<Self, NoRandomness> {
        let prime = CheckPrime::of(set);
        // Reserved in full, so that no copy is left behind by growing.
        let [mut r, u] = [d_out, d_in].map(|count| Zeroizing::new(Vec::with_capacity(count)));
        for _ in 0..d_out {
            r.push(uniform(prime)?);
        }
        let r = Secrets::of(prime, r.iter().copied());
        Ok(Self { prime, r, u })
    }

    /// The vector of these residues; `None` if one is not below p.
    pub(crate) fn from_residues(
        set: ParameterSet,
        r: &[u128],
        u: Zeroizing<Vec<u128>>,
    ) -> Option<Self> {
        let prime = CheckPrime::of(set);
        let good = r.iter().chain(u.iter()).all(|v| *v < prime.value());
        good.then(|| Self {
            prime,
            r: Secrets::of(prime, r.iter().copied()),
            u,
        })
    }

    pub(crate) fn r(&self) -> impl Iterator<Item = u128> {
        self.r.iter()
    }

    pub(crate) fn u(&self) -> &[u128] {
        &self.u
    }

    /// Appends u_j of the next column of bodies, which are below 2^48.
    pub(crate) fn push_column(&mut self, bodies: &[i64]) {
        let sum = match &self.r {
            Secrets::Narrow(r) => self.prime.dot_narrow(r, bodies),
            Secrets::Wide(r) => {
                let bodies = bodies.iter().map(|body| i128::from(*body));
                self.prime.dot(r.iter().copied(), bodies)
            }
        };
        self.u.push(sum);
    }

    /// Whether `y` is Σ_j x_j·b_j over the columns that this vector was made for.
    pub(crate) fn holds(&self, x: &[i8], y: &Sums) -> bool {
        if self.r.len() != y.len() || self.u.len() != x.len() {
            return false;
        }
        let found = match (&self.r, y.narrow()) {
            (Secrets::Narrow(r), Some(y)) => self.prime.dot_narrow(r, y),
            _ => self.prime.dot(self.r.iter(), y.iter()),
        };
        let x = x.iter().map(|v| i128::from(*v));
        found == self.prime.dot(self.u.iter().copied(), x)
    }
}

/// A uniform residue: bits of the operating system, drawn again in the one case of p itself.
fn uniform(prime: CheckPrime) -> Result<u128, NoRandomness> {
    loop {
        let mut bytes = [0; 16];
        fill_random(&mut bytes)?;
        let candidate = u128::from_le_bytes(bytes) & prime.value();
        bytes.zeroize();
        if candidate < prime.value() {
            return Ok(candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use proptest::prelude::*;

    use super::*;

    const P89: CheckPrime = CheckPrime { log2: 89 };
    const P61: CheckPrime = CheckPrime { log2: 61 };

    /// a·b by doubling, one bit of b at a time.
    fn slow_mul(p: CheckPrime, a: u128, b: u128) -> u128 {
        (0..p.log2).rev().fold(0, |sum, bit| {
            let doubled = 2 * sum % p.value();
            (doubled + a * (b >> bit & 1)) % p.value()
        })
    }

    proptest! {
        #[test]
        fn products_equal_those_by_doubling(a: u128, b: u128) {
            for p in [P61, P89] {
                let (a, b) = (a % p.value(), b % p.value());
                prop_assert_eq!(p.mul(a, b), slow_mul(p, a, b));
            }
        }

        #[test]
        fn dot_products_equal_sums_of_products(
            pairs in prop::collection::vec((any::<u128>(), -(1_i128 << 68)..(1 << 68)), 0..20),
        ) {
            for p in [P61, P89] {
                let secrets: Vec<u128> = pairs.iter().map(|(s, _)| s % p.value()).collect();
                let products = secrets.iter().zip(&pairs).map(|(s, (_, v))| p.mul(*s, p.residue(*v)));
                let expected = products.fold(0, |sum, product| p.add(sum, product));
                let found = p.dot(secrets.into_iter(), pairs.iter().map(|(_, v)| *v));
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn narrow_dot_products_equal_wide_ones(
            pairs in prop::collection::vec((any::<u64>(), any::<i64>()), 0..40),
        ) {
            let secrets: Vec<u64> = pairs.iter().map(|(s, _)| s % P61.value() as u64).collect();
            let values: Vec<i64> = pairs.iter().map(|(_, v)| *v).collect();
            let wide = secrets.iter().map(|s| u128::from(*s));
            let expected = P61.dot(wide, values.iter().map(|v| i128::from(*v)));
            prop_assert_eq!(P61.dot_narrow(&secrets, &values), expected);
        }

        #[test]
        fn residues_of_signed_sums_are_right(value in -(1_i128 << 68)..(1 << 68)) {
            for p in [P61, P89] {
                let negated = p.residue(-value);
                prop_assert_eq!(p.add(p.residue(value), negated), 0);
                prop_assert!(p.residue(value) < p.value());
            }
        }
    }

    #[test]
    fn the_longest_dot_product_of_the_largest_values_overflows_nothing() {
        use sealift_fhe_layer::MAX_D_OUT;
        for (p, largest) in [(P61, 1_i128 << 60), (P89, 1 << 68)] {
            for value in [largest, -largest, (1 << 48) - 1, -1] {
                let secrets = repeat_n(p.value() - 1, MAX_D_OUT);
                let found = p.dot(secrets, repeat_n(value, MAX_D_OUT));
                // (p − 1)·v ≡ −v
                let expected = p.mul(p.residue(-value), MAX_D_OUT as u128);
                assert_eq!(found, expected, "{p:?} {value}");
            }
        }
        let secrets = vec![P61.value() as u64 - 1; MAX_D_OUT];
        for value in [i64::MIN, i64::MAX] {
            let found = P61.dot_narrow(&secrets, &vec![value; MAX_D_OUT]);
            let expected = P61.mul(P61.residue(-i128::from(value)), MAX_D_OUT as u128);
            assert_eq!(found, expected, "{value}");
        }
    }

    #[test]
    fn products_at_the_edges_are_right() {
        for p in [P61, P89] {
            let top = p.value() - 1;
            assert_eq!(p.mul(top, top), 1);
            assert_eq!(p.mul(top, 1), top);
            assert_eq!(p.mul(0, top), 0);
        }
    }
}
