//! Products by the processor's vector instructions, and their checks.

#![expect(unsafe_code, reason = "a kernel for the processor that runs it")]

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::windows::{Finish, TILE, Windows};
use super::{MatrixMut, Outer};

/// Whether the products of this file can be used: the processor has AVX2 and FMA.
pub(in crate::nn) fn has_kernels() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether they can be used and take the place of `gemm` in products with as many multiplications:
/// not where the processor has AVX-512, which `gemm` uses.
pub(in crate::nn) fn replace_gemm() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_kernels() && !is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Multiplies windows and a weight into the rows and columns of `out` at `at`; adds to `out` where
/// `accumulate`. Sums have partial sums of [`Number::SLICE`](crate::nn::Number::SLICE) products. A
/// row's sums depend neither on the other rows nor on their number.
///
/// # Panics
/// When the shapes don't match, or without [`has_kernels`].
pub(in crate::nn) fn multiply_windows(
    out: &mut MatrixMut,
    at: (usize, usize),
    windows: &Windows,
    accumulate: bool,
    finish: Option<&Finish>,
) {
    assert!(has_kernels());
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

/// Adds the product of the transpose of some columns of `left` and `right` to the rows and columns
/// of `out` at `at`; overwrites `out` unless `accumulate`. Sums have partial sums of
/// [`Number::SLICE`](crate::nn::Number::SLICE) products.
///
/// # Panics
/// When the shapes don't match, or without [`has_kernels`].
pub(in crate::nn) fn multiply_outer(
    out: &mut MatrixMut,
    at: (usize, usize),
    outer: &Outer,
    accumulate: bool,
) {
    assert!(has_kernels());
    outer.check();
    let columns = TILE.1.min(out.columns - at.1);
    let out = out.part(at, outer.columns.len(), columns);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the processor has the instructions, and the assertions are what the kernel asks for.
    unsafe {
        match outer.columns.len() {
            1 => avx2::outer::<1>(out, outer, accumulate),
            2 => avx2::outer::<2>(out, outer, accumulate),
            3 => avx2::outer::<3>(out, outer, accumulate),
            4 => avx2::outer::<4>(out, outer, accumulate),
            5 => avx2::outer::<5>(out, outer, accumulate),
            _ => avx2::outer::<6>(out, outer, accumulate),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("{} rows, {accumulate}", out.rows);
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
