//! The element types `f32` and `f64`, so that networks and ops are written once for both.

use super::ops::{Buffer, FlatTensor};
use dfdx::dtypes::Dtype;
use dfdx::tensor::{Cpu, CpuError, Gradients, OwnedTape, PutTape, Tensor};
use dfdx::tensor_ops::{AdamConfig, Backward, SgdConfig};
use std::borrow::Cow;
use std::cell::RefCell;

/// A matrix product of the crate `gemm`, as `gemm::gemm` documents its parameters: rows, columns
/// and depth; the output with its column and row strides and whether it is added to; the two
/// factors with theirs; scales of the old output and of the product; three flags for complex
/// numbers; threads.
pub(super) type GemmKernel<N> = unsafe fn(
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
    const ZERO: Self;
    /// Negative infinity.
    const LOWEST: Self;
    /// Number of products in a partial sum of a matrix product. The rounding error grows with the
    /// square root of the length of a sum, so sums of short partial sums are more accurate.
    const SLICE: usize;

    /// Rounds to this precision.
    fn of(value: f64) -> Self;

    fn is_nan(self) -> bool;

    /// Values as `f32`, without a copy where they are.
    fn as_f32(values: &[Self]) -> Cow<'_, [f32]>;

    /// These values, where they are `f32`.
    fn single(values: &[Self]) -> Option<&[f32]>;

    /// These values, where they are `f32`.
    fn single_mut(values: &mut [Self]) -> Option<&mut [f32]>;

    /// Appends the little-endian bytes.
    fn write(self, bytes: &mut Vec<u8>);

    /// The fastest matrix product for this processor.
    fn gemm_kernel() -> GemmKernel<Self>;

    /// dfdx's backward pass from a loss.
    ///
    /// # Errors
    /// When memory can't be allocated.
    fn backward(
        loss: Tensor<(), Self, Cpu>,
        tape: OwnedTape<Self, Cpu>,
    ) -> Result<Gradients<Self, Cpu>, CpuError>;

    /// dfdx's SGD step. `first` is the momentum.
    ///
    /// # Errors
    /// When memory can't be allocated.
    fn sgd(
        config: &SgdConfig,
        parameter: &mut FlatTensor<Self>,
        first: &mut Buffer<Self>,
        gradient: &Buffer<Self>,
    ) -> Result<(), CpuError>;

    /// dfdx's Adam step number `step`, from 1. `moments` are the first and the second.
    ///
    /// # Errors
    /// When memory can't be allocated.
    fn adam(
        config: &AdamConfig,
        step: i32,
        parameter: &mut FlatTensor<Self>,
        moments: [&mut Buffer<Self>; 2],
        gradient: &Buffer<Self>,
    ) -> Result<(), CpuError>;

    /// Runs `work` on `length` values of thread-local scratch memory with arbitrary content. Must
    /// not be nested.
    fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
}

macro_rules! number {
    ($number:ty, slice: $slice:expr, gemm: $gemm:expr, as_f32: $as_f32:expr, single: $single:expr) => {
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

            fn as_f32(values: &[Self]) -> Cow<'_, [f32]> {
                $as_f32(values)
            }

            fn single(values: &[Self]) -> Option<&[f32]> {
                $single(values)
            }

            fn single_mut(values: &mut [Self]) -> Option<&mut [f32]> {
                $single(values)
            }

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn gemm_kernel() -> GemmKernel<Self> {
                $gemm()
            }

            fn backward(
                loss: Tensor<(), Self, Cpu>,
                tape: OwnedTape<Self, Cpu>,
            ) -> Result<Gradients<Self, Cpu>, CpuError> {
                loss.put_tape(tape).try_backward()
            }

            fn sgd(
                config: &SgdConfig,
                parameter: &mut FlatTensor<Self>,
                first: &mut Buffer<Self>,
                gradient: &Buffer<Self>,
            ) -> Result<(), CpuError> {
                config.try_update(parameter, first, gradient)
            }

            fn adam(
                config: &AdamConfig,
                step: i32,
                parameter: &mut FlatTensor<Self>,
                [first, second]: [&mut Buffer<Self>; 2],
                gradient: &Buffer<Self>,
            ) -> Result<(), CpuError> {
                config.try_update(step, parameter, first, second, gradient)
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

number!(f32, slice: 64, gemm: gemm_f32::gemm::f32::get_gemm_fn, as_f32: Cow::Borrowed, single: Some);
number!(f64, slice: usize::MAX, gemm: gemm_f64::gemm::f64::get_gemm_fn, as_f32: |values: &[f64]| values.iter().map(|value| *value as f32).collect(), single: |_| None);

/// Values in another precision.
pub(crate) fn converted<N: Number, M: Number>(values: &[N]) -> Vec<M> {
    values.iter().map(|&value| M::of(value.into())).collect()
}

pub(crate) fn to_f64<N: Number>(values: &[N]) -> Vec<f64> {
    converted(values)
}
