//! The ops composed of dfdx's own, for any of its devices: windows are gathered as rows by index
//! (padding is an extra row), then multiplied, summed or maximized. A reference for large inputs, for
//! which naive loops are slow.
//!
//! dfdx's tape computes gradients for all inputs, so `Gradient`s are ignored. A maximum distributes
//! its gradient to all equal values, where the CPU kernel chooses the first.

use crate::nn::number::{Number, converted};
use crate::nn::ops::{
    BatchStatistics, DropoutPosition, Geometry, Gradient, NormStatistics, Normalization, PoolKind,
    Pooling, Products,
};
use dfdx::prelude::*;

type Failure<D> = <D as HasErr>::Err;
type Taped<S, D, N> = Tensor<S, N, D, OwnedTape<N, D>>;
type FlatTensor<D, N> = Tensor<(usize,), N, D>;
type MaybeTape<D, N> = Option<OwnedTape<N, D>>;
/// The output, and the batch's statistics if it normalized with them.
type Normalized<D, N> = (FlatTensor<D, N>, Option<BatchStatistics>);
/// (rows, columns).
type Rows = (usize, usize);

/// Runs ops on the tape, or on a temporary one if there is none.
fn recorded<D: Device<N>, N: Number>(
    x: &FlatTensor<D, N>,
    tape: &mut MaybeTape<D, N>,
    run: impl FnOnce(Taped<(usize,), D, N>) -> Result<Taped<(usize,), D, N>, Failure<D>>,
) -> Result<FlatTensor<D, N>, Failure<D>> {
    let keep = tape.is_some();
    let (out, used) = run(x.clone().put_tape(tape.take().unwrap_or_default()))?.split_tape();
    *tape = keep.then_some(used);
    Ok(out)
}

fn flat<S: Shape, D: Device<N>, N: Number>(
    x: Taped<S, D, N>,
) -> Result<Taped<(usize,), D, N>, Failure<D>> {
    let length = x.shape().num_elements();
    x.try_reshape_like(&(length,))
}

/// Rows of `x` (rows, channels) by `index`; the index after the last row gives a row of `filler`.
fn gather<D: Device<N>, N: Number>(
    x: Taped<Rows, D, N>,
    filler: N,
    index: Vec<usize>,
) -> Result<Taped<Rows, D, N>, Failure<D>> {
    let device = x.device().clone();
    let channels = x.shape().1;
    let filler: Tensor<Rows, N, D> =
        device.try_tensor_from_vec(vec![filler; channels], (1, channels))?;
    let count = index.len();
    let index: Tensor<(usize,), usize, D> = device.try_tensor_from_vec(index, (count,))?;
    (x, filler).try_concat_along(Axis::<0>)?.try_gather(index)
}

/// See [`ops::convolution`](crate::nn::ops::convolution).
pub(crate) fn convolution<D: Device<N>, N: Number>(
    x: &FlatTensor<D, N>,
    weight: &FlatTensor<D, N>,
    bias: Option<&FlatTensor<D, N>>,
    geometry: &Geometry,
    _: [Gradient; 3],
    tape: &mut MaybeTape<D, N>,
) -> Result<FlatTensor<D, N>, Failure<D>> {
    let Geometry { batch, input, output, .. } = *geometry;
    let weight = weight.clone().try_reshape_like(&(geometry.depth(), output.channels))?;
    let shape = (batch * output.pixels(), output.channels);
    recorded(x, tape, |x| {
        let x = x.try_reshape_like(&(batch * input.pixels(), input.channels))?;
        let windows = gather(x, N::ZERO, convolution_index(geometry))?
            .try_reshape_like(&(shape.0, geometry.depth()))?;
        let out = windows.try_matmul(weight)?;
        flat(match bias {
            Some(bias) => out.try_add(bias.clone().try_broadcast_like::<_, Axis<0>>(&shape)?)?,
            None => out,
        })
    })
}

/// For each output pixel and each tap, the index of the input pixel.
fn convolution_index(geometry: &Geometry) -> Vec<usize> {
    let Geometry { batch, input, output, window, .. } = *geometry;
    let outside = batch * input.pixels();
    let mut index = Vec::with_capacity(batch * output.pixels() * window.kernel.0 * window.kernel.1);
    for position in 0..batch * output.pixels() {
        let (image, pixel) = (position / output.pixels(), position % output.pixels());
        let (top, left) =
            (pixel / output.width * window.stride.0, pixel % output.width * window.stride.1);
        for tap in 0..window.kernel.0 * window.kernel.1 {
            let y = (top + tap / window.kernel.1)
                .checked_sub(window.padding.0)
                .filter(|&y| y < input.height);
            let x = (left + tap % window.kernel.1)
                .checked_sub(window.padding.1)
                .filter(|&x| x < input.width);
            index.push(match (y, x) {
                (Some(y), Some(x)) => image * input.pixels() + y * input.width + x,
                _ => outside,
            });
        }
    }
    index
}

