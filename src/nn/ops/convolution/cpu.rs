//! Convolution on the CPU as products of windows and weights, by the processor's kernels in `f32`
//! where there are, else of gathered windows through `gemm`, split into blocks that depend only on
//! shapes.
//!
//! Forward, Y = P W with the windows P of the input. Backward, dW = Pᵀ dY, split over kernel rows,
//! output channels and fixed ranges of rows. dX is again a product of windows: input pixels at the
//! same offset modulo the stride are read by the same taps of the kernel, so each such class is a
//! convolution of dY with stride 1 and those taps flipped.

use super::Geometry;
use super::patches::{Patches, block_rows};
use super::prepared::{Ending, Prepared};
use super::{panels, winograd};
use crate::nn::graph::Shape;
use crate::nn::matrix::{Factor, Matrix, MatrixMut, Pair, has_kernels, multiply, values};
use crate::nn::number::Number;
use crate::nn::ops::chunks::{CHUNK, add_to, column_sums};
use crate::nn::ops::{FlatTensor, Gradient, MaybeTape, Products, flat};
use dfdx::tensor::{CpuError, Tape};
use rayon::prelude::*;

/// 2-D convolution of `x` (batch, height, width, in) with `weight` (kernel height, kernel width, in,
/// out) and `bias` (out) to (batch, height, width, out). `gradients` are those of x, weight, bias.
pub(crate) fn convolution<N: Number>(
    x: &FlatTensor<N>,
    weight: &FlatTensor<N>,
    bias: Option<&FlatTensor<N>>,
    geometry: &Geometry,
    gradients: [Gradient; 3],
    tape: &mut MaybeTape<N>,
) -> Result<FlatTensor<N>, CpuError> {
    let geometry = *geometry;
    let out = flat(forward(values(x), values(weight), bias.map(values), &geometry))?;
    let Some(tape) = tape else { return Ok(out) };
    let (out_ghost, x_ghost, weight_ghost) = (out.ghost(), x.ghost(), weight.ghost());
    let bias_ghost = bias.map(|bias| bias.ghost());
    let x = gradients[1].wanted().then(|| x.clone());
    let weight = gradients[0].wanted().then(|| weight.clone());
    tape.add_backward_op(move |grads| {
        let dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
        if let Some(bias) = bias_ghost.filter(|_| gradients[2].wanted()) {
            super::super::store_gradient(
                grads.get_or_alloc_mut(&bias)?,
                gradients[2],
                column_sums(&dy, geometry.output.channels),
            );
        }
        if let Some(x) = x {
            let slot = grads.get_or_alloc_mut(&weight_ghost)?;
            by_weight(values(&x), &dy, &geometry, gradients[1] == Gradient::Add, slot);
        }
        if let Some(weight) = weight {
            let slot = grads.get_or_alloc_mut(&x_ghost)?;
            by_input(&dy, values(&weight), &geometry, gradients[0] == Gradient::Add, slot);
        }
        Ok::<(), CpuError>(())
    });
    Ok(out)
}

fn forward<N: Number>(x: &[N], weight: &[N], bias: Option<&[N]>, geometry: &Geometry) -> Vec<N> {
    let channels = geometry.output.channels;
    let mut out = vec![N::ZERO; geometry.batch * geometry.output.len()];
    product(&geometry.patches(), x, weight, geometry.products, false, &mut out);
    if let Some(bias) = bias {
        out.par_chunks_mut(CHUNK.next_multiple_of(channels)).for_each(|rows| {
            for row in rows.chunks_exact_mut(channels) {
                row.iter_mut().zip(bias).for_each(|(value, bias)| *value += *bias);
            }
        });
    }
    out
}

/// `out` (rows, columns) = the windows of `source` times `weight` (depth, columns); adds to `out`
/// where `accumulate`.
fn product<N: Number>(
    patches: &Patches,
    source: &[N],
    weight: &[N],
    products: Products,
    accumulate: bool,
    out: &mut [N],
) {
    let columns = weight.len() / patches.depth();
    let prepared =
        N::single(weight).and_then(|weight| Prepared::new(patches, weight, columns, products));
    if let (Some(prepared), Some(source), Some(out)) =
        (prepared, N::single(source), N::single_mut(out))
    {
        let shift = vec![0.0; columns];
        let ending = Ending { accumulate, shift: &shift, residual: None, floor: f32::NEG_INFINITY };
        return prepared.run(source, &ending, out);
    }
    patches.multiply(source, weight, columns, accumulate, out);
}

/// How the sum over all rows that makes a weight's gradient is split up.
struct Split {
    /// Ranges of rows, each summed by itself.
    ranges: usize,
    /// Rows in a range.
    rows: usize,
    /// Kernel rows in a part.
    taps: usize,
    /// Output channels in a part.
    channels: usize,
}

