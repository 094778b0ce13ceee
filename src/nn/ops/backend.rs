//! The trait of a device that networks run on, implemented by hand-written kernels on the CPU and
//! by dfdx's own ops elsewhere.

#[cfg(feature = "cuda")]
use super::composed;
use super::convolution::Geometry;
use super::pooling::Pooling;
use super::{DropoutPosition, Gradient, Products};
use crate::nn::number::Number;
use dfdx::tensor::{Cpu, CpuError, HasErr, OwnedTape, Storage, Tensor, TensorFromVec};
use dfdx::tensor_ops::Device;
use std::borrow::Cow;

/// A buffer on a device, such as a gradient.
pub type Buffer<D, N = f32> = <D as Storage<N>>::Vec;

/// A flat tensor on a device.
pub type FlatTensor<D, N = f32> = Tensor<(usize,), N, D>;

/// A flat tensor on the CPU.
pub(super) fn flat<N: Number>(values: Vec<N>) -> Result<FlatTensor<Cpu, N>, CpuError> {
    let length = values.len();
    Cpu::default().try_tensor_from_vec(values, (length,))
}

/// The output of a batch norm, and the batch's statistics if it normalized with them.
pub type Normalized<D, N = f32> = (FlatTensor<D, N>, Option<BatchStatistics>);

/// The tape, or `None` when nothing is recorded.
pub type MaybeTape<D, N = f32> = Option<OwnedTape<N, D>>;

type Failure<D> = <D as HasErr>::Err;

/// The statistics that a batch norm normalizes with.
#[derive(Clone, Copy, Debug)]
pub enum NormStatistics<'a> {
    /// Those of the batch.
    Batch,
    /// Running statistics.
    Running {
        /// Per channel.
        mean: &'a [f32],
        /// Per channel.
        variance: &'a [f32],
    },
}

/// The options of a batch norm.
#[derive(Clone, Copy, Debug)]
pub struct Normalization<'a> {
    pub statistics: NormStatistics<'a>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether a ReLU is applied last.
    pub relu: bool,
}

/// Mean and biased variance of each channel of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStatistics {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

/// A device that networks run on in precision `N`: a dfdx device and the ops that dfdx lacks. The
/// lengths of tensors must match the shapes passed with them; ops may panic otherwise.
pub trait Backend<N: Number = f32>: Device<N> {
    /// Whether inference runs compiled networks on the host rather than op by op on the device.
    const COMPILES: bool;

    /// A tensor's values in host memory, borrowed or copied.
    fn numbers(tensor: &FlatTensor<Self, N>) -> Cow<'_, [N]>;

    /// Runs `work` on each of several tensors, such as an optimizer's: in parallel on the host,
    /// where dfdx's kernels are single-threaded, and sequentially on devices that are parallel
    /// themselves.
    ///
    /// # Errors
    /// The first error of `work`.
    fn for_each<W: Send, E: Send>(
        tensors: Vec<(&mut FlatTensor<Self, N>, W)>,
        work: impl Fn(&mut FlatTensor<Self, N>, W) -> Result<(), E> + Send + Sync,
    ) -> Result<(), E>;

    /// 2-D convolution of `x` (batch, height, width, in) with `weight` (kernel height, kernel
    /// width, in, out) and `bias` (out) to (batch, height, width, out). `gradients` are those of x,
    /// weight, bias.
    fn convolution(
        x: &FlatTensor<Self, N>,
        weight: &FlatTensor<Self, N>,
        bias: Option<&FlatTensor<Self, N>>,
        geometry: &Geometry,
        gradients: [Gradient; 3],
        tape: &mut MaybeTape<Self, N>,
    ) -> Result<FlatTensor<Self, N>, Failure<Self>>;

