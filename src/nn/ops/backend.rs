//! The trait a device implements so that networks run on it, and its two implementations: kernels of ours on the CPU,
//! dfdx's own ops elsewhere.

use super::chunks::CHUNK;
#[cfg(feature = "cuda")]
use super::composed;
use super::convolution::Geometry;
use super::pooling::Pooling;
use super::{DropoutPosition, Gradient};
use dfdx::tensor::{Cpu, CpuError, HasErr, OwnedTape, Storage, Tensor, TensorFromVec};
use dfdx::tensor_ops::Device;
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;

/// A device's buffer, such as a gradient's.
pub type Buffer<D> = <D as Storage<f32>>::Vec;

/// Values on a device, flat.
pub type Flat<D> = Tensor<(usize,), f32, D>;

/// What flows from op to op: numbers on a device, and in a pass in double precision the same before they were rounded,
/// which the next op reads in their place. The tape and all that is kept for the way back know the rounded ones alone.
#[derive(Clone, Debug)]
pub struct Activation<D: Storage<f32>> {
    /// In single precision.
    pub single: Flat<D>,
    /// In double precision.
    pub double: Option<Arc<Vec<f64>>>,
}

impl<D: Storage<f32>> From<Flat<D>> for Activation<D> {
    fn from(single: Flat<D>) -> Self {
        Activation { single, double: None }
    }
}

impl Activation<Cpu> {
    /// Numbers of a pass in single precision.
    pub(super) fn of_single(numbers: Vec<f32>) -> Result<Self, CpuError> {
        let length = numbers.len();
        Ok(Cpu::default().try_tensor_from_vec(numbers, (length,))?.into())
    }

    /// Numbers of a pass in double precision.
    pub(super) fn of_double(numbers: Vec<f64>) -> Result<Self, CpuError> {
        let mut single = vec![0.0; numbers.len()];
        single.par_chunks_mut(CHUNK).zip(numbers.par_chunks(CHUNK)).for_each(|(single, numbers)| {
            single.iter_mut().zip(numbers).for_each(|(single, number)| *single = *number as f32);
        });
        Ok(Activation { double: Some(Arc::new(numbers)), ..Activation::of_single(single)? })
    }
}

/// The tape, where there is one.
pub type Recorder<D> = Option<OwnedTape<f32, D>>;

type Failure<D> = <D as HasErr>::Err;

/// What a batch norm normalises with.
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

/// How a batch norm normalises and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Normalisation<'a> {
    /// With which statistics.
    pub statistics: NormStatistics<'a>,
    /// Added to the variance.
    pub epsilon: f32,
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

/// A device that networks run on: everything of dfdx's, and the ops that it lacks. Lengths of tensors must fit the shapes
/// that come with them; ops may panic where they don't.
pub trait Backend: Device<f32> {
    /// Whether inference goes through folded plans on the host rather than op by op on the device.
    const PLANNED: bool;

    /// Whether ops can read and make numbers in double precision.
    const DOUBLE: bool;

    /// A tensor's values in this process's memory, as they lie there or as a copy.
    fn numbers(tensor: &Flat<Self>) -> Cow<'_, [f32]>;

    /// 2-D convolution: `x` (batch, height, width, channels), `weight` (kernel height, kernel width, in, out), `bias`
    /// (out). `gradients` are those of x, weight, bias.
    fn convolution(
        x: &Activation<Self>,
        weight: &Flat<Self>,
        bias: Option<&Flat<Self>>,
        geometry: &Geometry,
        gradients: [Gradient; 3],
        tape: &mut Recorder<Self>,
    ) -> Result<Activation<Self>, Failure<Self>>;

    /// Batch normalisation of `x` (rows, channels) over its rows with `affine` weight and bias (channels), plus `residual`
    /// (rows, channels) where there is one, then ReLU where wanted: one op, since each would walk the same memory again.
    /// `gradients` are those of x, weight, bias, residual. With the batch's statistics it also gives them.
    fn batch_norm(
        x: &Activation<Self>,
        affine: [&Flat<Self>; 2],
        residual: Option<&Activation<Self>>,
        norm: &Normalisation,
        gradients: [Gradient; 4],
        tape: &mut Recorder<Self>,
    ) -> Result<(Activation<Self>, Option<Moments>), Failure<Self>>;

    /// max(x, 0).
    fn relu(
        x: &Activation<Self>,
        gradient: Gradient,
        tape: &mut Recorder<Self>,
    ) -> Result<Activation<Self>, Failure<Self>>;

    /// a + b.
    fn add(
        a: &Activation<Self>,
        b: &Activation<Self>,
        gradients: [Gradient; 2],
        tape: &mut Recorder<Self>,
    ) -> Result<Activation<Self>, Failure<Self>>;

    /// Parts of (rows, width) each, joined row by row.
    fn concatenate(
        parts: &[(&Activation<Self>, usize, Gradient)],
        rows: usize,
        tape: &mut Recorder<Self>,
    ) -> Result<Activation<Self>, Failure<Self>>;

