//! The products of `kernels` for AVX2 and FMA.

#![expect(unsafe_code, reason = "vector instructions take pointers")]

use super::windows::{Finish, Outer, TILE, Windows};
use super::{MatrixMut, Number};
use std::arch::x86_64::*;

const LANES: usize = 8;

/// Products in a partial sum.
const SLICE: usize = <f32 as Number>::SLICE;

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

/// See [`super::kernels::multiply_windows`].
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
    // SAFETY: by the caller.
    unsafe { write(out, added(totals, sums), accumulate, finish) }
}

/// See [`super::kernels::multiply_outer`].
///
/// # Safety
/// `outer` has `ROWS` columns and passes its check. `out` has `ROWS` rows and at most `TILE.1`
/// columns.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn outer<const ROWS: usize>(out: MatrixMut, outer: &Outer, accumulate: bool) {
    let zero = [[_mm256_setzero_ps(); 2]; ROWS];
    let mut totals = zero;
    let (first, depth) = (outer.columns.start, outer.left.len() / TILE.1);
    for from in (0..depth).step_by(SLICE) {
        let mut sums = zero;
        for at in from..depth.min(from + SLICE) {
            // SAFETY: `at` is one of the `depth` rows of `TILE.1` values of both factors.
            unsafe {
                let left = outer.left.as_ptr().add(at * TILE.1 + first);
                let right = outer.right.as_ptr().add(at * TILE.1);
                let low = _mm256_loadu_ps(right);
                let high = _mm256_loadu_ps(right.add(LANES));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = _mm256_set1_ps(*left.add(row));
                    sums[0] = _mm256_fmadd_ps(value, low, sums[0]);
                    sums[1] = _mm256_fmadd_ps(value, high, sums[1]);
                }
            }
        }
        totals = added(totals, sums);
    }
    // SAFETY: by the caller.
    unsafe { write(out, totals, accumulate, None) }
}

/// Writes the sums of a tile, or adds them where `accumulate`, and finishes it.
///
/// # Safety
/// `out`, shift and residual have `ROWS` rows and at most `TILE.1` columns.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn write<const ROWS: usize>(
    out: MatrixMut,
    totals: [[__m256; 2]; ROWS],
    accumulate: bool,
    finish: Option<&Finish>,
) {
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
