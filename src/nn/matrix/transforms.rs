//! The transforms of F(2 x 2, 3 x 3), eight channels at a time (Lavin and Gray, 2016).
//!
//! Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A for 4 x 4 input values d, 3 x 3 taps g and 2 x 2 output values Y,
//! where ⊙ multiplies element by element and sums over the input channels. The transforms of the
//! gradient by the taps are the transposes: Gᵀ [(Bᵀ d B) ⊙ (A dY Aᵀ)] G.

#![expect(unsafe_code, reason = "vector instructions take pointers")]

use super::MatrixMut;
use super::kernels::has_kernels;

/// Channels that are transformed together: the number of channels must be a multiple of it.
pub(in crate::nn) const LANES: usize = 8;

/// Values that a tile has once transformed.
pub(in crate::nn) const POINTS: usize = 16;

/// Declares a transform of `$from` x `$from` values to `$to` x `$to`: that of a line, applied to
/// the columns and then to the rows. It takes slices of equal lengths, one per value, and writes the
/// rows of a matrix, one per result.
macro_rules! transform {
    ($(#[$doc:meta])* $name:ident: $from:literal => $to:literal, $line:ident) => {
        $(#[$doc])*
        ///
        /// # Panics
        /// When the slices or the rows differ in length, or without [`has_kernels`].
        pub(in crate::nn) fn $name(
            source: &[[&[f32]; $from]; $from],
            out: &mut MatrixMut,
            add: bool,
        ) {
            let count = source[0][0].len();
            assert!(source.as_flattened().iter().all(|values| values.len() == count));
            assert!(has_kernels() && count.is_multiple_of(LANES));
            assert!(out.rows == $to * $to && out.columns == count);
            #[cfg(target_arch = "x86_64")]
            {
                let source = source.map(|row| row.map(|values| values.as_ptr()));
                // SAFETY: the processor has the instructions, and the assertions are what the
                // transform asks for.
                unsafe { avx2::$name(source, count, out.data, out.stride, add) }
            }
            #[cfg(not(target_arch = "x86_64"))]
            unreachable!("{add}");
        }
    };
}

transform! {
    /// Bᵀ d B: 4 x 4 input values to points. Adds to `out` where `add`, as the others do.
    of_input: 4 => 4, input_line
}
transform! {
    /// G g Gᵀ: 3 x 3 taps to points.
    of_weight: 3 => 4, weight_line
}
transform! {
    /// Aᵀ m A: points to 2 x 2 output values.
    to_output: 4 => 2, output_line
}
transform! {
    /// A dY Aᵀ: gradients by 2 x 2 output values to points.
    of_output: 2 => 4, output_gradient_line
}
transform! {
    /// Gᵀ m G: points to gradients by 3 x 3 taps.
    to_weight: 4 => 3, weight_gradient_line
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::LANES;
    use std::arch::x86_64::*;

    macro_rules! transform {
        ($name:ident: $from:literal => $to:literal, $line:ident) => {
            /// # Safety
            /// `count` values can be read of each source, and written from each result's place on.
            #[target_feature(enable = "avx2,fma")]
            pub(super) unsafe fn $name(
                source: [[*const f32; $from]; $from],
                count: usize,
                to: *mut f32,
                stride: usize,
                add: bool,
            ) {
                let zero = _mm256_setzero_ps();
                for at in (0..count).step_by(LANES) {
                    let mut columns = [[zero; $to]; $from];
                    for x in 0..$from {
                        let mut column = [zero; $from];
                        for y in 0..$from {
                            // SAFETY: by the caller.
                            column[y] = unsafe { _mm256_loadu_ps(source[y][x].add(at)) };
                        }
                        columns[x] = $line(column);
                    }
                    for y in 0..$to {
                        let mut row = [zero; $from];
                        for x in 0..$from {
                            row[x] = columns[x][y];
                        }
                        for (x, &value) in $line(row).iter().enumerate() {
                            // SAFETY: by the caller.
                            unsafe {
                                let to = to.add((y * $to + x) * stride + at);
                                let old = if add { _mm256_loadu_ps(to) } else { zero };
                                _mm256_storeu_ps(to, _mm256_add_ps(old, value));
                            }
                        }
                    }
                }
            }
        };
    }

    transform!(of_input: 4 => 4, input_line);
    transform!(of_weight: 3 => 4, weight_line);
    transform!(to_output: 4 => 2, output_line);
    transform!(of_output: 2 => 4, output_gradient_line);
    transform!(to_weight: 4 => 3, weight_gradient_line);

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn input_line([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
        [_mm256_sub_ps(a, c), _mm256_add_ps(b, c), _mm256_sub_ps(c, b), _mm256_sub_ps(b, d)]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn weight_line([a, b, c]: [__m256; 3]) -> [__m256; 4] {
        let outer = _mm256_add_ps(a, c);
        [a, half(_mm256_add_ps(outer, b)), half(_mm256_sub_ps(outer, b)), c]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn output_line([a, b, c, d]: [__m256; 4]) -> [__m256; 2] {
        [_mm256_add_ps(a, _mm256_add_ps(b, c)), _mm256_sub_ps(_mm256_sub_ps(b, c), d)]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn output_gradient_line([a, b]: [__m256; 2]) -> [__m256; 4] {
        let negative = _mm256_sub_ps(_mm256_setzero_ps(), b);
        [a, _mm256_add_ps(a, b), _mm256_sub_ps(a, b), negative]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn weight_gradient_line([a, b, c, d]: [__m256; 4]) -> [__m256; 3] {
        let middle = half(_mm256_add_ps(b, c));
        [_mm256_add_ps(a, middle), half(_mm256_sub_ps(b, c)), _mm256_add_ps(middle, d)]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn half(a: __m256) -> __m256 {
        _mm256_mul_ps(_mm256_set1_ps(0.5), a)
    }
}
