//! Tiles of products in vector registers, written once for all kinds of registers.

#![expect(unsafe_code, reason = "vector instructions take pointers")]

use super::MatrixMut;
use super::windows::{Finish, Outer, TILE, Windows};

/// A kind of vector register and what is multiplied into it. All functions need the processor's
/// instructions for it, and are compiled for them where they are inlined.
///
/// # Safety
/// Of all functions: the processor has the instructions, and pointers may be read or written as
/// far as the function says.
pub(super) trait Vector {
    /// What is multiplied.
    type Factor: Copy;
    /// A register of factors.
    type Factors: Copy;
    /// A register of sums.
    type Sums: Copy;
    /// Sums in a register.
    const LANES: usize;
    /// Products in a partial sum: see [`Number::SLICE`](crate::nn::Number::SLICE).
    const SLICE: usize;

    unsafe fn zero() -> Self::Sums;

    /// Reads a factor for each lane.
    unsafe fn factors(from: *const Self::Factor) -> Self::Factors;

    /// Reads one factor for all lanes.
    unsafe fn broadcast(from: *const Self::Factor) -> Self::Factors;

    unsafe fn add_products(a: Self::Factors, b: Self::Factors, sums: Self::Sums) -> Self::Sums;

    unsafe fn add(a: Self::Sums, b: Self::Sums) -> Self::Sums;

    /// The maximum of each sum and `floor`; NaN stays NaN.
    unsafe fn at_least(floor: f32, sums: Self::Sums) -> Self::Sums;

    /// Reads the first `count` lanes, or all; the others are zero.
    unsafe fn load(from: *const f32, count: usize) -> Self::Sums;

    /// Writes the first `count` lanes, or all.
    unsafe fn store(to: *mut f32, sums: Self::Sums, count: usize);
}

/// The part of [`multiply_windows`](super::multiply_windows) from column `first` on, as wide as
/// `VECTORS` registers.
///
/// # Safety
/// The processor has the vector's instructions. `windows` has `ROWS` rows, taps of `length` values
/// and weights for all of them and all columns. `out`, shift and residual have `ROWS` rows and the
/// columns of `windows`, of which `first` is one.
#[inline(always)]
pub(super) unsafe fn windows<V: Vector, const ROWS: usize, const VECTORS: usize>(
    out: &MatrixMut,
    windows: &Windows<V::Factor>,
    length: usize,
    first: usize,
    accumulate: bool,
    finish: Option<&Finish>,
) {
    let panel = windows.taps.len() / ROWS * length * TILE.1;
    // SAFETY: by the caller; see the comments within.
    unsafe {
        let zero = [[V::zero(); VECTORS]; ROWS];
        let (mut totals, mut sums, mut summed) = (zero, zero, 0);
        // The first row of each register's columns.
        let mut weights: [*const V::Factor; VECTORS] = std::array::from_fn(|vector| {
            let column = first + vector * V::LANES;
            windows.weight.as_ptr().add(column / TILE.1 * panel + column % TILE.1)
        });
        for tap in windows.taps.chunks_exact(ROWS) {
            let rows: [*const V::Factor; ROWS] = std::array::from_fn(|row| tap[row].as_ptr());
            for from in (0..length).step_by(V::SLICE) {
                let to = length.min(from.saturating_add(V::SLICE));
                if summed + to - from > V::SLICE {
                    totals = added::<V, ROWS, VECTORS>(totals, sums);
                    (sums, summed) = (zero, 0);
                }
                summed += to - from;
                for at in from..to {
                    // `at` is within each row's tap, and a panel of the weight has as many rows of
                    // `TILE.1` values as all taps together have values.
                    let columns = weights.map(|weight| V::factors(weight));
                    for row in 0..ROWS {
                        let value = V::broadcast(rows[row].add(at));
                        for vector in 0..VECTORS {
                            let sum = &mut sums[row][vector];
                            *sum = V::add_products(value, columns[vector], *sum);
                        }
                    }
                    weights = weights.map(|weight| weight.wrapping_add(TILE.1));
                }
            }
        }
        let totals = added::<V, ROWS, VECTORS>(totals, sums);
        write::<V, ROWS, VECTORS>(out, first, totals, accumulate, finish);
    }
}