    /// Batch normalization (Ioffe and Szegedy, 2015) of `x` (rows, channels) over its rows with
    /// weight and bias `affine` (channels), plus an optional `residual` (rows, channels), then an
    /// optional ReLU. A single op, since each would traverse the same memory again. `gradients` are
    /// those of x, weight, bias, residual.
    fn batch_norm(
        x: &FlatTensor<Self, N>,
        affine: [&FlatTensor<Self, N>; 2],
        residual: Option<&FlatTensor<Self, N>>,
        norm: &Normalization,
        gradients: [Gradient; 4],
        tape: &mut MaybeTape<Self, N>,
    ) -> Result<Normalized<Self, N>, Failure<Self>>;

    /// max(x, 0), elementwise; NaN stays NaN.
    fn relu(
        x: &FlatTensor<Self, N>,
        gradient: Gradient,
        tape: &mut MaybeTape<Self, N>,
    ) -> Result<FlatTensor<Self, N>, Failure<Self>>;

    /// a + b, elementwise.
    fn add(
        a: &FlatTensor<Self, N>,
        b: &FlatTensor<Self, N>,
        gradients: [Gradient; 2],
        tape: &mut MaybeTape<Self, N>,
    ) -> Result<FlatTensor<Self, N>, Failure<Self>>;

    /// Concatenates parts (rows, width) along the second axis.
    fn concatenate(
        parts: &[(&FlatTensor<Self, N>, usize, Gradient)],
        rows: usize,
        tape: &mut MaybeTape<Self, N>,
    ) -> Result<FlatTensor<Self, N>, Failure<Self>>;

    /// Maximum or mean over windows of `x` (batch, height, width, channels).
    fn pool(
        x: &FlatTensor<Self, N>,
        pooling: &Pooling,
        gradient: Gradient,
        tape: &mut MaybeTape<Self, N>,
    ) -> Result<FlatTensor<Self, N>, Failure<Self>>;

    /// `x` (batch, in) times a weight (in, out) plus a bias (out), giving (batch, out). `gradients`
    /// are those of x, weight, bias.
    fn linear(
        x: &FlatTensor<Self, N>,
        affine: [&FlatTensor<Self, N>; 2],
        batch: usize,
        products: Products,
        gradients: [Gradient; 3],
        tape: &mut MaybeTape<Self, N>,
    ) -> Result<FlatTensor<Self, N>, Failure<Self>>;

    /// Dropout (Srivastava et al., 2014): zeroes values with `probability` in [0, 1), by a mask
    /// that depends only on `position`, and scales the others by 1 / (1 - probability).
    fn dropout(
        x: &FlatTensor<Self, N>,
        probability: f32,
        position: DropoutPosition,
        gradient: Gradient,
        tape: &mut MaybeTape<Self, N>,
    ) -> Result<FlatTensor<Self, N>, Failure<Self>>;

    /// Mean over the batch of -sum(target * log_softmax(logits)), for `logits` and `targets`
    /// (batch, classes). The rows of `targets` may have any sum.
    fn cross_entropy(
        logits: &FlatTensor<Self, N>,
        targets: &[f32],
        batch: usize,
        tape: &mut MaybeTape<Self, N>,
    ) -> Result<Tensor<(), N, Self>, Failure<Self>>;
}

/// The CPU kernels.
mod kernels {
    use super::{Cow, Cpu, FlatTensor, Number};
    use rayon::prelude::*;

