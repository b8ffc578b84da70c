//! Products of matrices in memory: the one place that hands pointers to the engine's kernels.

use gemm::Parallelism;

/// A matrix that somebody else holds.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> Matrix<'a> {
    /// Rows that begin `step` values apart.
    pub(crate) fn new(values: &'a [f32], [rows, columns]: [usize; 2], step: usize) -> Self {
        assert_inside(values.len(), [rows, columns], step);
        Self {
            values,
            rows,
            columns,
            row_step: step,
            column_step: 1,
        }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
        }
    }
}

/// Where a product goes.
pub(crate) struct Target<'a> {
    values: &'a mut [f32],
    rows: usize,
    columns: usize,
    step: usize,
}

impl<'a> Target<'a> {
    /// Rows that begin `step` values apart and do not overlap.
    pub(crate) fn new(values: &'a mut [f32], [rows, columns]: [usize; 2], step: usize) -> Self {
        assert!(rows <= 1 || step >= columns, "the rows of a target overlap");
        assert_inside(values.len(), [rows, columns], step);
        Self {
            values,
            rows,
            columns,
            step,
        }
    }

    /// Replaces what is there with `scale` · `left` · `right`.
    pub(crate) fn set(self, left: Matrix<'_>, right: Matrix<'_>, scale: f32) {
        assert_eq!(left.columns, right.rows, "the matrices do not fit");
        assert_eq!(
            [self.rows, self.columns],
            [left.rows, right.columns],
            "the target does not fit"
        );
        // SAFETY: `Matrix::new` and `Target::new` checked that every index that the sizes and steps
        // reach lies in the slices, transposing reaches the same ones, the target's rows do not
        // overlap and its slice is borrowed exclusively.
        #[expect(unsafe_code, reason = "the kernels take pointers")]
        unsafe {
            gemm::gemm(
                self.rows,
                self.columns,
                left.columns,
                self.values.as_mut_ptr(),
                1,
                self.step as isize,
                false,
                left.values.as_ptr(),
                left.column_step as isize,
                left.row_step as isize,
                right.values.as_ptr(),
                right.column_step as isize,
                right.row_step as isize,
                0.0,
                scale,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

fn assert_inside(length: usize, [rows, columns]: [usize; 2], step: usize) {
    let reach = match rows {
        0 => Some(0),
        _ => (rows - 1)
            .checked_mul(step)
            .and_then(|start| start.checked_add(columns)),
    };
    assert!(
        reach.is_some_and(|reach| reach <= length),
        "a matrix reaches beyond its values"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_equals_the_sum_of_products_in_windows_of_larger_matrices() {
        let left: Vec<f32> = (0..35).map(|v| v as f32 - 17.0).collect();
        let right: Vec<f32> = (0..33).map(|v| (v * v % 11) as f32).collect();
        let (left, right) = (
            Matrix::new(&left, [5, 3], 7),
            Matrix::new(&right, [4, 3], 8).transposed(),
        );
        let mut out = vec![1.0; 5 * 6];
        Target::new(&mut out, [5, 4], 6).set(left, right, 2.0);
        for row in 0..5 {
            for column in 0..4 {
                let terms = (0..3).map(|k| left.values[row * 7 + k] * right.values[column * 8 + k]);
                let expected = 2.0 * terms.sum::<f32>();
                assert!((out[row * 6 + column] - expected).abs() < 1e-3);
            }
            assert_eq!(out[row * 6 + 4..row * 6 + 6], [1.0, 1.0]);
        }
    }

    #[test]
    #[should_panic(expected = "reaches beyond")]
    fn a_matrix_beyond_its_values_is_refused() {
        let _matrix = Matrix::new(&[0.0; 11], [3, 4], 4);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn a_target_whose_rows_overlap_is_refused() {
        let _target = Target::new(&mut [0.0; 12], [3, 4], 3);
    }
}
