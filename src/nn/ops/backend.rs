//! The trait a device implements so that networks run on it, and its two implementations: kernels of ours on the CPU,
//! dfdx's own ops elsewhere.

#[cfg(feature = "cuda")]
use super::composed;
use super::convolution::Geometry;
use super::pooling::Pooling;
use super::{DropoutPosition, Gradient};
use crate::nn::number::Number;
use dfdx::tensor::{Cpu, CpuError, HasErr, OwnedTape, Storage, Tensor, TensorFromVec};
use dfdx::tensor_ops::Device;
use std::borrow::Cow;

/// A device's buffer, such as a gradient's.
pub type Buffer<D, N = f32> = <D as Storage<N>>::Vec;

/// Values on a device, flat.
pub type Flat<D, N = f32> = Tensor<(usize,), N, D>;

/// A tensor on the CPU with these values.
pub(super) fn flat<N: Number>(values: Vec<N>) -> Result<Flat<Cpu, N>, CpuError> {
    let length = values.len();
    Cpu::default().try_tensor_from_vec(values, (length,))
}

/// What a batch norm makes, and the moments of a batch that was normalized with its own.
pub type Normalized<D, N = f32> = (Flat<D, N>, Option<Moments>);

/// The tape, where there is one.
pub type Recorder<D, N = f32> = Option<OwnedTape<N, D>>;

type Failure<D> = <D as HasErr>::Err;

/// What a batch norm normalizes with.
#[derive(Clone, Copy, Debug)]
pub enum NormStatistics<'a> {
    /// Mean and variance of the batch.
    Batch,
    /// Kept ones.
    Running {
        /// Mean of each channel.
        mean: &'a [f32],
        /// Variance of each channel.
        variance: &'a [f32],
    },
}

/// How a batch norm normalizes and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Normalization<'a> {
    /// With which statistics.
    pub statistics: NormStatistics<'a>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether ReLU follows.
    pub relu: bool,
}

/// Mean and biased variance of each channel of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Means.
    pub mean: Vec<f32>,
    /// Biased variances.
    pub variance: Vec<f32>,
}

/// A device that networks run on in a precision: everything of dfdx's, and the ops that it lacks. Lengths of tensors must
/// fit the shapes that come with them; ops may panic where they don't.
pub trait Backend<N: Number = f32>: Device<N> {
    /// Whether inference goes through folded plans on the host rather than op by op on the device.
    const PLANNED: bool;

    /// A tensor's values in this process's memory, as they lie there or as a copy.
    fn numbers(tensor: &Flat<Self, N>) -> Cow<'_, [N]>;

    /// Does work on each of several tensors, such as an optimizer's: side by side on the host, where dfdx's kernels use one
    /// thread each, and one after the other on devices that are parallel in themselves.
    ///
    /// # Errors
    /// The first of those that the work ends in.
    fn for_each<W: Send, E: Send>(
        tensors: Vec<(&mut Flat<Self, N>, W)>,
        work: impl Fn(&mut Flat<Self, N>, W) -> Result<(), E> + Send + Sync,
    ) -> Result<(), E>;

    /// 2-D convolution: `x` (batch, height, width, channels), `weight` (kernel height, kernel width, in, out), `bias`
    /// (out). `gradients` are those of x, weight, bias.
    fn convolution(
        x: &Flat<Self, N>,
        weight: &Flat<Self, N>,
        bias: Option<&Flat<Self, N>>,
        geometry: &Geometry,
        gradients: [Gradient; 3],
        tape: &mut Recorder<Self, N>,
    ) -> Result<Flat<Self, N>, Failure<Self>>;

    /// Batch normalization of `x` (rows, channels) over its rows with `affine` weight and bias (channels), plus `residual`
    /// (rows, channels) where there is one, then ReLU where wanted: one op, since each would walk the same memory again.
    /// `gradients` are those of x, weight, bias, residual. With the batch's statistics it also gives them.
    fn batch_norm(
        x: &Flat<Self, N>,
        affine: [&Flat<Self, N>; 2],
        residual: Option<&Flat<Self, N>>,
        norm: &Normalization,
        gradients: [Gradient; 4],
        tape: &mut Recorder<Self, N>,
    ) -> Result<Normalized<Self, N>, Failure<Self>>;

    /// max(x, 0).
    fn relu(
        x: &Flat<Self, N>,
        gradient: Gradient,
        tape: &mut Recorder<Self, N>,
    ) -> Result<Flat<Self, N>, Failure<Self>>;

    /// a + b.
    fn add(
        a: &Flat<Self, N>,
        b: &Flat<Self, N>,
        gradients: [Gradient; 2],
        tape: &mut Recorder<Self, N>,
    ) -> Result<Flat<Self, N>, Failure<Self>>;

    /// Parts of (rows, width) each, joined row by row.
    fn concatenate(
        parts: &[(&Flat<Self, N>, usize, Gradient)],
        rows: usize,
        tape: &mut Recorder<Self, N>,
    ) -> Result<Flat<Self, N>, Failure<Self>>;

    /// Maximum or mean over windows.
    fn pool(
        x: &Flat<Self, N>,
        pooling: &Pooling,
        gradient: Gradient,
        tape: &mut Recorder<Self, N>,
    ) -> Result<Flat<Self, N>, Failure<Self>>;

    /// `x` (batch, in) times `weight` (in, out) plus `bias` (out). `gradients` are those of x, weight, bias.
    fn linear(
        x: &Flat<Self, N>,
        weight: &Flat<Self, N>,
        bias: &Flat<Self, N>,
        batch: usize,
        gradients: [Gradient; 3],
        tape: &mut Recorder<Self, N>,
    ) -> Result<Flat<Self, N>, Failure<Self>>;

