//! The same ops made of dfdx's own, for any of its devices: windows are gathered as rows by an index (what lies outside of
//! the map is an appended row), and multiplied, summed or maximised. Right on a GPU; on the CPU the reference in tests.
//!
//! dfdx's tape makes gradients for all that takes part, so `Gradient`s aren't asked for here. A maximum hands its gradient
//! to all equal ones, where the CPU's kernel chooses the first.

use super::convolution::Geometry;
use super::pooling::{Pooling, Taking};
use super::{Activation, DropoutPosition, Flat, Gradient, Moments, NormStatistics, Normalisation, Recorder};
use dfdx::prelude::*;

type Failure<D> = <D as HasErr>::Err;
type Taped<S, D> = Tensor<S, f32, D, OwnedTape<f32, D>>;
/// (rows, columns).
type Rows = (usize, usize);

/// See [`Backend::numbers`](crate::nn::Backend::numbers).
#[cfg(feature = "cuda")]
pub(super) fn numbers<D: Device<f32>>(tensor: &Flat<D>) -> std::borrow::Cow<'_, [f32]> {
    std::borrow::Cow::Owned(tensor.as_vec())
}

/// Runs ops on the tape, or on one that is thrown away where there is none.
fn recorded<D: Device<f32>>(
    x: &Flat<D>,
    tape: &mut Recorder<D>,
    run: impl FnOnce(Taped<(usize,), D>) -> Result<Taped<(usize,), D>, Failure<D>>,
) -> Result<Activation<D>, Failure<D>> {
    let keep = tape.is_some();
    let (out, used) = run(x.clone().put_tape(tape.take().unwrap_or_default()))?.split_tape();
    *tape = keep.then_some(used);
    Ok(out.into())
}

fn flat<S: Shape, D: Device<f32>>(x: Taped<S, D>) -> Result<Taped<(usize,), D>, Failure<D>> {
    let length = x.shape().num_elements();
    x.try_reshape_like(&(length,))
}

/// Rows of `x` (rows, channels) by `index`, `filler` in all places of the row after the last.
fn gather<D: Device<f32>>(x: Taped<Rows, D>, filler: f32, index: Vec<usize>) -> Result<Taped<Rows, D>, Failure<D>> {
    let device = x.device().clone();
    let channels = x.shape().1;
    let filler: Tensor<Rows, f32, D> = device.try_tensor_from_vec(vec![filler; channels], (1, channels))?;
    let count = index.len();
    let index: Tensor<(usize,), usize, D> = device.try_tensor_from_vec(index, (count,))?;
    (x, filler).try_concat_along(Axis::<0>)?.try_gather(index)
}

/// See [`Backend::convolution`](crate::nn::Backend::convolution).
pub(crate) fn convolution<D: Device<f32>>(
    x: &Activation<D>,
    weight: &Flat<D>,
    bias: Option<&Flat<D>>,
    geometry: &Geometry,
    _: [Gradient; 3],
    tape: &mut Recorder<D>,
) -> Result<Activation<D>, Failure<D>> {
    let Geometry { batch, input, output, .. } = *geometry;
    let weight = weight.clone().try_reshape_like(&(geometry.depth(), output.channels))?;
    let shape = (batch * output.pixels(), output.channels);
    recorded(&x.single, tape, |x| {
        let x = x.try_reshape_like(&(batch * input.pixels(), input.channels))?;
        let windows = gather(x, 0.0, convolution_index(geometry))?.try_reshape_like(&(shape.0, geometry.depth()))?;
        let out = windows.try_matmul(weight)?;
        flat(match bias {
            Some(bias) => out.try_add(bias.clone().try_broadcast_like::<_, Axis<0>>(&shape)?)?,
            None => out,
        })
    })
}

/// For each output pixel and each tap, the input pixel.
fn convolution_index(geometry: &Geometry) -> Vec<usize> {
    let Geometry { batch, input, output, window } = *geometry;
    let outside = batch * input.pixels();
    let mut index = Vec::with_capacity(batch * output.pixels() * window.kernel.0 * window.kernel.1);
    for place in 0..batch * output.pixels() {
        let (image, pixel) = (place / output.pixels(), place % output.pixels());
        let (top, left) = (pixel / output.width * window.stride.0, pixel % output.width * window.stride.1);
        for tap in 0..window.kernel.0 * window.kernel.1 {
            let y = (top + tap / window.kernel.1).checked_sub(window.padding.0).filter(|&y| y < input.height);
            let x = (left + tap % window.kernel.1).checked_sub(window.padding.1).filter(|&x| x < input.width);
            index.push(match (y, x) {
                (Some(y), Some(x)) => image * input.pixels() + y * input.width + x,
                _ => outside,
            });
        }
    }
    index
}

