//! Tiles of products in vector registers, written once for all kinds of registers.

#![expect(unsafe_code, reason = "vector instructions take pointers")]

use super::MatrixMut;
use super::windows::{Finish, Outer, TILE, Windows};

/// A register of sums. All functions need the processor's instructions for it, and are compiled for
/// them where they are inlined.
///
/// # Safety
/// Of all functions: the processor has the instructions, and pointers may be read or written as
/// far as the function says.
pub(super) trait Sums: Copy {
    /// Sums in a register.
    const LANES: usize;

    unsafe fn zero() -> Self;

    unsafe fn add(self, other: Self) -> Self;

    /// The maximum of each sum and `floor`; NaN stays NaN.
    unsafe fn at_least(self, floor: f32) -> Self;

    /// Reads the first `count` lanes, or all; the others are zero.
    unsafe fn load(from: *const f32, count: usize) -> Self;

    /// Writes the first `count` lanes, or all.
    unsafe fn store(self, to: *mut f32, count: usize);
}

/// A register of what is multiplied: as many as there are sums in one of theirs.
///
/// # Safety
/// As for [`Sums`].
pub(super) trait Factors: Copy {
    type Factor;
    type Sums: Sums;
    /// Products in a partial sum: see [`Number::SLICE`](crate::nn::Number::SLICE).
    const SLICE: usize;

    /// Reads a factor for each lane.
    unsafe fn load(from: *const Self::Factor) -> Self;

    /// Reads one factor for all lanes.
    unsafe fn broadcast(from: *const Self::Factor) -> Self;

    /// `sums` plus the products.
    unsafe fn multiply_add(self, other: Self, sums: Self::Sums) -> Self::Sums;
}

/// Declares a module with [`windows`] and [`outer`] for one kind of registers, compiled for some
/// features of the processor.
macro_rules! entries {
    ($module:ident, $factors:ty, $factor:ty, $features:literal) => {
        pub(super) mod $module {
            use super::*;
            use crate::nn::matrix::MatrixMut;
            use crate::nn::matrix::windows::{Finish, Outer, Windows};

            /// See [`tile::windows`].
            ///
            /// # Safety
            /// As for that.
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn windows<const ROWS: usize>(
                out: &MatrixMut,
                windows: &Windows<$factor>,
                length: usize,
                accumulate: bool,
                finish: Option<&Finish>,
            ) {
                // SAFETY: by the caller.
                unsafe {
                    tile::windows::<$factors, ROWS>(out, windows, length, accumulate, finish);
                }
            }

            /// See [`tile::outer`].
            ///
            /// # Safety
            /// As for that.
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn outer<const ROWS: usize>(
                out: &MatrixMut,
                outer: &Outer<$factor>,
                accumulate: bool,
            ) {
                // SAFETY: by the caller.
                unsafe { tile::outer::<$factors, ROWS>(out, outer, accumulate) }
            }
        }
    };
}
pub(super) use entries;

/// See [`multiply_windows`](super::multiply_windows).
///
/// # Safety
/// The processor has the instructions. `windows` has `ROWS` rows, taps of `length` values and
/// weights for all of them and all columns. `out`, shift and residual have `ROWS` rows and the
/// columns of `windows`.
#[inline(always)]
pub(super) unsafe fn windows<F: Factors, const ROWS: usize>(
    out: &MatrixMut,
    windows: &Windows<F::Factor>,
    length: usize,
    accumulate: bool,
    finish: Option<&Finish>,
) {
    for first in (0..out.columns).step_by(2 * F::Sums::LANES) {
        // SAFETY: by the caller.
        unsafe {
            if out.columns - first > F::Sums::LANES {
                windows_of::<F, ROWS, 2>(out, windows, length, first, accumulate, finish);
            } else {
                windows_of::<F, ROWS, 1>(out, windows, length, first, accumulate, finish);
            }
        }
    }
}

/// See [`multiply_outer`](super::multiply_outer).
///
/// # Safety
/// The processor has the instructions. `outer` has `ROWS` columns and passes its check. `out` has
/// `ROWS` rows and at most the columns of the right factor.
#[inline(always)]
pub(super) unsafe fn outer<F: Factors, const ROWS: usize>(
    out: &MatrixMut,
    outer: &Outer<F::Factor>,
    accumulate: bool,
) {
    for first in (0..out.columns).step_by(2 * F::Sums::LANES) {
        // SAFETY: by the caller.
        unsafe {
            if out.columns - first > F::Sums::LANES {
                outer_of::<F, ROWS, 2>(out, outer, first, accumulate);
            } else {
                outer_of::<F, ROWS, 1>(out, outer, first, accumulate);
            }
        }
    }
}