    pub(super) fn numbers<N: Number>(tensor: &FlatTensor<Cpu, N>) -> Cow<'_, [N]> {
        Cow::Borrowed(crate::nn::matrix::values(tensor))
    }

    pub(super) fn for_each<N: Number, W: Send, E: Send>(
        tensors: Vec<(&mut FlatTensor<Cpu, N>, W)>,
        work: impl Fn(&mut FlatTensor<Cpu, N>, W) -> Result<(), E> + Send + Sync,
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
    ($device:ty, $number:ty, $module:ident, compiles: $compiles:literal) => {
        impl Backend<$number> for $device {
            const COMPILES: bool = $compiles;

            fn numbers(tensor: &FlatTensor<Self, $number>) -> Cow<'_, [$number]> {
                $module::numbers(tensor)
            }

            fn for_each<W: Send, E: Send>(
                tensors: Vec<(&mut FlatTensor<Self, $number>, W)>,
                work: impl Fn(&mut FlatTensor<Self, $number>, W) -> Result<(), E> + Send + Sync,
            ) -> Result<(), E> {
                $module::for_each(tensors, work)
            }

            fn convolution(
                x: &FlatTensor<Self, $number>,
                weight: &FlatTensor<Self, $number>,
                bias: Option<&FlatTensor<Self, $number>>,
                geometry: &Geometry,
                gradients: [Gradient; 3],
                tape: &mut MaybeTape<Self, $number>,
            ) -> Result<FlatTensor<Self, $number>, Failure<Self>> {
                $module::convolution(x, weight, bias, geometry, gradients, tape)
            }

            fn batch_norm(
                x: &FlatTensor<Self, $number>,
                affine: [&FlatTensor<Self, $number>; 2],
                residual: Option<&FlatTensor<Self, $number>>,
                norm: &Normalization,
                gradients: [Gradient; 4],
                tape: &mut MaybeTape<Self, $number>,
            ) -> Result<Normalized<Self, $number>, Failure<Self>> {
                $module::batch_norm(x, affine, residual, norm, gradients, tape)
            }

            fn relu(
                x: &FlatTensor<Self, $number>,
                gradient: Gradient,
                tape: &mut MaybeTape<Self, $number>,
            ) -> Result<FlatTensor<Self, $number>, Failure<Self>> {
                $module::relu(x, gradient, tape)
            }

            fn add(
                a: &FlatTensor<Self, $number>,
                b: &FlatTensor<Self, $number>,
                gradients: [Gradient; 2],
                tape: &mut MaybeTape<Self, $number>,
            ) -> Result<FlatTensor<Self, $number>, Failure<Self>> {
                $module::add(a, b, gradients, tape)
            }

            fn concatenate(
                parts: &[(&FlatTensor<Self, $number>, usize, Gradient)],
                rows: usize,
                tape: &mut MaybeTape<Self, $number>,
            ) -> Result<FlatTensor<Self, $number>, Failure<Self>> {
                $module::concatenate(parts, rows, tape)
            }

            fn pool(
                x: &FlatTensor<Self, $number>,
                pooling: &Pooling,
                gradient: Gradient,
                tape: &mut MaybeTape<Self, $number>,
            ) -> Result<FlatTensor<Self, $number>, Failure<Self>> {
                $module::pool(x, pooling, gradient, tape)
            }

            fn linear(
                x: &FlatTensor<Self, $number>,
                affine: [&FlatTensor<Self, $number>; 2],
                batch: usize,
                products: Products,
                gradients: [Gradient; 3],
                tape: &mut MaybeTape<Self, $number>,
            ) -> Result<FlatTensor<Self, $number>, Failure<Self>> {
                $module::linear(x, affine, batch, products, gradients, tape)
            }

            fn dropout(
                x: &FlatTensor<Self, $number>,
                probability: f32,
                position: DropoutPosition,
                gradient: Gradient,
                tape: &mut MaybeTape<Self, $number>,
            ) -> Result<FlatTensor<Self, $number>, Failure<Self>> {
                $module::dropout(x, probability, position, gradient, tape)
            }

            fn cross_entropy(
                logits: &FlatTensor<Self, $number>,
                targets: &[f32],
                batch: usize,
                tape: &mut MaybeTape<Self, $number>,
            ) -> Result<Tensor<(), $number, Self>, Failure<Self>> {
                $module::cross_entropy(logits, targets, batch, tape)
            }
        }
    };
}

backend!(Cpu, f32, kernels, compiles: true);
backend!(Cpu, f64, kernels, compiles: true);
#[cfg(feature = "cuda")]
backend!(dfdx::tensor::Cuda, f32, composed, compiles: false);
#[cfg(feature = "cuda")]
backend!(dfdx::tensor::Cuda, f64, composed, compiles: false);
