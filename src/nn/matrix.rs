//! Matrix views over slices, which can be split into disjoint tiles, their product through `gemm`
//! or by vector instructions, and access to the values of dfdx's CPU tensors without a copy. The
//! only file of `nn` with `unsafe`.

#![expect(
    unsafe_code,
    reason = "dfdx lends no slice of a tensor; `gemm` and vector instructions take pointers"
)]

mod windows;

pub(super) use windows::{Finish, TILE, Windows};

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
    fn part(&mut self, at: (usize, usize), rows: usize, columns: usize) -> MatrixMut<'_, N> {
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

    /// Splits the matrix into tiles of at most `height` x `width`, in row-major order.
    pub(super) fn tiles(self, height: usize, width: usize) -> Vec<Tile<'a, N>> {
        let (height, width) = (height.max(1), width.max(1));
        let mut tiles =
            Vec::with_capacity(self.rows.div_ceil(height) * self.columns.div_ceil(width));
        for row in (0..self.rows).step_by(height) {
            for column in (0..self.columns).step_by(width) {
                let out = MatrixMut {
                    // SAFETY: (row, column) is an element of this matrix.
                    data: unsafe { self.data.add(row * self.stride + column) },
                    rows: height.min(self.rows - row),
                    columns: width.min(self.columns - column),
                    stride: self.stride,
                    lifetime: PhantomData,
                };
                tiles.push(Tile { row, column, out });
            }
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

/// Products in a partial sum of [`multiply_windows`].
const SLICE: usize = <f32 as Number>::SLICE;

/// Whether [`multiply_windows`] can be used: the processor has AVX2 and FMA. Where it has AVX-512,
/// `gemm` uses that and is left to it.
pub(super) fn has_windows_kernel() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && !is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Multiplies windows and a weight into the rows and columns of `out` at `at`; adds to `out` where
/// `accumulate`. Sums have partial sums of [`Number::SLICE`] products. A row's sums depend neither
/// on the other rows nor on their number.
///
/// # Panics
/// When the shapes don't match, or without [`has_windows_kernel`].
pub(super) fn multiply_windows(
    out: &mut MatrixMut,
    at: (usize, usize),
    windows: &Windows,
    accumulate: bool,
    finish: Option<&Finish>,
) {
    assert!(has_windows_kernel());
    let columns = TILE.1.min(out.columns - at.1);
    let out = out.part(at, windows.rows, columns);
    let length = windows.length();
    finish.inspect(|finish| finish.check(windows.rows, columns));
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the processor has the instructions, and the assertions are what the kernel asks for.
    unsafe {
        match windows.rows {
            1 => avx2::tile::<1>(out, windows, length, accumulate, finish),
            2 => avx2::tile::<2>(out, windows, length, accumulate, finish),
            3 => avx2::tile::<3>(out, windows, length, accumulate, finish),
            4 => avx2::tile::<4>(out, windows, length, accumulate, finish),
            5 => avx2::tile::<5>(out, windows, length, accumulate, finish),
            _ => avx2::tile::<6>(out, windows, length, accumulate, finish),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("{} x {length} values, {accumulate}", out.rows);
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Finish, MatrixMut, SLICE, TILE, Windows};
    use std::arch::x86_64::*;

    const LANES: usize = 8;

    /// Up to eight values from `from` on; the others are zero.
    ///
    /// # Safety
    /// `count` values can be read.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load(from: *const f32, count: usize) -> __m256 {
        // SAFETY: by the caller; the masked lanes aren't read.
        unsafe {
            if count >= LANES {
                _mm256_loadu_ps(from)
            } else {
                _mm256_maskload_ps(from, first_lanes(count))
            }
        }
    }

    /// Writes up to eight values.
    ///
    /// # Safety
    /// `count` values can be written.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store(to: *mut f32, values: __m256, count: usize) {
        // SAFETY: by the caller; the masked lanes aren't written.
        unsafe {
            if count >= LANES {
                _mm256_storeu_ps(to, values)
            } else {
                _mm256_maskstore_ps(to, first_lanes(count), values)
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn first_lanes(count: usize) -> __m256i {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }

    /// See [`super::multiply_windows`].
    ///
    /// # Safety
    /// `windows` has `ROWS` rows, taps of `length` values, and weights for all of them. `out`,
    /// shift and residual have `ROWS` rows and at most `TILE.1` columns.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tile<const ROWS: usize>(
        out: MatrixMut,
        windows: &Windows,
        length: usize,
        accumulate: bool,
        finish: Option<&Finish>,
    ) {
        let zero = [[_mm256_setzero_ps(); 2]; ROWS];
        let (mut totals, mut sums, mut summed) = (zero, zero, 0);
        let mut weight = windows.weight.as_ptr();
        for tap in windows.taps.chunks_exact(ROWS) {
            let rows: [*const f32; ROWS] = std::array::from_fn(|row| tap[row].as_ptr());
            for from in (0..length).step_by(SLICE) {
                let to = length.min(from + SLICE);
                if summed + to - from > SLICE {
                    totals = added(totals, sums);
                    (sums, summed) = (zero, 0);
                }
                summed += to - from;
                for at in from..to {
                    // SAFETY: `at` is within each row's tap, and the weight has as many steps of
                    // `TILE.1` values as all taps together.
                    unsafe {
                        let left = _mm256_loadu_ps(weight);
                        let right = _mm256_loadu_ps(weight.add(LANES));
                        for row in 0..ROWS {
                            let value = _mm256_set1_ps(*rows[row].add(at));
                            sums[row][0] = _mm256_fmadd_ps(value, left, sums[row][0]);
                            sums[row][1] = _mm256_fmadd_ps(value, right, sums[row][1]);
                        }
                        weight = weight.add(TILE.1);
                    }
                }
            }
        }
        let totals = added(totals, sums);
        for (row, total) in totals.iter().enumerate() {
            for (half, &sum) in total.iter().enumerate().take(out.columns.div_ceil(LANES)) {
                let column = half * LANES;
                let count = out.columns - column;
                // SAFETY: (row, column) and the `count - 1` after it, up to eight, are elements of
                // `out`, the residual and, by column, the shift.
                unsafe {
                    let target = out.data.add(row * out.stride + column);
                    let mut sum = sum;
                    if accumulate {
                        sum = _mm256_add_ps(load(target, count), sum);
                    }
                    if let Some(finish) = finish {
                        sum = _mm256_add_ps(sum, load(finish.shift.as_ptr().add(column), count));
                        if let Some(residual) = &finish.residual {
                            let at = residual.data.as_ptr().add(row * residual.row_stride + column);
                            sum = _mm256_add_ps(sum, load(at, count));
                        }
                        // The second operand where one is NaN: the sum.
                        sum = _mm256_max_ps(_mm256_set1_ps(finish.floor), sum);
                    }
                    store(target, sum, count);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn added<const ROWS: usize>(
        mut totals: [[__m256; 2]; ROWS],
        sums: [[__m256; 2]; ROWS],
    ) -> [[__m256; 2]; ROWS] {
        for (total, sum) in totals.iter_mut().zip(sums) {
            for (total, sum) in total.iter_mut().zip(sum) {
                *total = _mm256_add_ps(*total, sum);
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests;