/// The part of [`multiply_outer`](super::multiply_outer) from column `first` on, as wide as
/// `VECTORS` registers.
///
/// # Safety
/// The processor has the vector's instructions. `outer` has `ROWS` columns and passes its check.
/// `out` has `ROWS` rows and at most the columns of the right factor, of which `first` is one.
#[inline(always)]
pub(super) unsafe fn outer<V: Vector, const ROWS: usize, const VECTORS: usize>(
    out: &MatrixMut,
    outer: &Outer<V::Factor>,
    first: usize,
    accumulate: bool,
) {
    let depth = outer.left.len() / TILE.1;
    // SAFETY: by the caller; see the comments within.
    unsafe {
        let zero = [[V::zero(); VECTORS]; ROWS];
        let mut totals = zero;
        let mut left = outer.left.as_ptr().add(outer.columns.start);
        let mut right: [*const V::Factor; VECTORS] = std::array::from_fn(|vector| {
            let column = first + vector * V::LANES;
            outer.right[column / TILE.1].as_ptr().add(column % TILE.1)
        });
        for from in (0..depth).step_by(V::SLICE) {
            let mut sums = zero;
            for _ in from..depth.min(from.saturating_add(V::SLICE)) {
                // One of the `depth` rows of `TILE.1` values of both factors.
                let columns = right.map(|right| V::factors(right));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = V::broadcast(left.add(row));
                    for vector in 0..VECTORS {
                        sums[vector] = V::add_products(value, columns[vector], sums[vector]);
                    }
                }
                left = left.wrapping_add(TILE.1);
                right = right.map(|right| right.wrapping_add(TILE.1));
            }
            totals = added::<V, ROWS, VECTORS>(totals, sums);
        }
        write::<V, ROWS, VECTORS>(out, first, totals, accumulate, None);
    }
}

/// Writes the sums of a tile from column `first` on, or adds them where `accumulate`, and finishes
/// it.
///
/// # Safety
/// As for [`windows`].
#[inline(always)]
unsafe fn write<V: Vector, const ROWS: usize, const VECTORS: usize>(
    out: &MatrixMut,
    first: usize,
    totals: [[V::Sums; VECTORS]; ROWS],
    accumulate: bool,
    finish: Option<&Finish>,
) {
    for (row, total) in totals.iter().enumerate() {
        for (vector, &sums) in total.iter().enumerate() {
            let column = first + vector * V::LANES;
            if column >= out.columns {
                break;
            }
            let count = out.columns - column;
            // SAFETY: (row, column) and the `count - 1` after it, up to a register's lanes, are
            // elements of `out`, the residual and, by column, the shift.
            unsafe {
                let target = out.data.add(row * out.stride + column);
                let mut sums = sums;
                if accumulate {
                    sums = V::add(V::load(target, count), sums);
                }
                if let Some(finish) = finish {
                    sums = V::add(sums, V::load(finish.shift.as_ptr().add(column), count));
                    if let Some(residual) = &finish.residual {
                        let at = residual.data.as_ptr().add(row * residual.row_stride + column);
                        sums = V::add(sums, V::load(at, count));
                    }
                    sums = V::at_least(finish.floor, sums);
                }
                V::store(target, sums, count);
            }
        }
    }
}

/// # Safety
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn added<V: Vector, const ROWS: usize, const VECTORS: usize>(
    mut totals: [[V::Sums; VECTORS]; ROWS],
    sums: [[V::Sums; VECTORS]; ROWS],
) -> [[V::Sums; VECTORS]; ROWS] {
    for (total, sum) in totals.iter_mut().zip(sums) {
        for (total, sum) in total.iter_mut().zip(sum) {
            // SAFETY: by the caller.
            *total = unsafe { V::add(*total, sum) };
        }
    }
    totals
}
