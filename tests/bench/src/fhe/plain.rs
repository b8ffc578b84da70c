//! Plaintext products to compare with: as good as we can make them, because a slow peer would
//! flatter the encrypted layer.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod gemm;
mod packed;

use std::num::NonZeroUsize;

pub(super) use self::gemm::Gemm;
#[cfg(target_arch = "x86_64")]
use self::packed::Packed;

/// A plaintext product y = W·x of a whole batch, packed and with room for its sums.
pub(super) trait Product {
    /// What it is, for the figures that are taken against it.
    fn peer(&self) -> &'static str;

    /// Multiplies. Threads split outputs.
    fn multiply(&mut self, threads: NonZeroUsize);

    /// The sums of one item, and perhaps of padding after its outputs.
    #[cfg(test)]
    fn sums(&self, item: usize) -> Vec<i64>;
}

/// Weights [d_out, d_in] and activations of `shape` (d_in, d_out).
#[derive(Clone, Copy)]
pub(super) struct Problem<'a> {
    pub(super) shape: (usize, usize),
    pub(super) weights: &'a [i8],
    pub(super) xs: &'a [&'a [i8]],
}

/// The fastest products over prepacked weights that this machine has, in f32 and in int8.
#[cfg(target_arch = "x86_64")]
pub(super) fn prepacked(problem: Problem<'_>) -> Option<[Box<dyn Product>; 2]> {
    let float = Packed::<avx512::F32>::new(problem).map(boxed);
    let float = float.or_else(|| Packed::<avx2::F32>::new(problem).map(boxed));
    let bytes = Packed::<avx512::Int8>::new(problem).map(boxed);
    let bytes = bytes.or_else(|| Packed::<avx2::Int8>::new(problem).map(boxed));
    Some([float?, bytes?])
}

#[cfg(target_arch = "x86_64")]
fn boxed<P: Product + 'static>(product: P) -> Box<dyn Product> {
    Box::new(product)
}

/// None is written for these machines; the gemm crate is then the only peer.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn prepacked(_problem: Problem<'_>) -> Option<[Box<dyn Product>; 2]> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every peer that this machine has computes W·x, up to a constant that it leaves out.
    #[test]
    fn every_peer_multiplies_the_same_matrices() {
        for (d_in, d_out, items) in [
            (1, 1, 1),
            (7, 33, 2),
            (30, 16, 6),
            (13, 50, 32),
            (8, 65, 13),
        ] {
            let weights: Vec<i8> = (0..d_in * d_out)
                .map(|i| (i * 7 % 255) as u8 as i8)
                .collect();
            let xs: Vec<Vec<i8>> = (0..items)
                .map(|item| (0..d_in).map(|j| (item * 31 + j * 5) as u8 as i8).collect())
                .collect();
            let xs: Vec<&[i8]> = xs.iter().map(Vec::as_slice).collect();
            let problem = Problem {
                shape: (d_in, d_out),
                weights: &weights,
                xs: &xs,
            };
            let mut peers: Vec<Box<dyn Product>> = vec![Box::new(Gemm::new(problem))];
            peers.extend(prepacked(problem).into_iter().flatten());
            for mut peer in peers {
                for threads in [1, 3] {
                    peer.multiply(NonZeroUsize::new(threads).unwrap());
                    for (item, x) in xs.iter().enumerate() {
                        assert_product(&*peer, problem, (item, x));
                    }
                }
            }
        }
    }

    fn assert_product(peer: &dyn Product, problem: Problem<'_>, (item, x): (usize, &[i8])) {
        let constant: i64 = if peer.peer().contains("VNNI") {
            x.iter().map(|v| 128 * i64::from(*v)).sum()
        } else {
            0
        };
        let rows = problem.weights.chunks_exact(x.len());
        for (row, found) in rows.zip(peer.sums(item)) {
            let pairs = row.iter().zip(x);
            let expected: i64 = pairs.map(|(w, x)| i64::from(*w) * i64::from(*x)).sum();
            assert_eq!(found - constant, expected, "{}", peer.peer());
        }
    }
}
