//! Matrix views over slices, which can be split into disjoint tiles, their product through `gemm`
//! or by vector instructions, and access to the values of dfdx's CPU tensors without a copy.

#![expect(unsafe_code, reason = "dfdx lends no slice of a tensor; `gemm` takes pointers")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernels;
mod pairs;
#[cfg(target_arch = "x86_64")]
mod tile;
pub(super) mod transforms;
mod windows;

pub(super) use kernels::{Factor, has_kernels, multiply_outer, multiply_windows, vectorized};
pub(super) use pairs::Pair;
pub use pairs::has_bf16;
#[cfg(test)]
pub(super) use pairs::to_bf16;
pub(super) use windows::{Finish, Outer, PANELS, TILE, Windows};

use super::number::Number;
use dfdx::shapes::HasShape;
use dfdx::tensor::{Cpu, Tensor};
use std::marker::PhantomData;

/// The values of a flat tensor, without a copy.
///
/// # Panics
/// When the tensor is broadcast, which no tensor here is.
pub(crate) fn values<N: Number>(tensor: &Tensor<(usize,), N, Cpu>) -> &[N] {
    let count = tensor.shape().0;
    if count == 0 {
        return &[];
    }
    let (first, last): (&N, &N) = (&tensor[[0]], &tensor[[count - 1]]);
    assert_eq!(
        (last as *const N).addr() - (first as *const N).addr(),
        (count - 1) * size_of::<N>(),
        "broadcast"
    );
    // SAFETY: dfdx stores a tensor's values in one `Vec`; the addresses of the first and the last
    // element are `count - 1` elements apart, so all `count` are contiguous in that `Vec`. They are
    // borrowed as long as the tensor is, and changing them takes the tensor mutably. The pointer is
    // derived from a reference to one element, which the aliasing model called Tree Borrows allows
    // to be read beyond (Stacked Borrows doesn't); dfdx offers no other way.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// A read-only matrix view with any strides.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, N = f32> {
    data: &'a [N],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, N: Copy> Matrix<'a, N> {
    /// `rows` x `columns`, row-major, with `stride` values from one row to the next.
    ///
    /// # Panics
    /// When the data is too short.
    pub(crate) fn new(data: &'a [N], rows: usize, columns: usize, stride: usize) -> Matrix<'a, N> {
        assert!(
            fits(data.len(), rows, columns, stride),
            "{rows} x {columns} by {stride} in {}",
            data.len()
        );
        Matrix { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The rows `first..first + count`.
    ///
    /// # Panics
    /// When they are out of range.
    pub(crate) fn rows(self, first: usize, count: usize) -> Matrix<'a, N> {
        assert!(first + count <= self.rows);
        Matrix { data: &self.data[first * self.row_stride..], rows: count, ..self }
    }

    /// One row of a row-major matrix.
    ///
    /// # Panics
    /// When it is out of range, or the columns aren't contiguous.
    pub(super) fn row(&self, index: usize) -> &'a [N] {
        assert!(index < self.rows && self.column_stride == 1);
        &self.data[index * self.row_stride..][..self.columns]
    }

    /// The columns `first..first + count`.
    ///
    /// # Panics
    /// When they are out of range.
    pub(crate) fn columns(self, first: usize, count: usize) -> Matrix<'a, N> {
        self.transposed().rows(first, count).transposed()
    }

    pub(crate) fn transposed(self) -> Matrix<'a, N> {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Whether a matrix of `rows` x `columns` with this row stride fits in `length` values.
fn fits(length: usize, rows: usize, columns: usize, stride: usize) -> bool {
    rows == 0
        || columns == 0
        || (columns <= stride || rows == 1) && (rows - 1) * stride + columns <= length
}

/// A mutable row-major matrix view that can be split into disjoint tiles.
pub(crate) struct MatrixMut<'a, N = f32> {
    data: *mut N,
    rows: usize,
    columns: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [N]>,
}

// SAFETY: a `MatrixMut` is as exclusive as the `&mut [N]` it was made from: tiles share no element.
unsafe impl<N: Send> Send for MatrixMut<'_, N> {}

impl<'a, N> MatrixMut<'a, N> {
    /// `rows` x `columns` with `stride` values from one row to the next.
    ///
    /// # Panics
    /// When the data is too short.
    pub(crate) fn new(
        data: &'a mut [N],
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> MatrixMut<'a, N> {
        assert!(
            fits(data.len(), rows, columns, stride),
            "{rows} x {columns} by {stride} in {}",
            data.len()
        );
        MatrixMut { data: data.as_mut_ptr(), rows, columns, stride, lifetime: PhantomData }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// One row.
    ///
    /// # Panics
    /// When it is out of range.
    pub(super) fn row(&mut self, index: usize) -> &mut [N] {
        assert!(index < self.rows);
        // SAFETY: within the matrix by the assertion, hence within the slice it was made from, and
        // exclusive as `self` is.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(index * self.stride), self.columns) }
    }

    /// The rows `row..row + rows` of the columns `column..column + columns`.
    ///
    /// # Panics
    /// When they are out of range.
    pub(super) fn part(
        &mut self,
        at: (usize, usize),
        rows: usize,
        columns: usize,
    ) -> MatrixMut<'_, N> {
        let (row, column) = at;
        assert!(row < self.rows && rows <= self.rows - row);
        assert!(column < self.columns && columns <= self.columns - column);
        MatrixMut {
            // SAFETY: (row, column) is an element of this matrix.
            data: unsafe { self.data.add(row * self.stride + column) },
            rows,
            columns,
            stride: self.stride,
            lifetime: PhantomData,
        }
    }

    /// Splits the matrix into ranges of columns, of these widths.
    ///
    /// # Panics
    /// When the ranges are wider than the matrix, or it is empty.
    pub(super) fn columns_of(self, widths: &[usize]) -> Vec<MatrixMut<'a, N>> {
        assert!(widths.iter().sum::<usize>() <= self.columns && self.rows > 0);
        let mut first = 0;
        let range = |&width: &usize| {
            // SAFETY: within the first row, or one past its end where the width is zero.
            let data = unsafe { self.data.add(first) };
            first += width;
            MatrixMut { data, columns: width, ..self }
        };
        widths.iter().map(range).collect()
    }

    /// Splits the matrix into tiles of at most `height` x `width`, in row-major order.
    pub(super) fn tiles(self, height: usize, width: usize) -> Vec<Tile<'a, N>> {
        let height = height.max(1);
        let rows = (0..self.rows).step_by(height);
        let heights: Vec<usize> = rows.map(|row| height.min(self.rows - row)).collect();
        self.bands(&heights, width)
    }

    /// Splits the matrix into bands of these heights, and each into tiles of at most `width`
    /// columns, in row-major order.
    ///
    /// # Panics
    /// When the bands are higher than the matrix, or one is empty.
    pub(super) fn bands(self, heights: &[usize], width: usize) -> Vec<Tile<'a, N>> {
        assert!(heights.iter().sum::<usize>() <= self.rows && !heights.contains(&0));
        let width = width.max(1);
        let mut tiles = Vec::with_capacity(heights.len() * self.columns.div_ceil(width));
        let mut row = 0;
        for &rows in heights {
            for column in (0..self.columns).step_by(width) {
                let out = MatrixMut {
                    // SAFETY: (row, column) is an element of this matrix.
                    data: unsafe { self.data.add(row * self.stride + column) },
                    rows,
                    columns: width.min(self.columns - column),
                    stride: self.stride,
                    lifetime: PhantomData,
                };
                tiles.push(Tile { row, column, out });
            }
            row += rows;
        }
        tiles
    }
}

