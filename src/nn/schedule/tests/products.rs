//! Convolutions of the executor: weights are (out, kernel height, kernel width, in).

use crate::nn::schedule::Geometry;

/// Calls `visit` with the first element of an output pixel, of an input pixel under its window, and
/// the tap's index.
fn taps(geometry: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
    let Geometry { batch, input, output, window } = *geometry;
    let along = |index: usize, stride: usize, tap: usize, padding: usize, size: usize| {
        (index * stride + tap).checked_sub(padding).filter(|&at| at < size)
    };
    for pixel in 0..batch * output.pixels() {
        let (image, inside) = (pixel / output.pixels(), pixel % output.pixels());
        let (row, column) = (inside / output.width, inside % output.width);
        for tap in 0..window.kernel.0 * window.kernel.1 {
            let (down, right) = (tap / window.kernel.1, tap % window.kernel.1);
            let y = along(row, window.stride.0, down, window.padding.0, input.height);
            let x = along(column, window.stride.1, right, window.padding.1, input.width);
            if let (Some(y), Some(x)) = (y, x) {
                let source = (image * input.height + y) * input.width + x;
                visit(pixel * output.channels, source * input.channels, tap * input.channels);
            }
        }
    }
}

/// y, without a bias.
pub(super) fn convolution(geometry: &Geometry, x: &[f64], weight: &[f64]) -> Vec<f64> {
    let (inputs, outputs) = (geometry.input.channels, geometry.output.channels);
    let depth = weight.len() / outputs;
    let mut y = vec![0.0; geometry.batch * geometry.output.len()];
    taps(geometry, |to, from, tap| {
        let x = &x[from..from + inputs];
        for (y, weight) in y[to..to + outputs].iter_mut().zip(weight.chunks_exact(depth)) {
            *y += x.iter().zip(&weight[tap..]).map(|(x, weight)| x * weight).sum::<f64>();
        }
    });
    y
}

/// The gradient by the input.
pub(super) fn convolution_by_input(geometry: &Geometry, dy: &[f64], weight: &[f64]) -> Vec<f64> {
    let (inputs, outputs) = (geometry.input.channels, geometry.output.channels);
    let depth = weight.len() / outputs;
    let mut dx = vec![0.0; geometry.batch * geometry.input.len()];
    taps(geometry, |to, from, tap| {
        for (dy, weight) in dy[to..to + outputs].iter().zip(weight.chunks_exact(depth)) {
            let dx = dx[from..from + inputs].iter_mut();
            dx.zip(&weight[tap..]).for_each(|(dx, weight)| *dx += dy * weight);
        }
    });
    dx
}

/// The weight's gradient.
pub(super) fn convolution_by_weight(geometry: &Geometry, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let (inputs, outputs) = (geometry.input.channels, geometry.output.channels);
    let kernel = geometry.window.kernel;
    let depth = kernel.0 * kernel.1 * inputs;
    let mut gradient = vec![0.0; outputs * depth];
    taps(geometry, |to, from, tap| {
        let x = &x[from..from + inputs];
        for (dy, gradient) in dy[to..to + outputs].iter().zip(gradient.chunks_exact_mut(depth)) {
            gradient[tap..].iter_mut().zip(x).for_each(|(gradient, x)| *gradient += dy * x);
        }
    });
    gradient
}
