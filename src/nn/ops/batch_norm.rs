//! Batch normalization (Ioffe and Szegedy, 2015) of (rows, channels) over the rows, with an
//! optional residual and ReLU in the same pass. With running statistics, gradients flow through it
//! as through any scale and shift.

use super::chunks::{SHORT, add_to, chunk_rows, row_sums};
use super::{FlatTensor, Gradient, MaybeTape};
use crate::nn::number::{Number, to_f64};

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

/// The coefficients of y = relu((x - mean) * scale + shift + residual). The mean is subtracted
/// first: x * scale + shift would cancel catastrophically if the mean is large.
#[derive(Clone)]
struct Affine<N> {
    mean: Vec<N>,
    scale: Vec<N>,
    /// The norm's bias, corrected for the rounding of the mean.
    shift: Vec<N>,
    /// 1 / sqrt(variance + epsilon).
    inverse: Vec<f64>,
}

impl<N: Number> Affine<N> {
    fn new(weight: &[N], bias: &[N], mean: &[f64], variance: &[f64], epsilon: f64) -> Affine<N> {
        let inverse: Vec<f64> = variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
        let scale: Vec<f64> = weight.iter().zip(&inverse).map(|(w, i)| (*w).into() * i).collect();
        let rounded = |mean: &f64| mean - N::of(*mean).into();
        let shift = bias
            .iter()
            .zip(mean)
            .zip(&scale)
            .map(|((b, m), s)| N::of((*b).into() - rounded(m) * s));
        Affine {
            shift: shift.collect(),
            mean: mean.iter().copied().map(N::of).collect(),
            scale: scale.into_iter().map(N::of).collect(),
            inverse,
        }
    }
}

fn to_single(value: f64) -> f32 {
    value as f32
}

/// Scale and shift per channel that a norm is equivalent to: x * scale + shift.
pub(crate) fn folded(
    weight: &[f32],
    bias: &[f32],
    mean: &[f32],
    variance: &[f32],
    epsilon: f64,
) -> (Vec<f32>, Vec<f32>) {
    let Affine { scale, inverse, .. } =
        Affine::<f32>::new(weight, bias, &to_f64(mean), &to_f64(variance), epsilon);
    let exact = weight.iter().zip(inverse).map(|(weight, inverse)| f64::from(*weight) * inverse);
    let shift = bias
        .iter()
        .zip(mean)
        .zip(exact)
        .map(|((b, m), s)| to_single(f64::from(*b) - f64::from(*m) * s));
    (scale, shift.collect())
}

use crate::nn::matrix::{values, vectorized};
use crate::nn::ops::chunks::at_least;
use crate::nn::ops::{flat, store_gradient};
use dfdx::tensor::{CpuError, Tape};
use rayon::prelude::*;

