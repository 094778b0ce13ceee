//! Pairs of bf16, which `vdpbf16ps` multiplies and adds up.

#![expect(unsafe_code, reason = "a kernel for the processor that runs it")]

#[cfg(target_arch = "x86_64")]
use super::avx512;

/// Two bf16, the first in the low half: values of two neighbouring rows of a product's depth.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
pub(in crate::nn) struct Pair(u32);

impl Pair {
    pub(in crate::nn) const ZERO: Pair = Pair(0);

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

/// A value rounded to bf16, bit by bit: to nearest, ties to even, subnormal numbers to zero.
#[cfg(test)]
pub(in crate::nn) fn to_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    match value.classify() {
        std::num::FpCategory::Subnormal => f32::from_bits(bits & 0x8000_0000),
        std::num::FpCategory::Nan => value,
        _ => f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000),
    }
}

/// Whether pairs can be made and multiplied: the processor has AVX512-BF16.
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
/// When `out` isn't as long as the pairs, or without [`has_bf16`].
pub(in crate::nn) fn round_row(values: &[f32], out: &mut [Pair]) {
    assert!(has_bf16() && out.len() == values.len().div_ceil(2));
    #[cfg(target_arch = "x86_64")]
    // SAFETY: by the assertion.
    unsafe {
        avx512::round_row(values, out)
    }
}

/// Rounds values of two rows to bf16, as [`round_row`] does: one of each to a pair.
///
/// # Panics
/// When lengths differ, or without [`has_bf16`].
pub(in crate::nn) fn round_rows(first: &[f32], second: &[f32], out: &mut [Pair]) {
    assert!(has_bf16() && first.len() == out.len() && second.len() == out.len());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: by the assertion.
    unsafe {
        avx512::round_rows(first, second, out)
    }
}