    /// Zeroes values by a mask that depends on `position` alone, and scales the others by 1 / (1 - probability).
    fn dropout(
        x: &Flat<Self, N>,
        probability: f32,
        position: DropoutPosition,
        gradient: Gradient,
        tape: &mut Recorder<Self, N>,
    ) -> Result<Flat<Self, N>, Failure<Self>>;

    /// Mean over the batch of - sum over classes of target * log softmax(logits), as a tensor for dfdx's `backward`.
    /// `targets` (batch, classes), whose rows may have any sum.
    fn cross_entropy(
        logits: &Flat<Self, N>,
        targets: &[f32],
        batch: usize,
        tape: &mut Recorder<Self, N>,
    ) -> Result<Tensor<(), N, Self>, Failure<Self>>;
}

/// The CPU's kernels, each from its op's file.
mod kernels {
    use super::{Cow, Cpu, Flat, Number};
    use rayon::prelude::*;

    pub(super) fn numbers<N: Number>(tensor: &Flat<Cpu, N>) -> Cow<'_, [N]> {
        Cow::Borrowed(crate::nn::matrix::values(tensor))
    }

    pub(super) fn for_each<N: Number, W: Send, E: Send>(
        tensors: Vec<(&mut Flat<Cpu, N>, W)>,
        work: impl Fn(&mut Flat<Cpu, N>, W) -> Result<(), E> + Send + Sync,
    ) -> Result<(), E> {
        tensors.into_par_iter().try_for_each(|(tensor, with)| work(tensor, with))
    }

    pub(super) use crate::nn::ops::arithmetic::cpu::{add, concatenate, relu};
    pub(super) use crate::nn::ops::batch_norm::cpu::batch_norm;
    pub(super) use crate::nn::ops::convolution::cpu::convolution;
    pub(super) use crate::nn::ops::cross_entropy::cpu::cross_entropy;
    pub(super) use crate::nn::ops::dropout::cpu::dropout;
    pub(super) use crate::nn::ops::linear::cpu::linear;
    pub(super) use crate::nn::ops::pooling::cpu::pool;
}

/// Implements [`Backend`] with the ops of a module.
macro_rules! backend {
    ($device:ty, $number:ty, $module:ident, planned: $planned:literal) => {
        impl Backend<$number> for $device {
            const PLANNED: bool = $planned;

            fn numbers(tensor: &Flat<Self, $number>) -> Cow<'_, [$number]> {
                $module::numbers(tensor)
            }

            fn for_each<W: Send, E: Send>(
                tensors: Vec<(&mut Flat<Self, $number>, W)>,
                work: impl Fn(&mut Flat<Self, $number>, W) -> Result<(), E> + Send + Sync,
            ) -> Result<(), E> {
                $module::for_each(tensors, work)
            }

            fn convolution(
                x: &Flat<Self, $number>,
                weight: &Flat<Self, $number>,
                bias: Option<&Flat<Self, $number>>,
                geometry: &Geometry,
                gradients: [Gradient; 3],
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Flat<Self, $number>, Failure<Self>> {
                $module::convolution(x, weight, bias, geometry, gradients, tape)
            }

            fn batch_norm(
                x: &Flat<Self, $number>,
                affine: [&Flat<Self, $number>; 2],
                residual: Option<&Flat<Self, $number>>,
                norm: &Normalization,
                gradients: [Gradient; 4],
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Normalized<Self, $number>, Failure<Self>> {
                $module::batch_norm(x, affine, residual, norm, gradients, tape)
            }

            fn relu(
                x: &Flat<Self, $number>,
                gradient: Gradient,
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Flat<Self, $number>, Failure<Self>> {
                $module::relu(x, gradient, tape)
            }

            fn add(
                a: &Flat<Self, $number>,
                b: &Flat<Self, $number>,
                gradients: [Gradient; 2],
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Flat<Self, $number>, Failure<Self>> {
                $module::add(a, b, gradients, tape)
            }

            fn concatenate(
                parts: &[(&Flat<Self, $number>, usize, Gradient)],
                rows: usize,
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Flat<Self, $number>, Failure<Self>> {
                $module::concatenate(parts, rows, tape)
            }

            fn pool(
                x: &Flat<Self, $number>,
                pooling: &Pooling,
                gradient: Gradient,
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Flat<Self, $number>, Failure<Self>> {
                $module::pool(x, pooling, gradient, tape)
            }

            fn linear(
                x: &Flat<Self, $number>,
                weight: &Flat<Self, $number>,
                bias: &Flat<Self, $number>,
                batch: usize,
                gradients: [Gradient; 3],
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Flat<Self, $number>, Failure<Self>> {
                $module::linear(x, weight, bias, batch, gradients, tape)
            }

            fn dropout(
                x: &Flat<Self, $number>,
                probability: f32,
                position: DropoutPosition,
                gradient: Gradient,
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Flat<Self, $number>, Failure<Self>> {
                $module::dropout(x, probability, position, gradient, tape)
            }

            fn cross_entropy(
                logits: &Flat<Self, $number>,
                targets: &[f32],
                batch: usize,
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Tensor<(), $number, Self>, Failure<Self>> {
                $module::cross_entropy(logits, targets, batch, tape)
            }
        }
    };
}

backend!(Cpu, f32, kernels, planned: true);
backend!(Cpu, f64, kernels, planned: true);
#[cfg(feature = "cuda")]
backend!(dfdx::tensor::Cuda, f32, composed, planned: false);
#[cfg(feature = "cuda")]
backend!(dfdx::tensor::Cuda, f64, composed, planned: false);