/// The part of [`windows`] from column `first` on, as wide as `VECTORS` registers.
///
/// # Safety
/// As for that; `first` is one of the columns.
#[inline(always)]
unsafe fn windows_of<F: Factors, const ROWS: usize, const VECTORS: usize>(
    out: &MatrixMut,
    windows: &Windows<F::Factor>,
    length: usize,
    first: usize,
    accumulate: bool,
    finish: Option<&Finish>,
) {
    let panel = windows.taps.len() / ROWS * length * TILE.1;
    // SAFETY: by the caller; see the comments within.
    unsafe {
        let zero = [[F::Sums::zero(); VECTORS]; ROWS];
        let (mut totals, mut sums, mut summed) = (zero, zero, 0);
        // The first row of each register's columns.
        let mut weights: [*const F::Factor; VECTORS] = std::array::from_fn(|vector| {
            let column = first + vector * F::Sums::LANES;
            windows.weight.as_ptr().add(column / TILE.1 * panel + column % TILE.1)
        });
        for tap in windows.taps.chunks_exact(ROWS) {
            let rows: [*const F::Factor; ROWS] = std::array::from_fn(|row| tap[row].as_ptr());
            for from in (0..length).step_by(F::SLICE) {
                let to = length.min(from.saturating_add(F::SLICE));
                if summed + to - from > F::SLICE {
                    totals = added(totals, sums);
                    (sums, summed) = (zero, 0);
                }
                summed += to - from;
                for at in from..to {
                    // `at` is within each row's tap, and a panel of the weight has as many rows of
                    // `TILE.1` values as all taps together have values.
                    let columns = weights.map(|weight| F::load(weight));
                    for row in 0..ROWS {
                        let value = F::broadcast(rows[row].add(at));
                        for vector in 0..VECTORS {
                            let sum = &mut sums[row][vector];
                            *sum = value.multiply_add(columns[vector], *sum);
                        }
                    }
                    weights = weights.map(|weight| weight.wrapping_add(TILE.1));
                }
            }
        }
        let totals = added(totals, sums);
        write(out, first, totals, accumulate, finish);
    }
}

/// The part of [`outer`] from column `first` on, as wide as `VECTORS` registers.
///
/// # Safety
/// As for that; `first` is one of the columns.
#[inline(always)]
unsafe fn outer_of<F: Factors, const ROWS: usize, const VECTORS: usize>(
    out: &MatrixMut,
    outer: &Outer<F::Factor>,
    first: usize,
    accumulate: bool,
) {
    let depth = outer.left.len() / TILE.1;
    // SAFETY: by the caller; see the comments within.
    unsafe {
        let zero = [[F::Sums::zero(); VECTORS]; ROWS];
        let mut totals = zero;
        let mut left = outer.left.as_ptr().add(outer.columns.start);
        let mut right: [*const F::Factor; VECTORS] = std::array::from_fn(|vector| {
            let column = first + vector * F::Sums::LANES;
            outer.right[column / TILE.1].as_ptr().add(column % TILE.1)
        });
        for from in (0..depth).step_by(F::SLICE) {
            let mut sums = zero;
            for _ in from..depth.min(from.saturating_add(F::SLICE)) {
                // One of the `depth` rows of `TILE.1` values of both factors.
                let columns = right.map(|right| F::load(right));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = F::broadcast(left.add(row));
                    for vector in 0..VECTORS {
                        sums[vector] = value.multiply_add(columns[vector], sums[vector]);
                    }
                }
                left = left.wrapping_add(TILE.1);
                right = right.map(|right| right.wrapping_add(TILE.1));
            }
            totals = added(totals, sums);
        }
        write(out, first, totals, accumulate, None);
    }
}

/// Writes the sums of a tile from column `first` on, or adds them where `accumulate`, and finishes
/// it.
///
/// # Safety
/// As for [`windows`].
#[inline(always)]
unsafe fn write<S: Sums, const ROWS: usize, const VECTORS: usize>(
    out: &MatrixMut,
    first: usize,
    totals: [[S; VECTORS]; ROWS],
    accumulate: bool,
    finish: Option<&Finish>,
) {
    for (row, total) in totals.iter().enumerate() {
        for (vector, &sums) in total.iter().enumerate() {
            let column = first + vector * S::LANES;
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
                    sums = S::load(target, count).add(sums);
                }
                if let Some(finish) = finish {
                    sums = sums.add(S::load(finish.shift.as_ptr().add(column), count));
                    if let Some(residual) = &finish.residual {
                        let at = residual.data.as_ptr().add(row * residual.row_stride + column);
                        sums = sums.add(S::load(at, count));
                    }
                    sums = sums.at_least(finish.floor);
                }
                sums.store(target, count);
            }
        }
    }
}

/// # Safety
/// The processor has the instructions.
#[inline(always)]
unsafe fn added<S: Sums, const ROWS: usize, const VECTORS: usize>(
    mut totals: [[S; VECTORS]; ROWS],
    sums: [[S; VECTORS]; ROWS],
) -> [[S; VECTORS]; ROWS] {
    for (total, sum) in totals.iter_mut().zip(sums) {
        for (total, sum) in total.iter_mut().zip(sum) {
            // SAFETY: by the caller.
            *total = unsafe { total.add(sum) };
        }
    }
    totals
}