/// Batch normalization (Ioffe and Szegedy, 2015) of `x` (rows, channels) over its rows with weight
/// and bias `affine` (channels), plus an optional `residual` (rows, channels), then an optional
/// ReLU. A single op, since each would traverse the same memory again. `gradients` are those of x,
/// weight, bias, residual.
pub(crate) fn batch_norm<N: Number>(
    x: &FlatTensor<N>,
    [weight, bias]: [&FlatTensor<N>; 2],
    residual: Option<&FlatTensor<N>>,
    norm: &Normalization,
    gradients: [Gradient; 4],
    tape: &mut MaybeTape<N>,
) -> Result<(FlatTensor<N>, Option<BatchStatistics>), CpuError> {
    let channels = values(weight).len();
    let (mean, variance) = match norm.statistics {
        NormStatistics::Batch => moments(values(x), channels),
        NormStatistics::Running { mean, variance } => (to_f64(mean), to_f64(variance)),
    };
    let affine = Affine::new(values(weight), values(bias), &mean, &variance, norm.epsilon);
    let out = flat(apply(values(x), &affine, residual.map(values), norm.relu))?;
    let moments = matches!(norm.statistics, NormStatistics::Batch).then(|| BatchStatistics {
        mean: mean.into_iter().map(to_single).collect(),
        variance: variance.into_iter().map(to_single).collect(),
    });
    let Some(tape) = tape else { return Ok((out, moments)) };

    let (x_ghost, weight_ghost, bias_ghost) = (x.ghost(), weight.ghost(), bias.ghost());
    let (out_ghost, residual_ghost) = (out.ghost(), residual.map(|residual| residual.ghost()));
    let mask = match norm.relu {
        false => Mask::None,
        true if residual.is_some() => Mask::Output(out.clone()),
        true => Mask::Recomputed,
    };
    let (x, of_batch) = (x.clone(), moments.is_some());
    tape.add_backward_op(move |grads| {
        let mut dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
        let x = values(&x);
        let (bias_gradient, weight_gradient) = sums(x, &mut dy, &affine, &mask);
        if gradients[0].wanted() {
            let of_batch = of_batch.then_some((&bias_gradient[..], &weight_gradient[..]));
            let masked = !matches!(mask, Mask::Recomputed);
            by_input(
                x,
                &dy,
                &affine,
                masked,
                of_batch,
                gradients[0],
                grads.get_or_alloc_mut(&x_ghost)?,
            );
        }
        let [weight_gradient, bias_gradient] =
            [weight_gradient, bias_gradient].map(|sums| sums.into_iter().map(N::of).collect());
        if let Some(residual) = residual_ghost.filter(|_| gradients[3].wanted()) {
            store_gradient(grads.get_or_alloc_mut(&residual)?, gradients[3], dy);
        }
        if gradients[1].wanted() {
            store_gradient(grads.get_or_alloc_mut(&weight_ghost)?, gradients[1], weight_gradient);
        }
        if gradients[2].wanted() {
            store_gradient(grads.get_or_alloc_mut(&bias_ghost)?, gradients[2], bias_gradient);
        }
        Ok(())
    });
    Ok((out, moments))
}

/// Where the ReLU's gradient is nonzero.
enum Mask<N: Number> {
    /// Everywhere: there is no ReLU.
    None,
    /// Where (x - mean) * scale + shift is positive.
    Recomputed,
    /// Where the output is positive.
    Output(FlatTensor<N>),
}

/// Mean and biased variance of each column: per chunk of rows about the chunk's mean, merged in
/// order (Chan, Golub and LeVeque, 1979).
fn moments<N: Number>(x: &[N], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let chunk = chunk_rows(channels) * channels;
    let parts: Vec<(Vec<f64>, Vec<f64>)> =
        x.par_chunks(chunk).map(|rows| chunk_moments(rows, channels)).collect();
    let (mut mean, mut squares) = (vec![0.0f64; channels], vec![0.0f64; channels]);
    let mut seen = 0.0;
    for ((part_mean, part_squares), rows) in parts.iter().zip(x.chunks(chunk)) {
        let count = (rows.len() / channels) as f64;
        let total = seen + count;
        for channel in 0..channels {
            let difference = part_mean[channel] - mean[channel];
            mean[channel] += difference * count / total;
            squares[channel] +=
                part_squares[channel] + difference * difference * seen * count / total;
        }
        seen = total;
    }
    squares.iter_mut().for_each(|squares| *squares /= seen);
    (mean, squares)
}

