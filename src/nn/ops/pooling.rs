//! Pooling over windows of a map: maximum, mean, and adaptive mean.

use super::{FlatTensor, Gradient, MaybeTape};
use crate::nn::graph::{Shape, Window};

/// The kind of pooling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PoolKind {
    /// Maximum, padding excluded; the gradient goes to the first maximal pixel.
    Maximum(Window),
    /// Mean.
    Mean {
        /// Kernel, stride, padding.
        window: Window,
        /// Whether padding counts as zeros (`count_include_pad` in PyTorch).
        count_padding: bool,
    },
    /// Mean over nearly equal bins (`adaptive_avg_pool2d`).
    Bins,
}

/// The shapes and the kind of a pooling op.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pooling {
    pub batch: usize,
    /// Shape of one image's input.
    pub input: Shape,
    /// Shape of one image's output.
    pub output: Shape,
    pub kind: PoolKind,
}

impl Pooling {
    /// Top, bottom, left and right (half-open) of an output pixel's window, clipped to the map, and
    /// the divisor of a mean.
    pub(super) fn window(&self, y: usize, x: usize) -> (usize, usize, usize, usize, usize) {
        match self.kind {
            PoolKind::Maximum(window) => self.clipped(window, y, x, false),
            PoolKind::Mean { window, count_padding } => self.clipped(window, y, x, count_padding),
            PoolKind::Bins => {
                let (top, bottom) = bin(y, self.output.height, self.input.height);
                let (left, right) = bin(x, self.output.width, self.input.width);
                (top, bottom, left, right, (bottom - top) * (right - left))
            }
        }
    }

    fn clipped(
        &self,
        window: Window,
        y: usize,
        x: usize,
        count_padding: bool,
    ) -> (usize, usize, usize, usize, usize) {
        let along = |index: usize, stride: usize, kernel: usize, padding: usize, size: usize| {
            let (begin, end) = (index * stride, index * stride + kernel);
            let padded = end.min(size + 2 * padding) - begin;
            (begin.saturating_sub(padding), end.saturating_sub(padding).min(size), padded)
        };
        let Window { kernel, stride, padding } = window;
        let (top, bottom, tall) = along(y, stride.0, kernel.0, padding.0, self.input.height);
        let (left, right, wide) = along(x, stride.1, kernel.1, padding.1, self.input.width);
        let inside = (bottom - top) * (right - left);
        (top, bottom, left, right, if count_padding { tall * wide } else { inside })
    }
}

/// The bounds of one of `bins` bins over `size` values, as in PyTorch's `adaptive_avg_pool2d`.
pub(crate) fn bin(index: usize, bins: usize, size: usize) -> (usize, usize) {
    (index * size / bins, ((index + 1) * size).div_ceil(bins))
}

use crate::nn::matrix::{values, vectorized};
use crate::nn::number::Number;
use crate::nn::ops::chunks::{SHORT, row_sums};
use crate::nn::ops::{flat, store_gradient};
use dfdx::tensor::{CpuError, Tape};
use rayon::prelude::*;

/// Maximum or mean over windows of `x` (batch, height, width, channels).
pub(crate) fn pool<N: Number>(
    x: &FlatTensor<N>,
    pooling: &Pooling,
    gradient: Gradient,
    tape: &mut MaybeTape<N>,
) -> Result<FlatTensor<N>, CpuError> {
    let pooling = *pooling;
    let out = flat(forward(values(x), &pooling))?;
    if let Some(tape) = tape {
        let (x_ghost, out_ghost) = (x.ghost(), out.ghost());
        let kept = matches!(pooling.kind, PoolKind::Maximum(_)).then(|| (x.clone(), out.clone()));
        tape.add_backward_op(move |grads| {
            let dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
            if gradient.wanted() {
                let mut dx = vec![N::ZERO; pooling.batch * pooling.input.len()];
                match &kept {
                    Some((x, out)) => {
                        spread_maximum(values(x), values(out), &dy, &pooling, &mut dx);
                    }
                    None => spread_mean(&dy, &pooling, &mut dx),
                }
                store_gradient(grads.get_or_alloc_mut(&x_ghost)?, gradient, dx);
            }
            Ok(())
        });
    }
    Ok(out)
}

/// Pools all maps, one task per image.
fn forward<N: Number>(x: &[N], pooling: &Pooling) -> Vec<N> {
    let mut out = vec![N::ZERO; pooling.batch * pooling.output.len()];
    let maps = x.par_chunks_exact(pooling.input.len());
    out.par_chunks_exact_mut(pooling.output.len())
        .zip(maps)
        .for_each(|(out, map)| one(map, pooling, out));
    out
}

