//! Naive loops in `f64` that define the ops.

use super::*;

pub(super) fn convolution(geometry: &Geometry, inputs: &[Vec<f64>]) -> Vec<f64> {
    let Geometry { batch, input, output, window, .. } = *geometry;
    let mut out = Vec::new();
    for image in 0..batch {
        for y in 0..output.height {
            for x in 0..output.width {
                for channel in 0..output.channels {
                    let mut sum = inputs.get(2).map_or(0.0, |bias| bias[channel]);
                    for i in 0..window.kernel.0 {
                        for j in 0..window.kernel.1 {
                            let row =
                                (y * window.stride.0 + i) as isize - window.padding.0 as isize;
                            let column =
                                (x * window.stride.1 + j) as isize - window.padding.1 as isize;
                            if !(0..input.height as isize).contains(&row)
                                || !(0..input.width as isize).contains(&column)
                            {
                                continue;
                            }
                            let pixel = (image * input.height + row as usize) * input.width
                                + column as usize;
                            for c in 0..input.channels {
                                let weight = ((i * window.kernel.1 + j) * input.channels + c)
                                    * output.channels
                                    + channel;
                                sum += inputs[0][pixel * input.channels + c] * inputs[1][weight];
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    out
}

pub(super) fn batch_norm(norm: &Normalization, channels: usize, inputs: &[Vec<f64>]) -> Vec<f64> {
    let rows = inputs[0].len() / channels;
    let mut out = vec![0.0; inputs[0].len()];
    for channel in 0..channels {
        let column: Vec<f64> = (0..rows).map(|row| inputs[0][row * channels + channel]).collect();
        let (mean, variance) = match norm.statistics {
            NormStatistics::Batch => {
                let mean = column.iter().sum::<f64>() / rows as f64;
                (mean, column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64)
            }
            NormStatistics::Running { mean, variance } => {
                (f64::from(mean[channel]), f64::from(variance[channel]))
            }
        };
        for (row, x) in column.iter().enumerate() {
            let index = row * channels + channel;
            let normal = (x - mean) / (variance + norm.epsilon).sqrt();
            let y = normal * inputs[1][channel]
                + inputs[2][channel]
                + inputs.get(3).map_or(0.0, |residual| residual[index]);
            out[index] = if norm.relu { y.max(0.0) } else { y };
        }
    }
    out
}

pub(super) fn pool(pooling: &Pooling, inputs: &[Vec<f64>]) -> Vec<f64> {
    let Pooling { batch, input, output, kind } = *pooling;
    let mut out = Vec::new();
    for image in 0..batch {
        for y in 0..output.height {
            for x in 0..output.width {
                for channel in 0..input.channels {
                    let at = |row: usize, column: usize| {
                        inputs[0][((image * input.height + row) * input.width + column)
                            * input.channels
                            + channel]
                    };
                    out.push(match kind {
                        PoolKind::Maximum(window) => inside(&window, input, y, x)
                            .0
                            .iter()
                            .map(|&(r, c)| at(r, c))
                            .fold(f64::NEG_INFINITY, f64::max),
                        PoolKind::Mean { window, count_padding } => {
                            let (pixels, padded) = inside(&window, input, y, x);
                            let count = if count_padding { padded } else { pixels.len() };
                            pixels.iter().map(|&(r, c)| at(r, c)).sum::<f64>() / count as f64
                        }
                        PoolKind::Bins => {
                            let rows = bin(y, output.height, input.height);
                            let columns = bin(x, output.width, input.width);
                            let values: Vec<f64> = rows
                                .flat_map(|r| columns.clone().map(move |c| (r, c)))
                                .map(|(r, c)| at(r, c))
                                .collect();
                            values.iter().sum::<f64>() / values.len() as f64
                        }
                    });
                }
            }
        }
    }
    out
}

/// The pixels of a window inside of the map, and how many of it lie inside of the padded map.
fn inside(window: &Window, input: Shape, y: usize, x: usize) -> (Vec<(usize, usize)>, usize) {
    let (mut pixels, mut padded) = (Vec::new(), 0);
    for i in 0..window.kernel.0 {
        for j in 0..window.kernel.1 {
            let (row, column) = (y * window.stride.0 + i, x * window.stride.1 + j);
            if row >= input.height + 2 * window.padding.0
                || column >= input.width + 2 * window.padding.1
            {
                continue;
            }
            padded += 1;
            if let (Some(row), Some(column)) =
                (row.checked_sub(window.padding.0), column.checked_sub(window.padding.1))
                && row < input.height
                && column < input.width
            {
                pixels.push((row, column));
            }
        }
    }
    (pixels, padded)
}

fn bin(index: usize, bins: usize, size: usize) -> std::ops::Range<usize> {
    let edge = |index: usize| index as f64 * size as f64 / bins as f64;
    edge(index).floor() as usize..edge(index + 1).ceil() as usize
}

pub(super) fn cross_entropy(logits: &[f64], targets: &[f32], batch: usize) -> f64 {
    let classes = targets.len() / batch;
    let rows = logits.chunks(classes).zip(targets.chunks(classes));
    let row = |(logits, targets): (&[f64], &[f32])| {
        let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits
            .iter()
            .zip(targets)
            .map(|(logit, target)| -f64::from(*target) * (logit - total.ln()))
            .sum::<f64>()
    };
    rows.map(row).sum::<f64>() / batch as f64
}