/// Column means of a chunk, and sums of squared deviations from them.
fn chunk_moments<N: Number>(rows: &[N], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let count = (rows.len() / channels) as f64;
    let [mut mean] = row_sums(
        rows.chunks(SHORT * channels),
        channels,
        |rows: &[N], [sums]: &mut [Vec<N>; 1]| {
            for row in rows.chunks_exact(channels) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += *x);
            }
        },
    );
    mean.iter_mut().for_each(|mean| *mean /= count);
    let near: Vec<N> = mean.iter().copied().map(N::of).collect();
    let [mut squares] = row_sums(
        rows.chunks(SHORT * channels),
        channels,
        |rows: &[N], [sums]: &mut [Vec<N>; 1]| {
            for row in rows.chunks_exact(channels) {
                for ((sum, mean), x) in sums.iter_mut().zip(&near).zip(row) {
                    *sum += (*x - *mean) * (*x - *mean);
                }
            }
        },
    );
    for ((squares, mean), near) in squares.iter_mut().zip(&mean).zip(near) {
        let rounded = mean - near.into();
        *squares = (*squares - count * rounded * rounded).max(0.0);
    }
    (mean, squares)
}

/// relu((x - mean) * scale + shift + residual).
fn apply<N: Number>(x: &[N], affine: &Affine<N>, residual: Option<&[N]>, relu: bool) -> Vec<N> {
    let chunk = chunk_rows(affine.scale.len()) * affine.scale.len();
    let floor = if relu { N::ZERO } else { N::LOWEST };
    let mut out = vec![N::ZERO; x.len()];
    out.par_chunks_mut(chunk).enumerate().for_each(|(index, out)| {
        let range = index * chunk..index * chunk + out.len();
        let residual = residual.map(|residual| &residual[range.clone()]);
        vectorized(|| apply_rows(&x[range], affine, residual, floor, out));
    });
    out
}

#[inline(always)]
fn apply_rows<N: Number>(
    x: &[N],
    affine: &Affine<N>,
    residual: Option<&[N]>,
    floor: N,
    out: &mut [N],
) {
    let channels = affine.scale.len();
    let rows = out.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
    let Some(residual) = residual else {
        for (out, x) in rows {
            let affine = affine.mean.iter().zip(&affine.scale).zip(&affine.shift);
            for ((out, x), ((mean, scale), shift)) in out.iter_mut().zip(x).zip(affine) {
                *out = at_least((*x - *mean) * *scale + *shift, floor);
            }
        }
        return;
    };
    for ((out, x), residual) in rows.zip(residual.chunks_exact(channels)) {
        let affine = affine.mean.iter().zip(&affine.scale).zip(&affine.shift);
        let pairs = out.iter_mut().zip(x).zip(residual);
        for (((out, x), residual), ((mean, scale), shift)) in pairs.zip(affine) {
            *out = at_least((*x - *mean) * *scale + *shift + *residual, floor);
        }
    }
}

/// Column sums of the masked dy and of the masked dy times the normalized x. With
/// [`Mask::Output`], masks dy in place.
fn sums<N: Number>(
    x: &[N],
    dy: &mut [N],
    affine: &Affine<N>,
    mask: &Mask<N>,
) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(x.len(), dy.len());
    let channels = affine.scale.len();
    let chunk = chunk_rows(channels) * channels;
    let recompute = matches!(mask, Mask::Recomputed);
    let of_chunk = |(index, dy): (usize, &mut [N])| {
        if let Mask::Output(out) = mask {
            let out = &values(out)[index * chunk..][..dy.len()];
            vectorized(|| {
                dy.iter_mut().zip(out).for_each(|(dy, out)| {
                    *dy = if *out > N::ZERO { *dy } else { N::ZERO };
                });
            });
        }
        let x = x[index * chunk..][..dy.len()].chunks(SHORT * channels);
        row_sums(
            dy.chunks(SHORT * channels).zip(x),
            channels,
            |(dy, x), [plain, weighted]: &mut [Vec<N>; 2]| {
                for (dy, x) in dy.chunks_exact(channels).zip(x.chunks_exact(channels)) {
                    let sums = plain
                        .iter_mut()
                        .zip(weighted.iter_mut())
                        .zip(&affine.mean)
                        .zip(dy.iter().zip(x));
                    if recompute {
                        let affine = affine.scale.iter().zip(&affine.shift);
                        for ((((plain, weighted), mean), (dy, x)), (scale, shift)) in
                            sums.zip(affine)
                        {
                            let dy = if (*x - *mean) * *scale + *shift > N::ZERO {
                                *dy
                            } else {
                                N::ZERO
                            };
                            *plain += dy;
                            *weighted += dy * (*x - *mean);
                        }
                    } else {
                        for (((plain, weighted), mean), (dy, x)) in sums {
                            *plain += *dy;
                            *weighted += *dy * (*x - *mean);
                        }
                    }
                }
            },
        )
    };
    let parts: Vec<[Vec<f64>; 2]> = dy.par_chunks_mut(chunk).enumerate().map(of_chunk).collect();
    let (mut plain, mut weighted) = (vec![0.0f64; channels], vec![0.0f64; channels]);
    for [part_plain, part_weighted] in parts {
        plain.iter_mut().zip(part_plain).for_each(|(sum, part)| *sum += part);
        weighted.iter_mut().zip(part_weighted).for_each(|(sum, part)| *sum += part);
    }
    weighted.iter_mut().zip(&affine.inverse).for_each(|(sum, inverse)| *sum *= inverse);
    (plain, weighted)
}

