//! Tiles of products for AVX2 and FMA, a panel at a time: of `f32`, and of pairs of bf16 where the
//! processor has no instructions for them.

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

/// Eight `f32`.
struct Avx2;

#[inline(always)]
unsafe fn first_lanes(count: usize) -> __m256i {
    // SAFETY: by the caller.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }
}

impl Vector for Avx2 {
    type Factor = f32;
    type Factors = __m256;
    type Sums = __m256;
    const LANES: usize = 8;
    const SLICE: usize = <f32 as Number>::SLICE;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn factors(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> __m256 {
        unsafe { _mm256_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn add_products(a: __m256, b: __m256, sums: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, sums) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn at_least(floor: f32, sums: __m256) -> __m256 {
        // The second operand where one is NaN: the sum.
        unsafe { _mm256_max_ps(_mm256_set1_ps(floor), sums) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32, count: usize) -> __m256 {
        unsafe {
            match count >= Self::LANES {
                true => _mm256_loadu_ps(from),
                false => _mm256_maskload_ps(from, first_lanes(count)),
            }
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, sums: __m256, count: usize) {
        unsafe {
            match count >= Self::LANES {
                true => _mm256_storeu_ps(to, sums),
                false => _mm256_maskstore_ps(to, first_lanes(count), sums),
            }
        }
    }
}

/// Eight pairs of bf16, multiplied as `vdpbf16ps` does, bit by bit: the products of the second
/// values are added first, each result is rounded, and subnormal ones become zero.
struct Bf16;

/// Zero with the same sign for subnormal numbers.
#[inline(always)]
unsafe fn flushed(sums: __m256) -> __m256 {
    // SAFETY: by the caller.
    unsafe {
        let sign = _mm256_set1_ps(-0.0);
        let least = _mm256_set1_ps(f32::MIN_POSITIVE);
        let is_small = _mm256_cmp_ps::<_CMP_LT_OQ>(_mm256_andnot_ps(sign, sums), least);
        _mm256_blendv_ps(sums, _mm256_and_ps(sums, sign), is_small)
    }
}

/// The first and the second values of pairs.
#[inline(always)]
unsafe fn halves(pairs: __m256i) -> [__m256; 2] {
    // SAFETY: by the caller.
    unsafe {
        let second = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000u32 as i32));
        [_mm256_slli_epi32::<16>(pairs), second].map(|half| _mm256_castsi256_ps(half))
    }
}

impl Vector for Bf16 {
    type Factor = Pair;
    type Factors = [__m256; 2];
    type Sums = __m256;
    const LANES: usize = 8;
    const SLICE: usize = usize::MAX;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        unsafe { Avx2::zero() }
    }

    #[inline(always)]
    unsafe fn factors(from: *const Pair) -> [__m256; 2] {
        unsafe { halves(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const Pair) -> [__m256; 2] {
        unsafe { halves(_mm256_set1_epi32(*from.cast::<i32>())) }
    }

    #[inline(always)]
    unsafe fn add_products(a: [__m256; 2], b: [__m256; 2], sums: __m256) -> __m256 {
        unsafe {
            let sums = flushed(_mm256_fmadd_ps(a[1], b[1], sums));
            flushed(_mm256_fmadd_ps(a[0], b[0], sums))
        }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { Avx2::add(a, b) }
    }

    #[inline(always)]
    unsafe fn at_least(floor: f32, sums: __m256) -> __m256 {
        unsafe { Avx2::at_least(floor, sums) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32, count: usize) -> __m256 {
        unsafe { Avx2::load(from, count) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, sums: __m256, count: usize) {
        unsafe { Avx2::store(to, sums, count) }
    }
}

/// The entries for one kind of factors.
macro_rules! entries {
    ($module:ident, $vector:ty, $factor:ty) => {
        pub(super) mod $module {
            use super::*;

            /// See [`super::super::kernels::multiply_windows`].
            ///
            /// # Safety
            /// As for [`tile::windows`].
            #[target_feature(enable = "avx2,fma")]
            pub(in super::super) unsafe fn windows<const ROWS: usize>(
                out: &MatrixMut,
                windows: &Windows<$factor>,
                length: usize,
                accumulate: bool,
                finish: Option<&Finish>,
            ) {
                for first in (0..out.columns).step_by(TILE.1) {
                    // SAFETY: by the caller.
                    unsafe {
                        tile::windows::<$vector, ROWS, 2>(
                            out, windows, length, first, accumulate, finish,
                        );
                    }
                }
            }

            /// See [`super::super::kernels::multiply_outer`].
            ///
            /// # Safety
            /// As for [`tile::outer`].
            #[target_feature(enable = "avx2,fma")]
            pub(in super::super) unsafe fn outer<const ROWS: usize>(
                out: &MatrixMut,
                outer: &Outer<$factor>,
                accumulate: bool,
            ) {
                for first in (0..out.columns).step_by(TILE.1) {
                    // SAFETY: by the caller.
                    unsafe { tile::outer::<$vector, ROWS, 2>(out, outer, first, accumulate) }
                }
            }
        }
    };
}

entries!(single, Avx2, f32);
entries!(bf16, Bf16, Pair);
