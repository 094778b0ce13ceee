//! The trait a device implements so that networks run on it, and its two implementations: kernels of ours on the CPU,
//! dfdx's own ops elsewhere.

use super::chunks::CHUNK;
#[cfg(feature = "cuda")]
use super::composed;
use super::convolution::Geometry;
use super::pooling::Pooling;
use super::{DropoutPosition, Gradient};
use crate::nn::number::Number;
use dfdx::tensor::{Cpu, CpuError, HasErr, OwnedTape, Storage, Tensor, TensorFromVec};
use dfdx::tensor_ops::Device;
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;

/// A device's buffer, such as a gradient's.
pub type Buffer<D, N = f32> = <D as Storage<N>>::Vec;

/// Values on a device, flat.
pub type Flat<D, N = f32> = Tensor<(usize,), N, D>;

/// What flows from op to op: numbers on a device, and in a mixed pass the same in double precision before they were rounded,
/// which the next op reads in their place. The tape and all that is kept for the way back know the rounded ones alone.
#[derive(Clone, Debug)]
pub struct Activation<D: Storage<N>, N: Number = f32> {
    /// In the precision of parameters and gradients.
    pub kept: Flat<D, N>,
    /// In double precision, where it isn't that one.
    pub wide: Option<Arc<Vec<f64>>>,
}

impl<D: Storage<N>, N: Number> From<Flat<D, N>> for Activation<D, N> {
    fn from(kept: Flat<D, N>) -> Self {
        Activation { kept, wide: None }
    }
}

impl<N: Number> Activation<Cpu, N> {
    /// Numbers of a pass in one precision.
    pub(super) fn of(numbers: Vec<N>) -> Result<Self, CpuError> {
        let length = numbers.len();
        Ok(Cpu::default().try_tensor_from_vec(numbers, (length,))?.into())
    }

    /// Numbers of a mixed pass.
    pub(super) fn of_wide(numbers: Vec<f64>) -> Result<Self, CpuError> {
        let mut kept = vec![N::ZERO; numbers.len()];
        kept.par_chunks_mut(CHUNK).zip(numbers.par_chunks(CHUNK)).for_each(|(kept, numbers)| {
            kept.iter_mut().zip(numbers).for_each(|(kept, number)| *kept = N::of(*number));
        });
        Ok(Activation { wide: Some(Arc::new(numbers)), ..Activation::of(kept)? })
    }
}

