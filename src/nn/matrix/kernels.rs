//! Products by the processor's vector instructions, and their checks.

#![expect(unsafe_code, reason = "a kernel for the processor that runs it")]

use super::pairs::{self, Pair, has_bf16};
use super::windows::{Finish, TILE, Windows};
use super::{MatrixMut, Outer};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use std::cell::RefCell;
use std::ops::Range;

/// Whether the products of this file can be used: the processor has AVX2 and FMA.
pub(in crate::nn) fn has_kernels() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// What products are made of: `f32`, or pairs of bf16.
pub(in crate::nn) trait Factor: Copy + Send + Sync + 'static {
    const ZERO: Self;
    /// Values of a row in one factor.
    const VALUES: usize;

    /// The memory of values as that of factors.
    fn view(values: &[f32]) -> &[Self];

    /// As [`view`](Self::view).
    fn view_mut(values: &mut [f32]) -> &mut [Self];

    /// Makes factors of these columns of up to `VALUES` rows; missing rows are zeros.
    fn pack(rows: &[&[f32]], columns: Range<usize>, out: &mut [Self]);

    /// Makes the rows of `out`, one panel wide, of those of up to `VALUES` matrices; missing matrices
    /// are zeros.
    fn pack_rows<const ROWS: usize>(items: &[[[f32; TILE.1]; ROWS]], out: &mut MatrixMut<Self>);

    /// Runs `work` on the factors of rows of `width` values, each rounded up to whole factors.
    /// Must not be nested.
    fn with_rows<R>(values: &[f32], width: usize, work: impl FnOnce(&[Self]) -> R) -> R;

    /// # Safety
    /// As for `tile::windows`; at most `PANELS` panels of columns.
    unsafe fn windows<const ROWS: usize>(
        out: &MatrixMut,
        windows: &Windows<Self>,
        length: usize,
        accumulate: bool,
        finish: Option<&Finish>,
    );

    /// # Safety
    /// As for `tile::outer`; at most `PANELS` panels of columns.
    unsafe fn outer<const ROWS: usize>(out: &MatrixMut, outer: &Outer<Self>, accumulate: bool);
}

/// Declares the kernels for one kind of factors: those of AVX-512 where the processor has the
/// instructions, else those of AVX2.
macro_rules! kernels {
    ($module:ident, $factor:ty, $has_avx512:expr) => {
        unsafe fn windows<const ROWS: usize>(
            out: &MatrixMut,
            windows: &Windows<$factor>,
            length: usize,
            accumulate: bool,
            finish: Option<&Finish>,
        ) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: by the caller; the processor has the instructions.
            unsafe {
                if $has_avx512 {
                    avx512::$module::windows::<ROWS>(out, windows, length, accumulate, finish);
                } else {
                    avx2::$module::windows::<ROWS>(out, windows, length, accumulate, finish);
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            unreachable!("{} x {length}, {accumulate}", out.rows);
        }

        unsafe fn outer<const ROWS: usize>(
            out: &MatrixMut,
            outer: &Outer<$factor>,
            accumulate: bool,
        ) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: by the caller; the processor has the instructions.
            unsafe {
                if $has_avx512 {
                    avx512::$module::outer::<ROWS>(out, outer, accumulate);
                } else {
                    avx2::$module::outer::<ROWS>(out, outer, accumulate);
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            unreachable!("{} rows, {accumulate}", out.rows);
        }
    };
}

impl Factor for f32 {
    const ZERO: f32 = 0.0;
    const VALUES: usize = 1;

    fn view(values: &[f32]) -> &[f32] {
        values
    }

    fn view_mut(values: &mut [f32]) -> &mut [f32] {
        values
    }

    fn pack(rows: &[&[f32]], columns: Range<usize>, out: &mut [f32]) {
        out.copy_from_slice(&rows[0][columns]);
    }

    fn pack_rows<const ROWS: usize>(items: &[[[f32; TILE.1]; ROWS]], out: &mut MatrixMut) {
        for (row, values) in items[0].iter().enumerate() {
            out.row(row).copy_from_slice(values);
        }
    }

    fn with_rows<R>(values: &[f32], _width: usize, work: impl FnOnce(&[f32]) -> R) -> R {
        work(values)
    }

    kernels!(of_f32, f32, has_avx512());
}

impl Factor for Pair {
    const ZERO: Pair = Pair::ZERO;
    const VALUES: usize = 2;

    fn view(values: &[f32]) -> &[Pair] {
        Pair::view(values)
    }

    fn view_mut(values: &mut [f32]) -> &mut [Pair] {
        Pair::view_mut(values)
    }

    fn pack(rows: &[&[f32]], columns: Range<usize>, out: &mut [Pair]) {
        match rows {
            [first, second] => {
                pairs::round_rows(&first[columns.clone()], &second[columns], out);
            }
            [first] => pairs::round_rows(&first[columns], &vec![0.0; out.len()], out),
            _ => unreachable!("{} rows in a pair", rows.len()),
        }
    }

    fn pack_rows<const ROWS: usize>(items: &[[[f32; TILE.1]; ROWS]], out: &mut MatrixMut<Pair>) {
        match items {
            [first, second] => pairs::round_panels(first, second, out),
            [first] => pairs::round_panels(first, &[[0.0; TILE.1]; ROWS], out),
            _ => unreachable!("{} rows in a pair", items.len()),
        }
    }

    fn with_rows<R>(values: &[f32], width: usize, work: impl FnOnce(&[Pair]) -> R) -> R {
        thread_local! {
            static SCRATCH: RefCell<Vec<Pair>> = const { RefCell::new(Vec::new()) };
        }
        let pairs = width.div_ceil(2);
        let length = values.len() / width.max(1) * pairs;
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < length {
                scratch.resize(length, Pair::ZERO);
            }
            let scratch = &mut scratch[..length];
            if width.is_multiple_of(2) {
                pairs::round_row(values, scratch);
            } else {
                let rows = values.chunks_exact(width).zip(scratch.chunks_exact_mut(pairs));
                rows.for_each(|(row, out)| pairs::round_row(row, out));
            }
            work(scratch)
        })
    }

    kernels!(of_bf16, Pair, has_bf16());
}