/// See [`Backend::batch_norm`](crate::nn::Backend::batch_norm).
pub(crate) fn batch_norm<D: Device<f32>>(
    x: &Activation<D>,
    [weight, bias]: [&Flat<D>; 2],
    residual: Option<&Activation<D>>,
    norm: &Normalisation,
    _: [Gradient; 4],
    tape: &mut Recorder<D>,
) -> Result<(Activation<D>, Option<Moments>), Failure<D>> {
    let channels = weight.shape().0;
    let shape = (x.single.shape().0 / channels, channels);
    let mut moments = None;
    let out = recorded(&x.single, tape, |x| {
        let x: Taped<Rows, D> = x.try_reshape_like(&shape)?;
        let (centred, deviation) = match norm.statistics {
            NormStatistics::Batch => {
                let (x, tape) = x.split_tape();
                let (mean, tape) = x.clone().put_tape(tape).try_mean::<(usize,), Axis<0>>()?.split_tape();
                let wide = mean.clone().try_broadcast_like::<_, Axis<0>>(&shape)?;
                let (centred, tape) = x.put_tape(tape).try_sub(wide)?.split_tape();
                let squares = centred.clone().put_tape(tape).try_square()?;
                let (variance, tape) = squares.try_mean::<(usize,), Axis<0>>()?.split_tape();
                moments = Some(Moments { mean: mean.as_vec(), variance: variance.as_vec() });
                let (deviation, tape) = variance.put_tape(tape).try_add(norm.epsilon)?.try_sqrt()?.split_tape();
                (centred.put_tape(tape), deviation)
            }
            NormStatistics::Running { mean, variance } => {
                let device = x.device().clone();
                let mean: Flat<D> = device.try_tensor_from_vec(mean.to_vec(), (channels,))?;
                let deviation = variance.iter().map(|variance| (variance + norm.epsilon).sqrt()).collect();
                let deviation: Flat<D> = device.try_tensor_from_vec(deviation, (channels,))?;
                (x.try_sub(mean.try_broadcast_like::<_, Axis<0>>(&shape)?)?, deviation)
            }
        };
        let normal = centred.try_div(deviation.try_broadcast_like::<_, Axis<0>>(&shape)?)?;
        let scaled = normal.try_mul(weight.clone().try_broadcast_like::<_, Axis<0>>(&shape)?)?;
        let mut out = scaled.try_add(bias.clone().try_broadcast_like::<_, Axis<0>>(&shape)?)?;
        if let Some(residual) = residual {
            out = out.try_add(residual.single.clone().try_reshape_like(&shape)?)?;
        }
        flat(if norm.relu { out.try_relu()? } else { out })
    })?;
    Ok((out, moments))
}

/// See [`Backend::relu`](crate::nn::Backend::relu).
pub(crate) fn relu<D: Device<f32>>(
    x: &Activation<D>,
    _: Gradient,
    tape: &mut Recorder<D>,
) -> Result<Activation<D>, Failure<D>> {
    recorded(&x.single, tape, |x| x.try_relu())
}

/// See [`Backend::add`](crate::nn::Backend::add).
pub(crate) fn add<D: Device<f32>>(
    a: &Activation<D>,
    b: &Activation<D>,
    _: [Gradient; 2],
    tape: &mut Recorder<D>,
) -> Result<Activation<D>, Failure<D>> {
    recorded(&a.single, tape, |a| a.try_add(b.single.clone()))
}

/// See [`Backend::concatenate`](crate::nn::Backend::concatenate).
pub(crate) fn concatenate<D: Device<f32>>(
    parts: &[(&Activation<D>, usize, Gradient)],
    rows: usize,
    tape: &mut Recorder<D>,
) -> Result<Activation<D>, Failure<D>> {
    let (first, rest) = parts.split_first().expect("the graph concatenates one value at least");
    recorded(&first.0.single, tape, |x| {
        let mut joined: Taped<Rows, D> = x.try_reshape_like(&(rows, first.1))?;
        for &(part, width, _) in rest {
            let part = part.single.clone().try_reshape_like(&(rows, width))?;
            joined = (joined, part).try_concat_along(Axis::<1>)?;
        }
        flat(joined)
    })
}