impl Split {
    /// Sums over ranges of rows where there are many rows, as far as their partial results stay
    /// small; parts of the result otherwise.
    fn of(geometry: &Geometry) -> Split {
        let rows = geometry.batch * geometry.output.pixels();
        let size = geometry.depth() * geometry.output.channels;
        let ranges = (rows / 1024).min((1 << 20) / size.max(1)).clamp(1, 16);
        let kernel_rows = geometry.window.kernel.0;
        let by_taps = if ranges >= 8 { 1 } else { kernel_rows };
        let by_channels =
            (12 / (ranges * by_taps)).clamp(1, geometry.output.channels.div_ceil(128));
        Split {
            ranges,
            rows: rows.div_ceil(ranges),
            taps: kernel_rows.div_ceil(by_taps),
            channels: geometry.output.channels.div_ceil(by_channels).next_multiple_of(16),
        }
    }
}

/// dW = Pᵀ dY into `out`; adds to `out` where `accumulate`.
fn by_weight<N: Number>(x: &[N], dy: &[N], geometry: &Geometry, accumulate: bool, out: &mut [N]) {
    if let (Some(x), Some(dy), true) = (N::single(x), N::single(dy), has_kernels())
        && let Some(out) = N::single_mut(out)
    {
        return match geometry.products {
            Products::Bf16 => by_weight_of::<Pair>(x, dy, geometry, accumulate, out),
            Products::Own => by_weight_of::<f32>(x, dy, geometry, accumulate, out),
        };
    }
    let split = Split::of(geometry);
    let (depth, channels) = (geometry.depth(), geometry.output.channels);
    let total = geometry.batch * geometry.output.pixels();
    let band = geometry.window.kernel.1 * geometry.input.channels;
    let mut partial = vec![N::ZERO; if split.ranges > 1 { split.ranges * out.len() } else { 0 }];
    let targets: Vec<&mut [N]> = if split.ranges > 1 {
        partial.chunks_exact_mut(out.len()).collect()
    } else {
        vec![&mut *out]
    };
    let tasks = targets.into_iter().enumerate().flat_map(|(range, target)| {
        let tiles = MatrixMut::new(target, depth, channels, channels)
            .tiles(split.taps * band, split.channels);
        tiles.into_iter().map(move |tile| (range, tile))
    });
    let keep = accumulate && split.ranges == 1;
    tasks.collect::<Vec<_>>().into_par_iter().for_each(|(range, mut tile)| {
        let first_tap = tile.row / band;
        let whole = geometry.patches();
        let patches = Patches {
            origin: (whole.origin.0 + first_tap as isize, whole.origin.1),
            taps: (tile.out.rows() / band, whole.taps.1),
            ..whole
        };
        let last = total.min((range + 1) * split.rows);
        let height = if patches.is_identity() { 1024 } else { block_rows(patches.depth()) };
        for (step, first) in (range * split.rows..last).step_by(height).enumerate() {
            let rows = height.min(last - first);
            let dy = Matrix::new(
                &dy[first * channels + tile.column..],
                rows,
                tile.out.columns(),
                channels,
            );
            patches.with_rows(x, first, rows, |windows| {
                multiply(&mut tile.out, keep || step > 0, windows.transposed(), dy);
            });
        }
    });
    if split.ranges > 1 {
        let size = out.len();
        out.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| {
            if !accumulate {
                out.fill(N::ZERO);
            }
            for range in partial.chunks_exact(size) {
                out.iter_mut().zip(&range[chunk * CHUNK..]).for_each(|(sum, part)| *sum += *part);
            }
        });
    }
}

/// dX of windows that are whole inputs, as of linear layers: the transpose of W dYᵀ. What is large
/// there is W, which is read as it is.
fn by_whole_input<N: Number>(
    dy: &[N],
    weight: &[N],
    geometry: &Geometry,
    accumulate: bool,
    out: &mut [N],
) {
    let (size, channels, batch) = (geometry.input.len(), geometry.output.channels, geometry.batch);
    let mut transposed = vec![N::ZERO; dy.len()];
    transpose(dy, batch, channels, &mut transposed);
    let mut by_image = vec![N::ZERO; size * batch];
    let patches = Patches {
        map: Shape::vector(channels),
        grid: (1, 1),
        step: (1, 1),
        origin: (0, 0),
        taps: (1, 1),
    };
    product(&patches, weight, &transposed, geometry.products, false, &mut by_image);
    let mut gradient = vec![N::ZERO; size * batch];
    transpose(&by_image, size, batch, &mut gradient);
    match accumulate {
        true => add_to(out, &gradient),
        false => out.copy_from_slice(&gradient),
    }
}

/// dW by the processor's kernels, of products of factors of one kind.
fn by_weight_of<F: Factor>(
    x: &[f32],
    dy: &[f32],
    geometry: &Geometry,
    accumulate: bool,
    out: &mut [f32],
) {
    match winograd::gradient_is_for::<F>(geometry) {
        true => winograd::by_weight::<F>(x, dy, geometry, accumulate, out),
        false => panels::by_weight::<F>(x, dy, geometry, accumulate, out),
    }
}

