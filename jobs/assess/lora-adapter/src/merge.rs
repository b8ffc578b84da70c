//! The product of an adapter.

/// A matrix of weights, row by row.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
}

/// Adds scale · B·A to `weights`: A is [rank, width], B [rows, rank].
///
/// Sums are taken in `f64` and rounded to `f32` once.
pub(crate) fn add_product(weights: &mut [f32], b: Rows<'_>, a: Rows<'_>, scale: f64) {
    let rows = weights.chunks_exact_mut(a.width);
    let mut sums = zeroize::Zeroizing::new(vec![0.0_f64; a.width]);
    for (row, factors) in rows.zip(b.values.chunks_exact(b.width)) {
        sums.fill(0.0);
        for (factor, directions) in factors.iter().zip(a.values.chunks_exact(a.width)) {
            for (sum, direction) in sums.iter_mut().zip(directions) {
                *sum += f64::from(*factor) * f64::from(*direction);
            }
        }
        for (weight, sum) in row.iter_mut().zip(sums.iter()) {
            *weight = (f64::from(*weight) + scale * sum) as f32;
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_product_is_scaled_and_added() {
        let mut weights = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let b = Rows {
            values: &[1.0, 2.0],
            width: 1,
        };
        let a = Rows {
            values: &[3.0, 4.0, 5.0],
            width: 3,
        };
        add_product(&mut weights, b, a, 0.5);
        assert_eq!(weights, [2.5, 2.0, 2.5, 4.0, 4.0, 5.0]);
    }

    proptest! {
        #[test]
        fn each_weight_gains_the_dot_product_of_its_row_and_column(
            (rank, width, b, a) in (1_usize..4, 1_usize..6).prop_flat_map(|(rank, width)| (
                Just(rank),
                Just(width),
                proptest::collection::vec(-8_i8..8, 3 * rank),
                proptest::collection::vec(-8_i8..8, rank * width),
            )),
        ) {
            let floats = |values: &[i8]| values.iter().map(|v| f32::from(*v)).collect::<Vec<_>>();
            let (b, a) = (floats(&b), floats(&a));
            let mut weights = vec![1.0; 3 * width];
            add_product(
                &mut weights,
                Rows { values: &b, width: rank },
                Rows { values: &a, width },
                2.0,
            );
            for row in 0..3 {
                for column in 0..width {
                    let dot: f32 = (0..rank).map(|k| b[row * rank + k] * a[k * width + column]).sum();
                    prop_assert_eq!(weights[row * width + column], 1.0 + 2.0 * dot);
                }
            }
        }
    }
}