/// See [`Backend::pool`](crate::nn::Backend::pool).
pub(crate) fn pool<D: Device<f32>>(
    x: &Activation<D>,
    pooling: &Pooling,
    _: Gradient,
    tape: &mut Recorder<D>,
) -> Result<Activation<D>, Failure<D>> {
    let Pooling { batch, input, output, taking } = *pooling;
    let (index, taps, shares) = pooling_index(pooling);
    let shape = (batch * output.pixels(), output.channels);
    let maximum = matches!(taking, Taking::Maximum(_));
    recorded(&x.single, tape, |x| {
        let x = x.try_reshape_like(&(batch * input.pixels(), input.channels))?;
        let windows = gather(x, if maximum { f32::NEG_INFINITY } else { 0.0 }, index)?;
        let windows: Taped<(usize, usize, usize), D> = windows.try_reshape_like(&(shape.0, taps, shape.1))?;
        flat(if maximum {
            windows.try_max::<Rows, Axis<1>>()?
        } else {
            let shares: Flat<D> = windows.device().try_tensor_from_vec(shares, (shape.0,))?;
            windows.try_sum::<Rows, Axis<1>>()?.try_mul(shares.try_broadcast_like::<_, Axis<1>>(&shape)?)?
        })
    })
}

/// For each output pixel the input pixels of its window, made equally many; how many; what their sum is multiplied with.
fn pooling_index(pooling: &Pooling) -> (Vec<usize>, usize, Vec<f32>) {
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
            shares.push(1.0 / count as f32);
        }
    }
    (index, taps, shares)
}

/// See [`Backend::linear`](crate::nn::Backend::linear).
pub(crate) fn linear<D: Device<f32>>(
    x: &Activation<D>,
    weight: &Flat<D>,
    bias: &Flat<D>,
    batch: usize,
    _: [Gradient; 3],
    tape: &mut Recorder<D>,
) -> Result<Activation<D>, Failure<D>> {
    let (inputs, outputs) = (x.single.shape().0 / batch, bias.shape().0);
    let weight = weight.clone().try_reshape_like(&(inputs, outputs))?;
    recorded(&x.single, tape, |x| {
        let out = x.try_reshape_like(&(batch, inputs))?.try_matmul(weight)?;
        flat(out.try_add(bias.clone().try_broadcast_like::<_, Axis<0>>(&(batch, outputs))?)?)
    })
}

/// See [`Backend::dropout`](crate::nn::Backend::dropout).
pub(crate) fn dropout<D: Device<f32>>(
    x: &Activation<D>,
    probability: f32,
    position: DropoutPosition,
    _: Gradient,
    tape: &mut Recorder<D>,
) -> Result<Activation<D>, Failure<D>> {
    let length = x.single.shape().0;
    let mask: Flat<D> = x.single.device().try_tensor_from_vec(position.mask(length, probability), (length,))?;
    recorded(&x.single, tape, |x| x.try_mul(mask))
}

/// See [`Backend::cross_entropy`](crate::nn::Backend::cross_entropy).
pub(crate) fn cross_entropy<D: Device<f32>>(
    logits: &Activation<D>,
    targets: &[f32],
    batch: usize,
    tape: &mut Recorder<D>,
) -> Result<Tensor<(), f32, D>, Failure<D>> {
    let shape = (batch, targets.len() / batch);
    let targets: Tensor<Rows, f32, D> = logits.single.device().try_tensor_from_vec(targets.to_vec(), shape)?;
    let keep = tape.is_some();
    let logits = logits.single.clone().put_tape(tape.take().unwrap_or_default());
    let likelihood: Taped<Rows, D> = logits.try_reshape_like(&shape)?.try_log_softmax::<Axis<1>>()?.try_mul(targets)?;
    let total = likelihood.try_sum::<(), Axes2<0, 1>>()?;
    let (loss, used) = total.try_mul(-1.0 / batch as f32)?.split_tape();
    *tape = keep.then_some(used);
    Ok(loss)
}