/// What a batch norm makes, and the moments of a batch that was normalized with its own.
pub type Normalized<D, N = f32> = (Activation<D, N>, Option<Moments>);

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

    /// Whether passes can be mixed: forwards in double precision though parameters and gradients are in single.
    const MIXES: bool;

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
        x: &Activation<Self, N>,
        weight: &Flat<Self, N>,
        bias: Option<&Flat<Self, N>>,
        geometry: &Geometry,
        gradients: [Gradient; 3],
        tape: &mut Recorder<Self, N>,
    ) -> Result<Activation<Self, N>, Failure<Self>>;

    /// Batch normalization of `x` (rows, channels) over its rows with `affine` weight and bias (channels), plus `residual`
    /// (rows, channels) where there is one, then ReLU where wanted: one op, since each would walk the same memory again.
    /// `gradients` are those of x, weight, bias, residual. With the batch's statistics it also gives them.
    fn batch_norm(
        x: &Activation<Self, N>,
        affine: [&Flat<Self, N>; 2],
        residual: Option<&Activation<Self, N>>,
        norm: &Normalization,
        gradients: [Gradient; 4],
        tape: &mut Recorder<Self, N>,
    ) -> Result<Normalized<Self, N>, Failure<Self>>;

    /// max(x, 0).
    fn relu(
        x: &Activation<Self, N>,
        gradient: Gradient,
        tape: &mut Recorder<Self, N>,
    ) -> Result<Activation<Self, N>, Failure<Self>>;

    /// a + b.
    fn add(
        a: &Activation<Self, N>,
        b: &Activation<Self, N>,
        gradients: [Gradient; 2],
        tape: &mut Recorder<Self, N>,
    ) -> Result<Activation<Self, N>, Failure<Self>>;

    /// Parts of (rows, width) each, joined row by row.
    fn concatenate(
        parts: &[(&Activation<Self, N>, usize, Gradient)],
        rows: usize,
        tape: &mut Recorder<Self, N>,
    ) -> Result<Activation<Self, N>, Failure<Self>>;

    /// Maximum or mean over windows.
    fn pool(
        x: &Activation<Self, N>,
        pooling: &Pooling,
        gradient: Gradient,
        tape: &mut Recorder<Self, N>,
    ) -> Result<Activation<Self, N>, Failure<Self>>;

    /// `x` (batch, in) times `weight` (in, out) plus `bias` (out). `gradients` are those of x, weight, bias.
    fn linear(
        x: &Activation<Self, N>,
        weight: &Flat<Self, N>,
        bias: &Flat<Self, N>,
        batch: usize,
        gradients: [Gradient; 3],
        tape: &mut Recorder<Self, N>,
    ) -> Result<Activation<Self, N>, Failure<Self>>;

    /// Zeroes values by a mask that depends on `position` alone, and scales the others by 1 / (1 - probability).
    fn dropout(
        x: &Activation<Self, N>,
        probability: f32,
        position: DropoutPosition,
        gradient: Gradient,
        tape: &mut Recorder<Self, N>,
    ) -> Result<Activation<Self, N>, Failure<Self>>;

    /// Mean over the batch of - sum over classes of target * log softmax(logits), as a tensor for dfdx's `backward`.
    /// `targets` (batch, classes), whose rows may have any sum.
    fn cross_entropy(
        logits: &Activation<Self, N>,
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
        Cow::Borrowed(crate::nn::buffers::values(tensor))
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
    ($device:ty, $number:ty, $module:ident, planned: $planned:literal, mixes: $mixes:literal) => {
        impl Backend<$number> for $device {
            const PLANNED: bool = $planned;
            const MIXES: bool = $mixes;

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
                x: &Activation<Self, $number>,
                weight: &Flat<Self, $number>,
                bias: Option<&Flat<Self, $number>>,
                geometry: &Geometry,
                gradients: [Gradient; 3],
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Activation<Self, $number>, Failure<Self>> {
                $module::convolution(x, weight, bias, geometry, gradients, tape)
            }

            fn batch_norm(
                x: &Activation<Self, $number>,
                affine: [&Flat<Self, $number>; 2],
                residual: Option<&Activation<Self, $number>>,
                norm: &Normalization,
                gradients: [Gradient; 4],
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Normalized<Self, $number>, Failure<Self>> {
                $module::batch_norm(x, affine, residual, norm, gradients, tape)
            }

            fn relu(
                x: &Activation<Self, $number>,
                gradient: Gradient,
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Activation<Self, $number>, Failure<Self>> {
                $module::relu(x, gradient, tape)
            }

            fn add(
                a: &Activation<Self, $number>,
                b: &Activation<Self, $number>,
                gradients: [Gradient; 2],
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Activation<Self, $number>, Failure<Self>> {
                $module::add(a, b, gradients, tape)
            }

            fn concatenate(
                parts: &[(&Activation<Self, $number>, usize, Gradient)],
                rows: usize,
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Activation<Self, $number>, Failure<Self>> {
                $module::concatenate(parts, rows, tape)
            }

            fn pool(
                x: &Activation<Self, $number>,
                pooling: &Pooling,
                gradient: Gradient,
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Activation<Self, $number>, Failure<Self>> {
                $module::pool(x, pooling, gradient, tape)
            }

            fn linear(
                x: &Activation<Self, $number>,
                weight: &Flat<Self, $number>,
                bias: &Flat<Self, $number>,
                batch: usize,
                gradients: [Gradient; 3],
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Activation<Self, $number>, Failure<Self>> {
                $module::linear(x, weight, bias, batch, gradients, tape)
            }

            fn dropout(
                x: &Activation<Self, $number>,
                probability: f32,
                position: DropoutPosition,
                gradient: Gradient,
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Activation<Self, $number>, Failure<Self>> {
                $module::dropout(x, probability, position, gradient, tape)
            }

            fn cross_entropy(
                logits: &Activation<Self, $number>,
                targets: &[f32],
                batch: usize,
                tape: &mut Recorder<Self, $number>,
            ) -> Result<Tensor<(), $number, Self>, Failure<Self>> {
                $module::cross_entropy(logits, targets, batch, tape)
            }
        }
    };
}

backend!(Cpu, f32, kernels, planned: true, mixes: true);
backend!(Cpu, f64, kernels, planned: true, mixes: false);
#[cfg(feature = "cuda")]
backend!(dfdx::tensor::Cuda, f32, composed, planned: false, mixes: false);
#[cfg(feature = "cuda")]
backend!(dfdx::tensor::Cuda, f64, composed, planned: false, mixes: false);
