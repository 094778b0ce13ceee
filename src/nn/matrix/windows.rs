//! The operands of products by vector instructions, and their checks.

use super::Matrix;
use super::kernels::Factor;
use std::ops::Range;

/// Rows of the tiles that are computed in registers, and columns of a panel.
pub(in crate::nn) const TILE: (usize, usize) = (6, 16);

/// The most panels that are computed together.
pub(in crate::nn) const PANELS: usize = 2;

/// A part of a product of windows and a weight.
pub(in crate::nn) struct Windows<'a, F = f32> {
    /// The factors of the first row, of the second, …, all of one length, then the same again for
    /// the next tap.
    pub taps: &'a [&'a [F]],
    /// Rows: at most `TILE.0`.
    pub rows: usize,
    /// Columns: at most `PANELS` panels.
    pub columns: usize,
    /// The weight, panel by panel: `TILE.1` columns for each factor of a row, tap by tap.
    pub weight: &'a [F],
}

impl<F: Factor> Windows<'_, F> {
    /// The length of each tap.
    ///
    /// # Panics
    /// When taps differ in length, the weight doesn't fit them, or there are too many rows or
    /// columns.
    pub(super) fn length(&self) -> usize {
        let length = self.taps.first().map_or(0, |tap| tap.len());
        assert!((1..=TILE.0).contains(&self.rows) && self.taps.len().is_multiple_of(self.rows));
        assert!(self.taps.iter().all(|tap| tap.len() == length));
        let panels = self.columns.div_ceil(TILE.1);
        assert!((1..=PANELS).contains(&panels));
        assert_eq!(self.weight.len(), panels * (self.taps.len() / self.rows * length * TILE.1));
        length
    }
}

/// Packed matrices of as many rows, of which the transpose of one is multiplied with the others.
pub(in crate::nn) struct Outer<'a, F = f32> {
    /// Rows of `TILE.1` factors.
    pub left: &'a [F],
    /// The columns of `left` that become rows of the result: at most `TILE.0`.
    pub columns: Range<usize>,
    /// Panels of rows of `TILE.1` factors: at most `PANELS`.
    pub right: &'a [&'a [F]],
}

impl<F: Factor> Outer<'_, F> {
    /// # Panics
    /// When the factors differ in length, the columns aren't in `left`, or there are too many
    /// panels.
    pub(super) fn check(&self) {
        assert!((1..=PANELS).contains(&self.right.len()));
        assert!(self.right.iter().all(|panel| panel.len() == self.left.len()));
        assert!(self.left.len().is_multiple_of(TILE.1));
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
