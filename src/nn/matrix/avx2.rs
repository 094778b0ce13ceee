//! Registers of AVX2 with FMA: of `f32`, and of pairs of bf16 where the processor has no instructions
//! for them.

#![expect(unsafe_code, reason = "vector instructions take pointers")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "functions of `Sums` and `Factors` pass their conditions on to the instructions"
)]

use super::Number;
use super::pairs::Pair;
use super::tile::{self, Factors, Sums};
use std::arch::x86_64::*;

tile::entries!(of_f32, F32x8, f32, "avx2,fma");
tile::entries!(of_bf16, Bf16x16, Pair, "avx2,fma");

/// The mask of the first lanes.
#[inline(always)]
unsafe fn first_lanes(count: usize) -> __m256i {
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }
}

impl Sums for __m256 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add(self, other: __m256) -> __m256 {
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn at_least(self, floor: f32) -> __m256 {
        // The second operand where one is NaN.
        unsafe { _mm256_max_ps(_mm256_set1_ps(floor), self) }
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
    unsafe fn store(self, to: *mut f32, count: usize) {
        unsafe {
            match count >= Self::LANES {
                true => _mm256_storeu_ps(to, self),
                false => _mm256_maskstore_ps(to, first_lanes(count), self),
            }
        }
    }
}

#[derive(Clone, Copy)]
struct F32x8(__m256);

impl Factors for F32x8 {
    type Factor = f32;
    type Sums = __m256;
    const SLICE: usize = <f32 as Number>::SLICE;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> F32x8 {
        unsafe { F32x8(_mm256_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> F32x8 {
        unsafe { F32x8(_mm256_set1_ps(*from)) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: F32x8, sums: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(self.0, other.0, sums) }
    }
}

/// Eight pairs as `f32`: their first values, and their second ones. They are multiplied as
/// `vdpbf16ps` does, bit by bit: the products of the second values are added first, each result is
/// rounded, and subnormal ones become zero.
#[derive(Clone, Copy)]
struct Bf16x16 {
    first: __m256,
    second: __m256,
}

impl Bf16x16 {
    #[inline(always)]
    unsafe fn of(pairs: __m256i) -> Bf16x16 {
        unsafe {
            let second = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000u32 as i32));
            Bf16x16 {
                first: _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)),
                second: _mm256_castsi256_ps(second),
            }
        }
    }
}

/// Zero with the same sign for subnormal numbers.
#[inline(always)]
unsafe fn flushed(sums: __m256) -> __m256 {
    unsafe {
        let sign = _mm256_set1_ps(-0.0);
        let least = _mm256_set1_ps(f32::MIN_POSITIVE);
        let is_small = _mm256_cmp_ps::<_CMP_LT_OQ>(_mm256_andnot_ps(sign, sums), least);
        _mm256_blendv_ps(sums, _mm256_and_ps(sums, sign), is_small)
    }
}

impl Factors for Bf16x16 {
    type Factor = Pair;
    type Sums = __m256;
    const SLICE: usize = usize::MAX;

    #[inline(always)]
    unsafe fn load(from: *const Pair) -> Bf16x16 {
        unsafe { Bf16x16::of(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const Pair) -> Bf16x16 {
        unsafe { Bf16x16::of(_mm256_set1_epi32(*from.cast::<i32>())) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Bf16x16, sums: __m256) -> __m256 {
        unsafe {
            let sums = flushed(_mm256_fmadd_ps(self.second, other.second, sums));
            flushed(_mm256_fmadd_ps(self.first, other.first, sums))
        }
    }
}