/// A part of a matrix and its position.
pub(crate) struct Tile<'a, N = f32> {
    /// First row in the whole matrix.
    pub row: usize,
    /// First column in the whole matrix.
    pub column: usize,
    pub out: MatrixMut<'a, N>,
}

/// `out = a b`, or `out += a b` where `accumulate`, single-threaded, in partial sums of
/// [`Number::SLICE`] products. The order of summation depends only on the shapes and the processor.
///
/// # Panics
/// When the shapes don't match.
pub(crate) fn multiply<N: Number>(
    out: &mut MatrixMut<N>,
    accumulate: bool,
    a: Matrix<N>,
    b: Matrix<N>,
) {
    let depth = a.columns;
    for first in (0..depth.max(1)).step_by(N::SLICE) {
        let count = N::SLICE.min(depth - first);
        multiply_slice(out, accumulate || first > 0, a.columns(first, count), b.rows(first, count));
    }
}

/// As [`multiply`], in one call.
fn multiply_slice<N: Number>(out: &mut MatrixMut<N>, accumulate: bool, a: Matrix<N>, b: Matrix<N>) {
    assert!(
        out.rows == a.rows && out.columns == b.columns && a.columns == b.rows,
        "shapes of a product"
    );
    // The kernels expect an output whose columns are contiguous, so they compute the transpose of
    // ours. A single column of stride 1 is contiguous as it is.
    let transpose = out.stride > 1;
    let (rows, columns) = if transpose { (out.columns, out.rows) } else { (out.rows, out.columns) };
    let (column_stride, row_stride) = if transpose { (out.stride, 1) } else { (1, out.stride) };
    let (left, right) = if transpose { (b.transposed(), a.transposed()) } else { (a, b) };
    // SAFETY: each matrix lies within memory that its view borrows, exclusively for `out`
    // (constructors check the bounds), and the kernel touches only what shapes and strides span. It
    // reads `out` only if `accumulate`.
    unsafe {
        N::gemm_kernel()(
            rows,
            columns,
            left.columns,
            out.data,
            column_stride as isize,
            row_stride as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            N::ONE,
            N::ONE,
            false,
            false,
            false,
            gemm_common::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests;
