//! Pairs of bf16, which `vdpbf16ps` multiplies and adds up, and rounding to them.

#![expect(
    unsafe_code,
    reason = "values and pairs share memory; a kernel for the processor that runs it"
)]

use super::MatrixMut;
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::kernels::vectorized;

/// Two bf16, the first in the low half: values of two neighbouring rows of a product's depth.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
pub(in crate::nn) struct Pair(u32);

impl Pair {
    pub(in crate::nn) const ZERO: Pair = Pair(0);

    /// Both values rounded, bit by bit as the instructions do.
    #[inline(always)]
    fn of(first: f32, second: f32) -> Pair {
        Pair(rounded(first) >> 16 | rounded(second))
    }

    /// The memory of values as that of pairs.
    pub(in crate::nn) fn view(values: &[f32]) -> &[Pair] {
        // SAFETY: both have the same size and alignment, and are valid for any bits.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
    }

    /// As [`view`](Self::view).
    pub(in crate::nn) fn view_mut(values: &mut [f32]) -> &mut [Pair] {
        // SAFETY: both have the same size and alignment, and are valid for any bits.
        unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
    }

    /// Both values.
    #[cfg(test)]
    pub(in crate::nn) fn values(self) -> [f32; 2] {
        [f32::from_bits(self.0 << 16), f32::from_bits(self.0 & 0xffff_0000)]
    }
}

/// The bits of a value rounded to bf16: to nearest, ties to even, subnormal numbers to zero; NaN
/// becomes quiet.
#[inline(always)]
fn rounded(value: f32) -> u32 {
    const EXPONENT: u32 = 0x7f80_0000;
    let bits = value.to_bits();
    let (nearest, magnitude) = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)), bits & !(1 << 31));
    let rounded = if bits & EXPONENT == 0 {
        bits & 1 << 31
    } else if magnitude > EXPONENT {
        bits | 1 << 22
    } else {
        nearest
    };
    rounded & 0xffff_0000
}

/// A value rounded to bf16.
#[cfg(test)]
pub(in crate::nn) fn to_bf16(value: f32) -> f32 {
    f32::from_bits(rounded(value))
}

/// Whether the processor has instructions for bf16 (AVX512-BF16), which multiply twice as fast as
/// those for `f32`. Without them, bf16 is computed bit by bit the same, but slower than `f32`.
pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Rounds values to bf16, to nearest and ties to even, two neighbours to a pair; a single last one
/// has zero beside it. Subnormal numbers become zero.
///
/// # Panics
/// When `out` isn't as long as the pairs.
pub(in crate::nn) fn round_row(values: &[f32], out: &mut [Pair]) {
    assert!(out.len() == values.len().div_ceil(2));
    #[cfg(target_arch = "x86_64")]
    if has_bf16() {
        // SAFETY: the processor has the instructions; the length is asserted.
        return unsafe { avx512::round_row(values, out) };
    }
    round_row_portably(values, out);
}

/// As [`round_row`], for any processor.
pub(super) fn round_row_portably(values: &[f32], out: &mut [Pair]) {
    vectorized(|| {
        let (pairs, last) = values.as_chunks::<2>();
        for (out, [first, second]) in out.iter_mut().zip(pairs) {
            *out = Pair::of(*first, *second);
        }
        if let ([last], Some(out)) = (last, out.last_mut()) {
            *out = Pair::of(*last, 0.0);
        }
    });
}

/// Rounds values of two rows to bf16, as [`round_row`] does: one of each to a pair.
///
/// # Panics
/// When lengths differ.
pub(in crate::nn) fn round_rows(first: &[f32], second: &[f32], out: &mut [Pair]) {
    assert!(first.len() == out.len() && second.len() == out.len());
    #[cfg(target_arch = "x86_64")]
    if has_bf16() {
        // SAFETY: the processor has the instructions; the lengths are asserted.
        return unsafe { avx512::round_rows(first, second, out) };
    }
    round_rows_portably(first, second, out);
}

/// As [`round_rows`], for any processor.
pub(super) fn round_rows_portably(first: &[f32], second: &[f32], out: &mut [Pair]) {
    vectorized(|| {
        for ((out, first), second) in out.iter_mut().zip(first).zip(second) {
            *out = Pair::of(*first, *second);
        }
    });
}

/// As [`round_rows`], for each row of two matrices.
///
/// # Panics
/// When `out` differs in size.
pub(in crate::nn) fn round_panels<const ROWS: usize, const WIDTH: usize>(
    first: &[[f32; WIDTH]; ROWS],
    second: &[[f32; WIDTH]; ROWS],
    out: &mut MatrixMut<Pair>,
) {
    #[cfg(target_arch = "x86_64")]
    if has_bf16() {
        // SAFETY: the processor has the instructions.
        return unsafe { avx512::round_panels(first, second, out) };
    }
    for (row, (first, second)) in first.iter().zip(second).enumerate() {
        round_rows(first, second, out.row(row));
    }
}