/// Multiplies windows and a weight into the rows and columns of `out` at `at`; adds to `out` where
/// `accumulate`. Sums of `f32` have partial sums of [`Number::SLICE`](crate::nn::Number::SLICE)
/// products. A row's sums depend neither on the other rows nor on their number.
///
/// # Panics
/// When the shapes don't match, or without [`has_kernels`].
pub(in crate::nn) fn multiply_windows<F: Factor>(
    out: &mut MatrixMut,
    at: (usize, usize),
    windows: &Windows<F>,
    accumulate: bool,
    finish: Option<&Finish>,
) {
    assert!(has_kernels());
    let out = out.part(at, windows.rows, windows.columns);
    let length = windows.length();
    finish.inspect(|finish| finish.check(windows.rows, windows.columns));
    // SAFETY: the processor has the instructions, and the assertions are what the kernel asks for.
    unsafe {
        match windows.rows {
            1 => F::windows::<1>(&out, windows, length, accumulate, finish),
            2 => F::windows::<2>(&out, windows, length, accumulate, finish),
            3 => F::windows::<3>(&out, windows, length, accumulate, finish),
            4 => F::windows::<4>(&out, windows, length, accumulate, finish),
            5 => F::windows::<5>(&out, windows, length, accumulate, finish),
            _ => F::windows::<6>(&out, windows, length, accumulate, finish),
        }
    }
}

/// Adds the product of the transpose of some columns of `left` and `right` to the rows and columns
/// of `out` at `at`; overwrites `out` unless `accumulate`. Sums of `f32` have partial sums of
/// [`Number::SLICE`](crate::nn::Number::SLICE) products.
///
/// # Panics
/// When the shapes don't match, or without [`has_kernels`].
pub(in crate::nn) fn multiply_outer<F: Factor>(
    out: &mut MatrixMut,
    at: (usize, usize),
    outer: &Outer<F>,
    accumulate: bool,
) {
    assert!(has_kernels());
    outer.check();
    let columns = (outer.right.len() * TILE.1).min(out.columns - at.1);
    let out = out.part(at, outer.columns.len(), columns);
    // SAFETY: the processor has the instructions, and the assertions are what the kernel asks for.
    unsafe {
        match outer.columns.len() {
            1 => F::outer::<1>(&out, outer, accumulate),
            2 => F::outer::<2>(&out, outer, accumulate),
            3 => F::outer::<3>(&out, outer, accumulate),
            4 => F::outer::<4>(&out, outer, accumulate),
            5 => F::outer::<5>(&out, outer, accumulate),
            _ => F::outer::<6>(&out, outer, accumulate),
        }
    }
}

/// Runs `work`, which is compiled for AVX2, too, as far as it is inlined, and takes that where the
/// processor has it. The results are the same.
pub(in crate::nn) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if has_kernels() {
        #[target_feature(enable = "avx2,fma")]
        fn inner<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: the processor has the instructions.
        return unsafe { inner(work) };
    }
    work()
}
