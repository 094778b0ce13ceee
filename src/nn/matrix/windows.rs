//! The operands of products by vector instructions, and their checks.

use super::Matrix;
use std::ops::Range;

/// Rows and columns of the tiles that are computed in registers.
pub(in crate::nn) const TILE: (usize, usize) = (6, 16);

/// A part of a product of windows and a weight.
pub(in crate::nn) struct Windows<'a> {
    /// The values of the first row, of the second, …, all of one length, then the same again for
    /// the next tap.
    pub taps: &'a [&'a [f32]],
    /// Rows: at most `TILE.0`.
    pub rows: usize,
    /// `TILE.1` columns of the weight for each value of a row, tap by tap.
    pub weight: &'a [f32],
}

impl Windows<'_> {
    /// The length of each tap.
    ///
    /// # Panics
    /// When taps differ in length, the weight doesn't fit them, or there are too many rows.
    pub(super) fn length(&self) -> usize {
        let length = self.taps.first().map_or(0, |tap| tap.len());
        assert!((1..=TILE.0).contains(&self.rows) && self.taps.len().is_multiple_of(self.rows));
        assert!(self.taps.iter().all(|tap| tap.len() == length));
        assert_eq!(self.weight.len(), self.taps.len() / self.rows * length * TILE.1);
        length
    }
}

/// Two packed matrices of as many rows, of which the transpose of one is multiplied with the other.
pub(in crate::nn) struct Outer<'a> {
    /// Rows of `TILE.1` values.
    pub left: &'a [f32],
    /// The columns of `left` that become rows of the result: at most `TILE.0`.
    pub columns: Range<usize>,
    /// Rows of `TILE.1` values.
    pub right: &'a [f32],
}

impl Outer<'_> {
    /// # Panics
    /// When the factors differ in length, or the columns aren't in `left`.
    pub(super) fn check(&self) {
        assert!(self.left.len() == self.right.len() && self.left.len().is_multiple_of(TILE.1));
        assert!((1..=TILE.0).contains(&self.columns.len()) && self.columns.end <= TILE.1);
    }
}

/// What is done with a tile once its sums are complete: the maximum of `floor` and sum + shift +
/// residual.
pub(in crate::nn) struct Finish<'a> {
    /// One value per column.
    pub shift: &'a [f32],
    /// As large as the tile.
    pub residual: Option<Matrix<'a>>,
    pub floor: f32,
}

impl Finish<'_> {
    /// # Panics
    /// When it doesn't fit a tile of `rows` x `columns`.
    pub(super) fn check(&self, rows: usize, columns: usize) {
        assert_eq!(self.shift.len(), columns);
        assert!(self.residual.is_none_or(|residual| {
            (residual.rows, residual.columns, residual.column_stride) == (rows, columns, 1)
        }));
    }
}
