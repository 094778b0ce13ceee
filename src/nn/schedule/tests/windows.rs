//! Pooling of the executor.

use crate::nn::graph::Window;
use crate::nn::ops::{PoolKind, Pooling};
use std::ops::Range;

/// The input pixels under an output pixel's window, vertically and horizontally, what a mean is
/// divided by, and the window's first row and column, which may be padding.
struct Covered {
    rows: Range<usize>,
    columns: Range<usize>,
    divisor: f64,
    origin: (isize, isize),
}

fn covered(pooling: &Pooling, row: usize, column: usize) -> Covered {
    let (input, output) = (pooling.input, pooling.output);
    let bin = |index: usize, bins: usize, size: usize| {
        index * size / bins..((index + 1) * size).div_ceil(bins)
    };
    let clipped = |index: usize, stride: usize, kernel: usize, padding: usize, size: usize| {
        let (begin, end) = (index * stride, index * stride + kernel);
        let padded = end.min(size + 2 * padding) - begin;
        (begin.saturating_sub(padding)..end.saturating_sub(padding).min(size), padded)
    };
    let windowed = |window: Window, count_padding: bool| {
        let Window { kernel, stride, padding } = window;
        let (rows, tall) = clipped(row, stride.0, kernel.0, padding.0, input.height);
        let (columns, wide) = clipped(column, stride.1, kernel.1, padding.1, input.width);
        let inside = rows.len() * columns.len();
        let divisor = if count_padding { tall * wide } else { inside } as f64;
        let begin = |index: usize, stride: usize, padding: usize| {
            (index * stride) as isize - padding as isize
        };
        let origin = (begin(row, stride.0, padding.0), begin(column, stride.1, padding.1));
        Covered { rows, columns, divisor, origin }
    };
    match pooling.kind {
        PoolKind::Maximum(window) => windowed(window, false),
        PoolKind::Mean { window, count_padding } => windowed(window, count_padding),
        PoolKind::Bins => {
            let rows = bin(row, output.height, input.height);
            let columns = bin(column, output.width, input.width);
            let divisor = (rows.len() * columns.len()) as f64;
            Covered { rows, columns, divisor, origin: (0, 0) }
        }
    }
}

/// Calls `visit` with the covered pixels of each output pixel, its image and its first element.
fn each(pooling: &Pooling, mut visit: impl FnMut(&Covered, usize, usize)) {
    let output = pooling.output;
    for pixel in 0..pooling.batch * output.pixels() {
        let inside = pixel % output.pixels();
        let covered = covered(pooling, inside / output.width, inside % output.width);
        visit(&covered, pixel / output.pixels(), pixel * output.channels);
    }
}

/// The pooled map, and for each maximum the position of its first pixel in the window.
pub(super) fn pool(pooling: &Pooling, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (input, channels) = (pooling.input, pooling.input.channels);
    let count = pooling.batch * pooling.output.len();
    let (mut out, mut taps) = (vec![0.0; count], vec![0.0; count]);
    each(pooling, |covered, image, to| {
        for channel in 0..channels {
            let (mut sum, mut largest, mut tap) = (0.0, f64::NEG_INFINITY, 255.0);
            for row in covered.rows.clone() {
                for column in covered.columns.clone() {
                    let pixel = (image * input.height + row) * input.width + column;
                    let value = x[pixel * channels + channel];
                    sum += value;
                    let first = tap == 255.0 && value == largest;
                    if value > largest || first {
                        (largest, tap) = (value, tap_at(pooling, covered, row, column));
                    } else if value.is_nan() {
                        (largest, tap) = (value, 255.0);
                    }
                }
            }
            let maximum = matches!(pooling.kind, PoolKind::Maximum(_));
            out[to + channel] = if maximum { largest } else { sum / covered.divisor };
            taps[to + channel] = tap;
        }
    });
    (out, taps)
}

/// The position of a pixel in the window.
fn tap_at(pooling: &Pooling, covered: &Covered, row: usize, column: usize) -> f64 {
    let PoolKind::Maximum(window) = pooling.kind else { return 255.0 };
    let (down, right) = (row as isize - covered.origin.0, column as isize - covered.origin.1);
    (down * window.kernel.1 as isize + right) as f64
}

/// The gradient by the input; with `taps` of a maximum.
pub(super) fn pool_backward(pooling: &Pooling, dy: &[f64], taps: Option<&[f64]>) -> Vec<f64> {
    let (input, channels) = (pooling.input, pooling.input.channels);
    let mut dx = vec![0.0; pooling.batch * input.len()];
    each(pooling, |covered, image, to| {
        for row in covered.rows.clone() {
            for column in covered.columns.clone() {
                let pixel = (image * input.height + row) * input.width + column;
                for channel in 0..channels {
                    let share = match taps {
                        None => 1.0 / covered.divisor,
                        Some(taps) => {
                            let tap = tap_at(pooling, covered, row, column);
                            f64::from(u8::from(taps[to + channel] == tap))
                        }
                    };
                    dx[pixel * channels + channel] += share * dy[to + channel];
                }
            }
        }
    });
    dx
}
