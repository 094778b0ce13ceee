//! Tiles of products for AVX-512, of `f32` or, with AVX512-BF16, of pairs of bf16: two panels at a
//! time. Sums of `f32` are those of AVX2, bit by bit.

#![expect(unsafe_code, reason = "vector instructions take pointers")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "functions of `Vector` pass its conditions on to the instructions"
)]

use super::pairs::Pair;
use super::tile::{self, Vector};
use super::windows::{Finish, Outer, TILE, Windows};
use super::{MatrixMut, Number};
use std::arch::x86_64::*;

/// The mask of the first lanes.
fn first_lanes(count: usize) -> __mmask16 {
    (1u32.wrapping_shl(count as u32)).wrapping_sub(1) as __mmask16
}

/// What both kinds of factors share.
macro_rules! sums {
    () => {
        type Sums = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn at_least(floor: f32, sums: __m512) -> __m512 {
            // The second operand where one is NaN: the sum.
            unsafe { _mm512_max_ps(_mm512_set1_ps(floor), sums) }
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
        unsafe fn store(to: *mut f32, sums: __m512, count: usize) {
            unsafe {
                match count >= Self::LANES {
                    true => _mm512_storeu_ps(to, sums),
                    false => _mm512_mask_storeu_ps(to, first_lanes(count), sums),
                }
            }
        }
    };
}

/// Sixteen `f32`.
struct Single;

impl Vector for Single {
    type Factor = f32;
    type Factors = __m512;
    const SLICE: usize = <f32 as Number>::SLICE;

    #[inline(always)]
    unsafe fn factors(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> __m512 {
        unsafe { _mm512_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn add_products(a: __m512, b: __m512, sums: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, sums) }
    }

    sums!();
}

/// Sixteen pairs of bf16, summed in `f32`.
struct Bf16;

// A register of sixteen integers has the bits of one of 32 bf16.
impl Vector for Bf16 {
    type Factor = Pair;
    type Factors = __m512bh;
    /// The rounding of factors to 8 bits outweighs that of sums.
    const SLICE: usize = usize::MAX;

    #[inline(always)]
    unsafe fn factors(from: *const Pair) -> __m512bh {
        unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const Pair) -> __m512bh {
        unsafe { std::mem::transmute(_mm512_set1_epi32(*from.cast::<i32>())) }
    }

    #[inline(always)]
    unsafe fn add_products(a: __m512bh, b: __m512bh, sums: __m512) -> __m512 {
        unsafe { _mm512_dpbf16_ps(sums, a, b) }
    }

    sums!();
}

/// The entries for one kind of factors.
macro_rules! entries {
    ($module:ident, $vector:ty, $factor:ty, $features:literal) => {
        pub(super) mod $module {
            use super::*;

            /// See [`super::super::kernels::multiply_windows`].
            ///
            /// # Safety
            /// As for [`tile::windows`]; at most two panels of columns.
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
                    match out.columns > TILE.1 {
                        true => tile::windows::<$vector, ROWS, 2>(
                            out, windows, length, 0, accumulate, finish,
                        ),
                        false => tile::windows::<$vector, ROWS, 1>(
                            out, windows, length, 0, accumulate, finish,
                        ),
                    }
                }
            }

            /// See [`super::super::kernels::multiply_outer`].
            ///
            /// # Safety
            /// As for [`tile::outer`]; at most two panels of columns.
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn outer<const ROWS: usize>(
                out: &MatrixMut,
                outer: &Outer<$factor>,
                accumulate: bool,
            ) {
                // SAFETY: by the caller.
                unsafe {
                    match out.columns > TILE.1 {
                        true => tile::outer::<$vector, ROWS, 2>(out, outer, 0, accumulate),
                        false => tile::outer::<$vector, ROWS, 1>(out, outer, 0, accumulate),
                    }
                }
            }
        }
    };
}

entries!(single, Single, f32, "avx512f");
entries!(bf16, Bf16, Pair, "avx512f,avx512bf16");

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
