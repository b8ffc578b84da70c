//! Rows of values inside slices that somebody else holds.

use std::ops::Range;

/// Rows that begin `step` values apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    count: usize,
    width: usize,
    step: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(values: &'a [f32], [count, width]: [usize; 2], step: usize) -> Self {
        assert_inside(values.len(), [count, width], step);
        Self {
            values,
            count,
            width,
            step,
        }
    }

    /// As many rows as fit, one right after the other.
    pub(crate) fn dense(values: &'a [f32], width: usize) -> Self {
        Self::new(values, [values.len() / width, width], width)
    }

    pub(crate) fn part(self, rows: Range<usize>) -> Self {
        let from = rows.start * self.step;
        Self::new(&self.values[from..], [rows.len(), self.width], self.step)
    }

    pub(crate) fn count(self) -> usize {
        self.count
    }

    pub(crate) fn width(self) -> usize {
        self.width
    }

    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    pub(crate) fn row(self, index: usize) -> &'a [f32] {
        &self.values[index * self.step..][..self.width]
    }
}

/// Rows that begin `step` values apart, do not overlap and may be changed.
pub(crate) struct RowsMut<'a> {
    values: &'a mut [f32],
    count: usize,
    width: usize,
    step: usize,
}

impl<'a> RowsMut<'a> {
    pub(crate) fn new(values: &'a mut [f32], [count, width]: [usize; 2], step: usize) -> Self {
        assert!(count <= 1 || step >= width, "the rows overlap");
        assert_inside(values.len(), [count, width], step);
        Self {
            values,
            count,
            width,
            step,
        }
    }

    /// As many rows as fit, one right after the other.
    pub(crate) fn dense(values: &'a mut [f32], width: usize) -> Self {
        let count = values.len() / width;
        Self::new(values, [count, width], width)
    }

    pub(crate) fn part(&mut self, rows: Range<usize>) -> RowsMut<'_> {
        let values = &mut self.values[rows.start * self.step..];
        RowsMut::new(values, [rows.len(), self.width], self.step)
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    #[expect(
        clippy::inline_always,
        reason = "compiled once per vector width, in its caller"
    )]
    #[inline(always)]
    pub(crate) fn row(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.step..][..self.width]
    }
}

fn assert_inside(length: usize, [count, width]: [usize; 2], step: usize) {
    let reach = match count {
        0 => Some(0),
        _ => (count - 1)
            .checked_mul(step)
            .and_then(|start| start.checked_add(width)),
    };
    assert!(
        reach.is_some_and(|reach| reach <= length),
        "rows reach beyond their values"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_window_at_its_step() {
        let mut values: Vec<f32> = (0_u8..11).map(f32::from).collect();
        assert_eq!(Rows::new(&values, [3, 2], 4).row(2), [8.0, 9.0]);
        RowsMut::new(&mut values[1..], [3, 2], 4).row(1)[1] = 50.0;
        assert_eq!(values[6].to_bits(), 50.0_f32.to_bits());
        assert_eq!(Rows::new(&values, [3, 2], 4).part(1..3).row(0), [4.0, 5.0]);
        RowsMut::new(&mut values, [3, 2], 4).part(2..3).row(0)[0] = 80.0;
        assert_eq!(values[8].to_bits(), 80.0_f32.to_bits());
    }

    #[test]
    #[should_panic(expected = "reach beyond")]
    fn rows_beyond_their_values_are_refused() {
        let _rows = Rows::new(&[0.0; 11], [3, 4], 4);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn rows_to_change_that_overlap_are_refused() {
        let _rows = RowsMut::new(&mut [0.0; 12], [3, 4], 3);
    }
}