    /// Maximum or mean over windows.
    fn pool(
        x: &Activation<Self>,
        pooling: &Pooling,
        gradient: Gradient,
        tape: &mut Recorder<Self>,
    ) -> Result<Activation<Self>, Failure<Self>>;

    /// `x` (batch, in) times `weight` (in, out) plus `bias` (out). `gradients` are those of x, weight, bias.
    fn linear(
        x: &Activation<Self>,
        weight: &Flat<Self>,
        bias: &Flat<Self>,
        batch: usize,
        gradients: [Gradient; 3],
        tape: &mut Recorder<Self>,
    ) -> Result<Activation<Self>, Failure<Self>>;

    /// Zeroes values by a mask that depends on `position` alone, and scales the others by 1 / (1 - probability).
    fn dropout(
        x: &Activation<Self>,
        probability: f32,
        position: DropoutPosition,
        gradient: Gradient,
        tape: &mut Recorder<Self>,
    ) -> Result<Activation<Self>, Failure<Self>>;

    /// Mean over the batch of - sum over classes of target * log softmax(logits), as a tensor for dfdx's `backward`.
    /// `targets` (batch, classes), whose rows may have any sum.
    fn cross_entropy(
        logits: &Activation<Self>,
        targets: &[f32],
        batch: usize,
        tape: &mut Recorder<Self>,
    ) -> Result<Tensor<(), f32, Self>, Failure<Self>>;
}

/// The CPU's kernels, each from its op's file.
mod kernels {
    use super::{Cow, Cpu, Flat};

    pub(super) fn numbers(tensor: &Flat<Cpu>) -> Cow<'_, [f32]> {
        Cow::Borrowed(crate::nn::buffers::values(tensor))
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
    ($device:ty, $module:ident, planned: $planned:literal, double: $double:literal) => {
        impl Backend for $device {
            const PLANNED: bool = $planned;
            const DOUBLE: bool = $double;

            fn numbers(tensor: &Flat<Self>) -> Cow<'_, [f32]> {
                $module::numbers(tensor)
            }

            fn convolution(
                x: &Activation<Self>,
                weight: &Flat<Self>,
                bias: Option<&Flat<Self>>,
                geometry: &Geometry,
                gradients: [Gradient; 3],
                tape: &mut Recorder<Self>,
            ) -> Result<Activation<Self>, Failure<Self>> {
                $module::convolution(x, weight, bias, geometry, gradients, tape)
            }

            fn batch_norm(
                x: &Activation<Self>,
                affine: [&Flat<Self>; 2],
                residual: Option<&Activation<Self>>,
                norm: &Normalisation,
                gradients: [Gradient; 4],
                tape: &mut Recorder<Self>,
            ) -> Result<(Activation<Self>, Option<Moments>), Failure<Self>> {
                $module::batch_norm(x, affine, residual, norm, gradients, tape)
            }

            fn relu(
                x: &Activation<Self>,
                gradient: Gradient,
                tape: &mut Recorder<Self>,
            ) -> Result<Activation<Self>, Failure<Self>> {
                $module::relu(x, gradient, tape)
            }

            fn add(
                a: &Activation<Self>,
                b: &Activation<Self>,
                gradients: [Gradient; 2],
                tape: &mut Recorder<Self>,
            ) -> Result<Activation<Self>, Failure<Self>> {
                $module::add(a, b, gradients, tape)
            }

            fn concatenate(
                parts: &[(&Activation<Self>, usize, Gradient)],
                rows: usize,
                tape: &mut Recorder<Self>,
            ) -> Result<Activation<Self>, Failure<Self>> {
                $module::concatenate(parts, rows, tape)
            }

            fn pool(
                x: &Activation<Self>,
                pooling: &Pooling,
                gradient: Gradient,
                tape: &mut Recorder<Self>,
            ) -> Result<Activation<Self>, Failure<Self>> {
                $module::pool(x, pooling, gradient, tape)
            }

            fn linear(
                x: &Activation<Self>,
                weight: &Flat<Self>,
                bias: &Flat<Self>,
                batch: usize,
                gradients: [Gradient; 3],
                tape: &mut Recorder<Self>,
            ) -> Result<Activation<Self>, Failure<Self>> {
                $module::linear(x, weight, bias, batch, gradients, tape)
            }

            fn dropout(
                x: &Activation<Self>,
                probability: f32,
                position: DropoutPosition,
                gradient: Gradient,
                tape: &mut Recorder<Self>,
            ) -> Result<Activation<Self>, Failure<Self>> {
                $module::dropout(x, probability, position, gradient, tape)
            }

            fn cross_entropy(
                logits: &Activation<Self>,
                targets: &[f32],
                batch: usize,
                tape: &mut Recorder<Self>,
            ) -> Result<Tensor<(), f32, Self>, Failure<Self>> {
                $module::cross_entropy(logits, targets, batch, tape)
            }
        }
    };
}

backend!(Cpu, kernels, planned: true, double: true);
#[cfg(feature = "cuda")]
backend!(dfdx::tensor::Cuda, composed, planned: false, double: false);