/// Pools one map.
pub(crate) fn one<N: Number>(map: &[N], pooling: &Pooling, out: &mut [N]) {
    let (channels, width) = (pooling.input.channels, pooling.input.width);
    let maximum = matches!(pooling.kind, PoolKind::Maximum(_));
    for (index, out) in out.chunks_exact_mut(channels).enumerate() {
        let (top, bottom, left, right, count) =
            pooling.window(index / pooling.output.width, index % pooling.output.width);
        let lines = (top..bottom)
            .map(|y| &map[(y * width + left) * channels..(y * width + right) * channels]);
        if maximum {
            vectorized(|| largest(lines, channels, out));
        } else {
            mean(lines, channels, count, out);
        }
    }
}

/// The maximum of the pixels of `lines`. NaN propagates, so that a diverged network is noticed.
fn largest<'a, N: Number>(lines: impl Iterator<Item = &'a [N]>, channels: usize, out: &mut [N]) {
    out.fill(N::LOWEST);
    for pixel in lines.flat_map(|line| line.chunks_exact(channels)) {
        out.iter_mut()
            .zip(pixel)
            .for_each(|(out, x)| *out = if *x > *out || x.is_nan() { *x } else { *out });
    }
}

/// The sum of the pixels of `lines` over `count`.
fn mean<'a, N: Number>(
    lines: impl Iterator<Item = &'a [N]>,
    channels: usize,
    count: usize,
    out: &mut [N],
) {
    let add = |sums: &mut [N], line: &[N]| {
        for pixel in line.chunks_exact(channels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += *x);
        }
    };
    if count <= SHORT {
        out.fill(N::ZERO);
        lines.for_each(|line| add(out, line));
        let count = N::of(count as f64);
        out.iter_mut().for_each(|out| *out /= count);
        return;
    }
    let parts = lines.flat_map(|line| line.chunks(SHORT * channels));
    let [sums] = row_sums(parts, channels, |line: &[N], [sums]: &mut [Vec<N>; 1]| add(sums, line));
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = N::of(sum / count as f64));
}

/// Adds the gradient of a maximum to the first maximal pixel of the window.
fn spread_maximum<N: Number>(x: &[N], out: &[N], dy: &[N], pooling: &Pooling, dx: &mut [N]) {
    let (channels, width) = (pooling.input.channels, pooling.input.width);
    let size = (pooling.input.len(), pooling.output.len());
    let images = x
        .par_chunks_exact(size.0)
        .zip(out.par_chunks_exact(size.1).zip(dy.par_chunks_exact(size.1)));
    dx.par_chunks_exact_mut(size.0).zip(images).for_each(|(dx, (x, (out, dy)))| {
        let mut left_over = vec![N::ZERO; channels];
        for (index, (out, dy)) in
            out.chunks_exact(channels).zip(dy.chunks_exact(channels)).enumerate()
        {
            let (top, bottom, left, right, _) =
                pooling.window(index / pooling.output.width, index % pooling.output.width);
            left_over.copy_from_slice(dy);
            for y in top..bottom {
                let line = (y * width + left) * channels..(y * width + right) * channels;
                let pixels =
                    dx[line.clone()].chunks_exact_mut(channels).zip(x[line].chunks_exact(channels));
                for (dx, x) in pixels {
                    vectorized(|| {
                        let values = dx.iter_mut().zip(x).zip(out);
                        for (((dx, x), out), dy) in values.zip(&mut left_over) {
                            let hit = x == out;
                            *dx += if hit { *dy } else { N::ZERO };
                            *dy = if hit { N::ZERO } else { *dy };
                        }
                    });
                }
            }
        }
    });
}

fn spread_mean<N: Number>(dy: &[N], pooling: &Pooling, dx: &mut [N]) {
    let (channels, width) = (pooling.input.channels, pooling.input.width);
    let images = dy.par_chunks_exact(pooling.output.len());
    dx.par_chunks_exact_mut(pooling.input.len()).zip(images).for_each(|(dx, dy)| {
        for (index, dy) in dy.chunks_exact(channels).enumerate() {
            let (top, bottom, left, right, count) =
                pooling.window(index / pooling.output.width, index % pooling.output.width);
            let count = N::of(count as f64);
            for y in top..bottom {
                let line = (y * width + left) * channels..(y * width + right) * channels;
                for dx in dx[line].chunks_exact_mut(channels) {
                    dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += *dy / count);
                }
            }
        }
    });
}
