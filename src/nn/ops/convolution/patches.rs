//! Windows of a map as rows of a matrix (im2col), a block of rows at a time, and their product with
//! a weight. A convolution and its gradient by the input are such products.

use crate::nn::graph::Shape;
use crate::nn::matrix::{Matrix, MatrixMut, multiply};
use crate::nn::number::Number;
use rayon::prelude::*;
use std::ops::Range;

/// A grid of windows over the maps of a batch. Row r of the matrix is the window of grid pixel r,
/// counted over all images: `taps.0` x `taps.1` pixels, zero outside the map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Patches {
    pub map: Shape,
    /// Number of windows vertically and horizontally.
    pub grid: (usize, usize),
    /// Distance between neighboring windows.
    pub step: (usize, usize),
    /// First pixel of the first window.
    pub origin: (isize, isize),
    /// Size of a window.
    pub taps: (usize, usize),
}

impl Patches {
    /// Rows of the matrix for one image.
    pub(crate) fn rows_per_image(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Columns of the matrix.
    pub(crate) fn depth(&self) -> usize {
        self.taps.0 * self.taps.1 * self.map.channels
    }

    /// Whether the matrix equals the maps in memory, so that nothing has to be gathered.
    pub(crate) fn is_identity(&self) -> bool {
        self.taps == (1, 1)
            && self.step == (1, 1)
            && self.origin == (0, 0)
            && self.grid == (self.map.height, self.map.width)
    }

    /// The image of a row, and the first pixel of its window (vertically, horizontally), which may
    /// be outside the map.
    pub(crate) fn corner(&self, row: usize) -> (usize, isize, isize) {
        let (image, pixel) = (row / self.rows_per_image(), row % self.rows_per_image());
        let (y, x) = (pixel / self.grid.1, pixel % self.grid.1);
        let along = |index: usize, step: usize, origin: isize| (index * step) as isize + origin;
        (image, along(y, self.step.0, self.origin.0), along(x, self.step.1, self.origin.1))
    }

    /// Pixels, counted over all maps, among which are all of the windows `rows`: whole lines, or the
    /// very pixels where windows are that.
    pub(crate) fn pixels(&self, rows: Range<usize>) -> Range<usize> {
        let line = |row: usize, tap: usize| {
            let (image, top, _) = self.corner(row);
            let y = (top + tap as isize).clamp(0, self.map.height as isize - 1) as usize;
            image * self.map.height + y
        };
        if rows.is_empty() || self.is_identity() {
            return rows;
        }
        let (first, last) = (line(rows.start, 0), line(rows.end - 1, self.taps.0 - 1));
        first * self.map.width..(last + 1) * self.map.width
    }

    /// Writes rows from `first` on into `out`, until it is full.
    pub(crate) fn gather<N: Number>(&self, source: &[N], first: usize, out: &mut [N]) {
        let (image, segment) = (self.rows_per_image(), self.taps.1 * self.map.channels);
        let row_length = self.map.width * self.map.channels;
        let mut position = (first / image, first % image / self.grid.1, first % self.grid.1);
        for row in out.chunks_exact_mut(self.depth()) {
            let (image, y, x) = position;
            let map = &source[image * self.map.len()..][..self.map.len()];
            let top = (y * self.step.0) as isize + self.origin.0;
            let left = (x * self.step.1) as isize + self.origin.1;
            // Taps of one kernel row are neighbors in memory: [from, to) of them lie within the
            // map.
            let from = (-left).clamp(0, self.taps.1 as isize) as usize;
            let to = (self.map.width as isize - left).clamp(from as isize, self.taps.1 as isize)
                as usize;
            let (from_value, to_value) = (from * self.map.channels, to * self.map.channels);
            for (tap, part) in row.chunks_exact_mut(segment).enumerate() {
                let line = top + tap as isize;
                if line < 0 || line >= self.map.height as isize || from == to {
                    part.fill(N::ZERO);
                    continue;
                }
                let begin = line as usize * row_length
                    + (left + from as isize) as usize * self.map.channels;
                part[..from_value].fill(N::ZERO);
                part[from_value..to_value]
                    .copy_from_slice(&map[begin..begin + to_value - from_value]);
                part[to_value..].fill(N::ZERO);
            }
            position.2 += 1;
            if position.2 == self.grid.1 {
                position = (image, y + 1, 0);
                if position.1 == self.grid.0 {
                    position = (image + 1, 0, 0);
                }
            }
        }
    }

    /// Runs `work` on rows `first..first + rows` of the matrix, gathered into scratch memory if
    /// necessary.
    pub(crate) fn with_rows<N: Number, T>(
        &self,
        source: &[N],
        first: usize,
        rows: usize,
        work: impl FnOnce(Matrix<N>) -> T,
    ) -> T {
        let depth = self.depth();
        if self.is_identity() {
            return work(Matrix::new(&source[first * depth..][..rows * depth], rows, depth, depth));
        }
        N::with_scratch(rows * depth, |columns| {
            self.gather(source, first, columns);
            work(Matrix::new(columns, rows, depth, depth))
        })
    }

    /// `out` (rows, columns) = the matrix times `weight` (depth, columns), through `gemm`; adds to
    /// `out` where `accumulate`.
    pub(crate) fn multiply<N: Number>(
        &self,
        source: &[N],
        weight: &[N],
        columns: usize,
        accumulate: bool,
        out: &mut [N],
    ) {
        let (depth, rows) = (self.depth(), out.len() / columns);
        let (height, width) = block(rows, depth, columns);
        let tiles = MatrixMut::new(out, rows, columns, columns).tiles(height, width);
        tiles.into_par_iter().for_each(|mut tile| {
            self.with_rows(source, tile.row, tile.out.rows(), |rows| {
                let weight =
                    Matrix::new(&weight[tile.column..], depth, tile.out.columns(), columns);
                multiply(&mut tile.out, accumulate, rows, weight);
            });
        });
    }
}

/// Target size of a block of gathered rows, in values: half a megabyte of `f32` stays in an L2
/// cache.
const GATHERED: usize = 128 * 1024;

/// Number of rows of length `depth` in a block.
pub(crate) fn block_rows(depth: usize) -> usize {
    (GATHERED / depth.max(1)).clamp(64, 256) / 16 * 16
}

/// Height and width of the tiles of a product of (rows, depth) and (depth, columns): enough tiles
/// for several threads, and wide enough that gathering rows again costs little.
fn block(rows: usize, depth: usize, columns: usize) -> (usize, usize) {
    let height = block_rows(depth);
    let bands = rows.div_ceil(height).max(1);
    let parts = (16 / bands).clamp(1, columns.div_ceil(128));
    (height, columns.div_ceil(parts).next_multiple_of(16))
}
