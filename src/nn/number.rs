//! The two precisions that networks are computed in, so that everything is written once. Knows no kernel.

use dfdx::dtypes::Dtype;
use std::borrow::Cow;
use std::cell::RefCell;

/// A matrix product of the crate `gemm`, as `gemm::gemm` documents its parameters: rows, columns and depth; the output
/// with its column and row strides and whether it is added to; the two factors with theirs; scales of the old output and
/// of the product; three flags for complex numbers; threads.
pub type GemmKernel<N> = unsafe fn(
    usize,
    usize,
    usize,
    *mut N,
    isize,
    isize,
    bool,
    *const N,
    isize,
    isize,
    *const N,
    isize,
    isize,
    N,
    N,
    bool,
    bool,
    bool,
    gemm_common::Parallelism,
);

/// `f32` or `f64`.
pub trait Number: Dtype + From<f32> + Into<f64> {
    /// 0.
    const ZERO: Self;
    /// Less than any number.
    const LOWEST: Self;
    /// How many products a sum takes up before it is added to others: rounding grows with the square root of how many are
    /// added up one after the other, so that short sums of short sums lose fewer digits.
    const SLICE: usize;

    /// The nearest of this precision.
    fn of(value: f64) -> Self;

    /// Whether it is none.
    fn is_nan(self) -> bool;

    /// In single precision: what is given, or a copy.
    fn singles(values: Cow<[Self]>) -> Cow<[f32]>;

    /// Appends its bytes, the lowest first.
    fn write(self, bytes: &mut Vec<u8>);

    /// The fastest matrix product for this processor.
    fn gemm_kernel() -> GemmKernel<Self>;

    /// Lends `length` values of this thread's scratch memory, whatever they hold. Not to be nested.
    fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
}

macro_rules! number {
    ($number:ty, slice: $slice:expr, gemm: $gemm:expr, singles: $singles:expr) => {
        impl Number for $number {
            const ZERO: Self = 0.0;
            const LOWEST: Self = Self::NEG_INFINITY;
            const SLICE: usize = $slice;

            fn of(value: f64) -> Self {
                value as Self
            }

            fn is_nan(self) -> bool {
                self.is_nan()
            }

            fn singles(values: Cow<[Self]>) -> Cow<[f32]> {
                $singles(values)
            }

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn gemm_kernel() -> GemmKernel<Self> {
                $gemm()
            }

            fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local! {
                    static SCRATCH: RefCell<Vec<$number>> = const { RefCell::new(Vec::new()) };
                }
                SCRATCH.with_borrow_mut(|scratch| {
                    if scratch.len() < length {
                        scratch.resize(length, 0.0);
                    }
                    work(&mut scratch[..length])
                })
            }
        }
    };
}

number!(f32, slice: 64, gemm: gemm_f32::gemm::f32::get_gemm_fn, singles: |values| values);
number!(f64, slice: usize::MAX, gemm: gemm_f64::gemm::f64::get_gemm_fn, singles: |values: Cow<[f64]>| values.iter().map(|value| *value as f32).collect());

/// Numbers in another precision.
pub(crate) fn converted<N: Number, M: Number>(values: &[N]) -> Vec<M> {
    values.iter().map(|&value| M::of(value.into())).collect()
}

/// Numbers in double precision.
pub(crate) fn doubles<N: Number>(values: &[N]) -> Vec<f64> {
    converted(values)
}