/// The input pixels along one axis at offset `first` modulo the stride, and the taps that read
/// them.
struct Class {
    /// First pixel; the others follow at the stride.
    first: usize,
    /// Number of pixels.
    count: usize,
    /// The taps that read them: `tap`, `tap + stride`, …, `taps` in number.
    tap: usize,
    taps: usize,
    /// The output pixel that reads the first one through the last of these taps.
    origin: isize,
}

/// All classes along one axis.
fn classes(size: usize, kernel: usize, stride: usize, padding: usize) -> Vec<Class> {
    let class = |first: usize| {
        let tap = (first + padding) % stride;
        let taps = kernel.saturating_sub(tap).div_ceil(stride);
        let origin = ((first + padding - tap) / stride) as isize - taps as isize + 1;
        Class { first, count: (size - first).div_ceil(stride), tap, taps, origin }
    };
    (0..stride.min(size)).map(class).collect()
}

/// dX into `out`; adds to `out` where `accumulate`.
fn by_input<N: Number>(
    dy: &[N],
    weight: &[N],
    geometry: &Geometry,
    accumulate: bool,
    out: &mut [N],
) {
    let Geometry { input, output, window, batch, products } = *geometry;
    if window.kernel == (input.height, input.width)
        && output.pixels() == 1
        && window.padding == (0, 0)
    {
        return by_whole_input(dy, weight, geometry, accumulate, out);
    }
    let rows = classes(input.height, window.kernel.0, window.stride.0, window.padding.0);
    let columns = classes(input.width, window.kernel.1, window.stride.1, window.padding.1);
    let whole = rows.len() * columns.len() == 1;
    if !whole && !accumulate && rows.iter().chain(&columns).any(|class| class.taps == 0) {
        out.par_chunks_mut(CHUNK).for_each(|chunk| chunk.fill(N::ZERO));
    }
    for row in &rows {
        for column in columns.iter().filter(|column| row.taps * column.taps > 0) {
            let patches = Patches {
                map: output,
                grid: (row.count, column.count),
                step: (1, 1),
                origin: (row.origin, column.origin),
                taps: (row.taps, column.taps),
            };
            let weight = flipped_taps(weight, geometry, row, column);
            if whole {
                product(&patches, dy, &weight, products, accumulate, out);
                continue;
            }
            let mut part = vec![N::ZERO; batch * patches.rows_per_image() * input.channels];
            product(&patches, dy, &weight, products, false, &mut part);
            scatter(&part, geometry, row, column, accumulate, out);
        }
    }
}

/// The taps of a class, from the last to the first, as (tap, output channel, input channel).
fn flipped_taps<N: Number>(
    weight: &[N],
    geometry: &Geometry,
    row: &Class,
    column: &Class,
) -> Vec<N> {
    let (inputs, outputs) = (geometry.input.channels, geometry.output.channels);
    let mut flipped = vec![N::ZERO; row.taps * column.taps * inputs * outputs];
    flipped.par_chunks_exact_mut(inputs * outputs).enumerate().for_each(|(index, block)| {
        let tap_row = row.tap + geometry.window.stride.0 * (row.taps - 1 - index / column.taps);
        let tap_column =
            column.tap + geometry.window.stride.1 * (column.taps - 1 - index % column.taps);
        let tap = tap_row * geometry.window.kernel.1 + tap_column;
        transpose(&weight[tap * inputs * outputs..][..inputs * outputs], inputs, outputs, block);
    });
    flipped
}

/// `target` (columns, rows) = the transpose of `source` (rows, columns), in squares that fit in an
/// L1 cache.
fn transpose<N: Number>(source: &[N], rows: usize, columns: usize, target: &mut [N]) {
    const SIDE: usize = 16;
    for first_row in (0..rows).step_by(SIDE) {
        for first_column in (0..columns).step_by(SIDE) {
            for column in first_column..columns.min(first_column + SIDE) {
                let line = &mut target
                    [column * rows + first_row..column * rows + rows.min(first_row + SIDE)];
                for (offset, value) in line.iter_mut().enumerate() {
                    *value = source[(first_row + offset) * columns + column];
                }
            }
        }
    }
}

/// Writes a class's rows to their pixels, or adds them where `accumulate`.
fn scatter<N: Number>(
    part: &[N],
    geometry: &Geometry,
    row: &Class,
    column: &Class,
    accumulate: bool,
    out: &mut [N],
) {
    let (input, stride) = (geometry.input, geometry.window.stride);
    let per_image = row.count * column.count * input.channels;
    out.par_chunks_exact_mut(input.len()).zip(part.par_chunks_exact(per_image)).for_each(
        |(map, part)| {
            for (index, pixel) in part.chunks_exact(input.channels).enumerate() {
                let y = row.first + stride.0 * (index / column.count);
                let x = column.first + stride.1 * (index % column.count);
                let target = &mut map[(y * input.width + x) * input.channels..][..input.channels];
                if accumulate {
                    target.iter_mut().zip(pixel).for_each(|(target, value)| *target += *value);
                } else {
                    target.copy_from_slice(pixel);
                }
            }
        },
    );
}
