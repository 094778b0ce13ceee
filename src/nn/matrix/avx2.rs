//! Tiles of products for AVX2 and FMA: a panel at a time.

#![expect(unsafe_code, reason = "vector instructions take pointers")]

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

// SAFETY of all functions: by the caller, as the trait says; masked lanes aren't touched.
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

/// See [`super::kernels::multiply_windows`].
///
/// # Safety
/// As for [`tile::windows`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn windows<const ROWS: usize>(
    out: &MatrixMut,
    windows: &Windows,
    length: usize,
    accumulate: bool,
    finish: Option<&Finish>,
) {
    for first in (0..out.columns).step_by(TILE.1) {
        // SAFETY: by the caller.
        unsafe { tile::windows::<Avx2, ROWS, 2>(out, windows, length, first, accumulate, finish) }
    }
}

/// See [`super::kernels::multiply_outer`].
///
/// # Safety
/// As for [`tile::outer`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn outer<const ROWS: usize>(out: &MatrixMut, outer: &Outer, accumulate: bool) {
    for first in (0..out.columns).step_by(TILE.1) {
        // SAFETY: by the caller.
        unsafe { tile::outer::<Avx2, ROWS, 2>(out, outer, first, accumulate) }
    }
}