/// See [`ops::batch_norm`](crate::nn::ops::batch_norm).
pub(crate) fn batch_norm<D: Device<N>, N: Number>(
    x: &FlatTensor<D, N>,
    [weight, bias]: [&FlatTensor<D, N>; 2],
    residual: Option<&FlatTensor<D, N>>,
    norm: &Normalization,
    _: [Gradient; 4],
    tape: &mut MaybeTape<D, N>,
) -> Result<Normalized<D, N>, Failure<D>> {
    let channels = weight.shape().0;
    let shape = (x.shape().0 / channels, channels);
    let mut moments = None;
    let out = recorded(x, tape, |x| {
        let x: Taped<Rows, D, N> = x.try_reshape_like(&shape)?;
        let (centered, deviation) = match norm.statistics {
            NormStatistics::Batch => {
                let (x, tape) = x.split_tape();
                let (mean, tape) =
                    x.clone().put_tape(tape).try_mean::<(usize,), Axis<0>>()?.split_tape();
                let means = mean.clone().try_broadcast_like::<_, Axis<0>>(&shape)?;
                let (centered, tape) = x.put_tape(tape).try_sub(means)?.split_tape();
                let squares = centered.clone().put_tape(tape).try_square()?;
                let (variance, tape) = squares.try_mean::<(usize,), Axis<0>>()?.split_tape();
                moments = Some(BatchStatistics {
                    mean: converted(&mean.as_vec()),
                    variance: converted(&variance.as_vec()),
                });
                let (deviation, tape) =
                    variance.put_tape(tape).try_add(N::of(norm.epsilon))?.try_sqrt()?.split_tape();
                (centered.put_tape(tape), deviation)
            }
            NormStatistics::Running { mean, variance } => {
                let device = x.device().clone();
                let mean: FlatTensor<D, N> =
                    device.try_tensor_from_vec(converted(mean), (channels,))?;
                let deviation =
                    variance.iter().map(|v| N::of((f64::from(*v) + norm.epsilon).sqrt())).collect();
                let deviation: FlatTensor<D, N> =
                    device.try_tensor_from_vec(deviation, (channels,))?;
                (x.try_sub(mean.try_broadcast_like::<_, Axis<0>>(&shape)?)?, deviation)
            }
        };
        let normal = centered.try_div(deviation.try_broadcast_like::<_, Axis<0>>(&shape)?)?;
        let scaled = normal.try_mul(weight.clone().try_broadcast_like::<_, Axis<0>>(&shape)?)?;
        let mut out = scaled.try_add(bias.clone().try_broadcast_like::<_, Axis<0>>(&shape)?)?;
        if let Some(residual) = residual {
            out = out.try_add(residual.clone().try_reshape_like(&shape)?)?;
        }
        flat(if norm.relu { out.try_relu()? } else { out })
    })?;
    Ok((out, moments))
}

/// See [`ops::relu`](crate::nn::ops::relu).
pub(crate) fn relu<D: Device<N>, N: Number>(
    x: &FlatTensor<D, N>,
    _: Gradient,
    tape: &mut MaybeTape<D, N>,
) -> Result<FlatTensor<D, N>, Failure<D>> {
    recorded(x, tape, |x| x.try_relu())
}

/// See [`ops::add`](crate::nn::ops::add).
pub(crate) fn add<D: Device<N>, N: Number>(
    a: &FlatTensor<D, N>,
    b: &FlatTensor<D, N>,
    _: [Gradient; 2],
    tape: &mut MaybeTape<D, N>,
) -> Result<FlatTensor<D, N>, Failure<D>> {
    recorded(a, tape, |a| a.try_add(b.clone()))
}

/// See [`ops::concatenate`](crate::nn::ops::concatenate).
pub(crate) fn concatenate<D: Device<N>, N: Number>(
    parts: &[(&FlatTensor<D, N>, usize, Gradient)],
    rows: usize,
    tape: &mut MaybeTape<D, N>,
) -> Result<FlatTensor<D, N>, Failure<D>> {
    let (first, rest) = parts.split_first().expect("the graph concatenates one value at least");
    recorded(first.0, tape, |x| {
        let mut joined: Taped<Rows, D, N> = x.try_reshape_like(&(rows, first.1))?;
        for &(part, width, _) in rest {
            let part = part.clone().try_reshape_like(&(rows, width))?;
            joined = (joined, part).try_concat_along(Axis::<1>)?;
        }
        flat(joined)
    })
}

