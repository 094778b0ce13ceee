//! Registers of AVX-512, of `f32` or, with AVX512-BF16, of pairs of bf16. Sums of `f32` are those of
//! AVX2, bit by bit.

#![expect(unsafe_code, reason = "vector instructions take pointers")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "functions of `Sums` and `Factors` pass their conditions on to the instructions"
)]

use super::pairs::Pair;
use super::tile::{self, Factors, Sums};
use super::{MatrixMut, Number};
use std::arch::x86_64::*;

tile::entries!(of_f32, F32x16, f32, "avx512f");
tile::entries!(of_bf16, Bf16x32, Pair, "avx512f,avx512bf16");

/// The mask of the first lanes.
fn first_lanes(count: usize) -> __mmask16 {
    (1u32.wrapping_shl(count as u32)).wrapping_sub(1) as __mmask16
}

impl Sums for __m512 {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add(self, other: __m512) -> __m512 {
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn at_least(self, floor: f32) -> __m512 {
        // The second operand where one is NaN.
        unsafe { _mm512_max_ps(_mm512_set1_ps(floor), self) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32, count: usize) -> __m512 {
        unsafe {
            match count >= Self::LANES {
                true => _mm512_loadu_ps(from),
                false => _mm512_maskz_loadu_ps(first_lanes(count), from),
            }
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, count: usize) {
        unsafe {
            match count >= Self::LANES {
                true => _mm512_storeu_ps(to, self),
                false => _mm512_mask_storeu_ps(to, first_lanes(count), self),
            }
        }
    }
}

#[derive(Clone, Copy)]
struct F32x16(__m512);

impl Factors for F32x16 {
    type Factor = f32;
    type Sums = __m512;
    const SLICE: usize = <f32 as Number>::SLICE;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> F32x16 {
        unsafe { F32x16(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> F32x16 {
        unsafe { F32x16(_mm512_set1_ps(*from)) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: F32x16, sums: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(self.0, other.0, sums) }
    }
}

/// Sixteen pairs, in a register that has the bits of sixteen integers.
#[derive(Clone, Copy)]
struct Bf16x32(__m512bh);

impl Factors for Bf16x32 {
    type Factor = Pair;
    type Sums = __m512;
    /// The rounding of factors to 8 bits outweighs that of sums.
    const SLICE: usize = usize::MAX;

    #[inline(always)]
    unsafe fn load(from: *const Pair) -> Bf16x32 {
        unsafe {
            Bf16x32(std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(from.cast())))
        }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const Pair) -> Bf16x32 {
        unsafe {
            Bf16x32(std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(
                *from.cast::<i32>(),
            )))
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Bf16x32, sums: __m512) -> __m512 {
        unsafe { _mm512_dpbf16_ps(sums, self.0, other.0) }
    }
}

/// Rounds values to bf16, to nearest and ties to even, two neighbours to a pair; a single last one
/// has zero beside it. Subnormal numbers become zero.
///
/// # Safety
/// The processor has the instructions, and `out` is as long as the pairs.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn round_row(values: &[f32], out: &mut [Pair]) {
    for (values, out) in values.chunks(32).zip(out.chunks_mut(16)) {
        // SAFETY: only what is in the chunks is read and written.
        unsafe {
            let low = _mm512_maskz_loadu_ps(first_lanes(values.len().min(16)), values.as_ptr());
            let rest = values.len().saturating_sub(16);
            let high = match rest {
                0 => _mm512_setzero_ps(),
                _ => _mm512_maskz_loadu_ps(first_lanes(rest), values.as_ptr().add(16)),
            };
            let pairs = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), first_lanes(out.len()), pairs);
        }
    }
}

/// Rounds values of two rows to bf16, as [`round_row`] does: one of each to a pair.
///
/// # Safety
/// The processor has the instructions, and the rows and `out` are of one length.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn round_rows(first: &[f32], second: &[f32], out: &mut [Pair]) {
    for ((first, second), out) in first.chunks(16).zip(second.chunks(16)).zip(out.chunks_mut(16)) {
        let lanes = first_lanes(out.len());
        // SAFETY: only what is in the chunks is read and written.
        unsafe {
            let halves = |values: &[f32]| {
                let values = _mm512_maskz_loadu_ps(lanes, values.as_ptr());
                _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(
                    values,
                )))
            };
            let pairs = _mm512_or_si512(halves(first), _mm512_slli_epi32::<16>(halves(second)));
            _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), lanes, pairs);
        }
    }
}

/// As [`round_rows`], for each row of two matrices.
///
/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn round_panels<const ROWS: usize, const WIDTH: usize>(
    first: &[[f32; WIDTH]; ROWS],
    second: &[[f32; WIDTH]; ROWS],
    out: &mut MatrixMut<Pair>,
) {
    for (row, (first, second)) in first.iter().zip(second).enumerate() {
        let out = out.row(row);
        assert!(out.len() == WIDTH);
        // SAFETY: by the caller and the assertion.
        unsafe { round_rows(first, second, out) }
    }
}