/// dx = scale dy + b (x - mean) + c per channel with masked dy: with the batch's statistics
/// scale (dy - mean(dy) - x̂ mean(dy x̂)), else scale dy.
fn by_input<N: Number>(
    x: &[N],
    dy: &[N],
    affine: &Affine<N>,
    masked: bool,
    of_batch: Option<(&[f64], &[f64])>,
    gradient: Gradient,
    out: &mut [N],
) {
    let channels = affine.scale.len();
    let count = (x.len() / channels) as f64;
    let (mut b, mut c) = (vec![N::ZERO; channels], vec![N::ZERO; channels]);
    if let Some((plain, weighted)) = of_batch {
        for channel in 0..channels {
            let scale = affine.scale[channel].into() / count;
            b[channel] = N::of(-scale * affine.inverse[channel] * weighted[channel]);
            c[channel] = N::of(-scale * plain[channel]);
        }
    }
    let mut added = Vec::new();
    let target: &mut [N] = if gradient == Gradient::Add {
        added.resize(x.len(), N::ZERO);
        &mut added
    } else {
        out
    };
    assert_eq!(target.len(), x.len());
    let chunk = chunk_rows(channels) * channels;
    target.par_chunks_mut(chunk).enumerate().for_each(|(index, out)| {
        let range = index * chunk..index * chunk + out.len();
        let factors = (&affine.scale[..], &b[..], &c[..]);
        vectorized(|| by_input_rows(&x[range.clone()], &dy[range], affine, masked, factors, out));
    });
    if gradient == Gradient::Add {
        add_to(out, &added);
    }
}
#[inline(always)]
fn by_input_rows<N: Number>(
    x: &[N],
    dy: &[N],
    affine: &Affine<N>,
    masked: bool,
    (scale, b, c): (&[N], &[N], &[N]),
    out: &mut [N],
) {
    let channels = scale.len();
    let rows = x.chunks_exact(channels).zip(dy.chunks_exact(channels));
    for (out, (x, dy)) in out.chunks_exact_mut(channels).zip(rows) {
        let pairs = out.iter_mut().zip(x.iter().zip(dy));
        let factors = affine.mean.iter().zip(scale).zip(b.iter().zip(c));
        if masked {
            for ((out, (x, dy)), ((mean, scale), (b, c))) in pairs.zip(factors) {
                *out = *scale * *dy + *b * (*x - *mean) + *c;
            }
        } else {
            for (((out, (x, dy)), ((mean, scale), (b, c))), shift) in
                pairs.zip(factors).zip(&affine.shift)
            {
                let dy = if (*x - *mean) * *scale + *shift > N::ZERO { *dy } else { N::ZERO };
                *out = *scale * dy + *b * (*x - *mean) + *c;
            }
        }
    }
}