/// See [`ops::pool`](crate::nn::ops::pool).
pub(crate) fn pool<D: Device<N>, N: Number>(
    x: &FlatTensor<D, N>,
    pooling: &Pooling,
    _: Gradient,
    tape: &mut MaybeTape<D, N>,
) -> Result<FlatTensor<D, N>, Failure<D>> {
    let Pooling { batch, input, output, kind } = *pooling;
    let (index, taps, shares) = pooling_index(pooling);
    let shape = (batch * output.pixels(), output.channels);
    let maximum = matches!(kind, PoolKind::Maximum(_));
    recorded(x, tape, |x| {
        let x = x.try_reshape_like(&(batch * input.pixels(), input.channels))?;
        let windows = gather(x, if maximum { N::LOWEST } else { N::ZERO }, index)?;
        let windows: Taped<(usize, usize, usize), D, N> =
            windows.try_reshape_like(&(shape.0, taps, shape.1))?;
        flat(if maximum {
            windows.try_max::<Rows, Axis<1>>()?
        } else {
            let shares: FlatTensor<D, N> =
                windows.device().try_tensor_from_vec(converted(&shares), (shape.0,))?;
            windows
                .try_sum::<Rows, Axis<1>>()?
                .try_mul(shares.try_broadcast_like::<_, Axis<1>>(&shape)?)?
        })
    })
}

/// For each output pixel the input pixels of its window, padded to equal length; that length; the
/// factor of each window's sum.
fn pooling_index(pooling: &Pooling) -> (Vec<usize>, usize, Vec<f64>) {
    let Pooling { batch, input, output, .. } = *pooling;
    let window = |pixel: usize| pooling.window(pixel / output.width, pixel % output.width);
    let size = |pixel: usize| {
        let (top, bottom, left, right, _) = window(pixel);
        (bottom - top) * (right - left)
    };
    let taps = (0..output.pixels()).map(size).max().unwrap_or(0);
    let (mut index, mut shares) = (Vec::new(), Vec::new());
    for image in 0..batch {
        for pixel in 0..output.pixels() {
            let (top, bottom, left, right, count) = window(pixel);
            for y in top..bottom {
                index.extend((left..right).map(|x| image * input.pixels() + y * input.width + x));
            }
            index.extend(std::iter::repeat_n(batch * input.pixels(), taps - size(pixel)));
            shares.push(1.0 / count as f64);
        }
    }
    (index, taps, shares)
}

/// See [`ops::linear`](crate::nn::ops::linear).
pub(crate) fn linear<D: Device<N>, N: Number>(
    x: &FlatTensor<D, N>,
    [weight, bias]: [&FlatTensor<D, N>; 2],
    batch: usize,
    _: Products,
    _: [Gradient; 3],
    tape: &mut MaybeTape<D, N>,
) -> Result<FlatTensor<D, N>, Failure<D>> {
    let (inputs, outputs) = (x.shape().0 / batch, bias.shape().0);
    let weight = weight.clone().try_reshape_like(&(inputs, outputs))?;
    recorded(x, tape, |x| {
        let out = x.try_reshape_like(&(batch, inputs))?.try_matmul(weight)?;
        flat(out.try_add(bias.clone().try_broadcast_like::<_, Axis<0>>(&(batch, outputs))?)?)
    })
}

/// See [`ops::dropout`](crate::nn::ops::dropout).
pub(crate) fn dropout<D: Device<N>, N: Number>(
    x: &FlatTensor<D, N>,
    probability: f32,
    position: DropoutPosition,
    _: Gradient,
    tape: &mut MaybeTape<D, N>,
) -> Result<FlatTensor<D, N>, Failure<D>> {
    let length = x.shape().0;
    let mask: FlatTensor<D, N> = x
        .device()
        .try_tensor_from_vec(converted(&position.mask(length, probability)), (length,))?;
    recorded(x, tape, |x| x.try_mul(mask))
}

/// See [`ops::cross_entropy`](crate::nn::ops::cross_entropy).
pub(crate) fn cross_entropy<D: Device<N>, N: Number>(
    logits: &FlatTensor<D, N>,
    targets: &[f32],
    batch: usize,
    tape: &mut MaybeTape<D, N>,
) -> Result<Tensor<(), N, D>, Failure<D>> {
    let shape = (batch, targets.len() / batch);
    let targets: Tensor<Rows, N, D> =
        logits.device().try_tensor_from_vec(converted(targets), shape)?;
    let keep = tape.is_some();
    let logits = logits.clone().put_tape(tape.take().unwrap_or_default());
    let likelihood: Taped<Rows, D, N> =
        logits.try_reshape_like(&shape)?.try_log_softmax::<Axis<1>>()?.try_mul(targets)?;
    let total = likelihood.try_sum::<(), Axes2<0, 1>>()?;
    let (loss, used) = total.try_mul(N::of(-1.0 / batch as f64))?.split_tape();
    *tape = keep.then_some(used);
    Ok(loss)
}
