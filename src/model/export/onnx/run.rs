//! Runs the model of an ONNX file on the CPU, as ONNX defines its operators. Independent of how
//! networks are run elsewhere in this program but for the matrix product: the logits of both are
//! compared.

use super::schema::{Constant, IMAGES, LOGITS, Node, OnnxModel, Operator};
use crate::metrics::softmax;
use crate::nn::{Matrix, MatrixMut, Window, multiply};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// A model, ready to run.
pub(super) struct Runner {
    steps: Vec<Step>,
    /// For each value, the constant that it is, if it is one.
    constants: Vec<Option<Tensor>>,
    /// Shape of one image of the input.
    input: Vec<usize>,
    /// The value with the logits; 0 is the images.
    logits: usize,
}

/// A node whose values are numbers instead of names.
struct Step {
    operator: Operator,
    inputs: Vec<usize>,
    output: usize,
    /// The values that no later step reads.
    unused: Vec<usize>,
}

/// A tensor, row by row. Of images, one image: the first dimension is 1.
#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Runner {
    /// Prepares a model.
    ///
    /// # Errors
    /// If a node reads a value that no earlier one makes, a value is made twice, or an image has no
    /// pixels.
    pub(super) fn new(model: OnnxModel) -> Result<Runner, String> {
        if model.input.contains(&0) {
            return Err(format!("the shape of its input is {:?}", model.input));
        }
        let mut numbers: BTreeMap<String, usize> = BTreeMap::from([(IMAGES.to_owned(), 0)]);
        let mut constants = vec![None];
        for Constant { name, shape, values } in model.constants {
            constants.push(Some(Tensor { shape, values }));
            if numbers.insert(name.clone(), constants.len() - 1).is_some() {
                return Err(format!("two values are called {name}"));
            }
        }
        let mut steps = Vec::with_capacity(model.nodes.len());
        for Node { operator, inputs, output } in model.nodes {
            let number = |name: &String| {
                let found = numbers.get(name).copied();
                found.ok_or_else(|| format!("{output} reads {name}, which isn't made before"))
            };
            let inputs = inputs.iter().map(number).collect::<Result<Vec<usize>, String>>()?;
            constants.push(None);
            let made = constants.len() - 1;
            if numbers.insert(output.clone(), made).is_some() {
                return Err(format!("two values are called {output}"));
            }
            steps.push(Step { operator, inputs, output: made, unused: Vec::new() });
        }
        let logits = *numbers.get(LOGITS).ok_or("no node makes the logits")?;
        let mut read = vec![false; constants.len()];
        read[logits] = true;
        for step in steps.iter_mut().rev() {
            let values = step.inputs.iter().copied().chain([step.output]);
            let is_last = |&value: &usize| !std::mem::replace(&mut read[value], true);
            step.unused = values.filter(is_last).collect();
        }
        Ok(Runner { steps, constants, input: model.input, logits })
    }

    /// Number of values of one image of the input.
    pub(super) fn input_length(&self) -> usize {
        self.input.iter().product()
    }

    /// The logits (count, classes) of images (count, channels, height, width).
    ///
    /// # Errors
    /// If the shapes of values don't fit their operators.
    pub(super) fn logits(&self, images: &[f32]) -> Result<Vec<f32>, String> {
        let rows: Result<Vec<Vec<f32>>, String> =
            images.par_chunks(self.input_length()).map(|image| self.image(image)).collect();
        Ok(rows?.concat())
    }

    fn image(&self, image: &[f32]) -> Result<Vec<f32>, String> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.constants.len()];
        let shape = [&[1][..], &self.input].concat();
        values[0] = Some(Tensor { shape, values: image.to_vec() });
        for step in &self.steps {
            let value = |&value: &usize| values[value].as_ref().or(self.constants[value].as_ref());
            let inputs: Vec<&Tensor> = step.inputs.iter().filter_map(value).collect();
            let made = apply(step.operator, &inputs).ok_or_else(|| {
                let shapes: Vec<_> = inputs.iter().map(|input| &input.shape).collect();
                format!("{:?} doesn't fit values of the shapes {shapes:?}", step.operator)
            })?;
            values[step.output] = Some(made);
            step.unused.iter().for_each(|&value| values[value] = None);
        }
        let logits = values.swap_remove(self.logits);
        logits.map(|tensor| tensor.values).ok_or_else(|| "there are no logits".to_owned())
    }
}

/// The output of an operator; `None` if the shapes don't fit.
fn apply(operator: Operator, inputs: &[&Tensor]) -> Option<Tensor> {
    match (operator, inputs) {
        (Operator::Conv(window), [x, weight, bias]) => conv(x, weight, bias, window),
        (Operator::Gemm, [x, weight, bias]) => gemm(x, weight, bias),
        (Operator::MatMul, [a, b]) => matmul(a, b),
        (Operator::Add, [a, b]) => broadcast(a, b, |a, b| a + b),
        (Operator::Sub, [a, b]) => broadcast(a, b, |a, b| a - b),
        (Operator::Mul, [a, b]) => broadcast(a, b, |a, b| a * b),
        (Operator::Div, [a, b]) => broadcast(a, b, |a, b| a / b),
        // NaN stays NaN.
        (Operator::Relu, [x]) => Some(each(x, |x| if x < 0.0 { 0.0 } else { x })),
        (Operator::MaxPool(window), [x]) => {
            pooled(x, window, |pixels| pixels.iter().copied().fold(f32::NEG_INFINITY, f32::max))
        }
        (Operator::AveragePool { window, count_padding }, [x]) => pooled(x, window, |pixels| {
            // A window never exceeds the padded map, since their number is rounded down.
            let taps = window.kernel.0 * window.kernel.1;
            mean(pixels, if count_padding { taps } else { pixels.len() })
        }),
        (Operator::GlobalAveragePool, [x]) => {
            let &[1, channels, height, width] = x.shape.as_slice() else { return None };
            let maps = x.values.chunks_exact((height * width).max(1));
            let values = maps.map(|map| mean(map, map.len())).collect();
            Some(Tensor { shape: vec![1, channels, 1, 1], values })
        }
        (Operator::Concat, parts) => concat(parts),
        (Operator::Flatten, [x]) => {
            Some(Tensor { shape: vec![1, x.values.len()], values: x.values.clone() })
        }
        (Operator::Softmax, [x]) => {
            Some(Tensor { shape: x.shape.clone(), values: softmax(&x.values) })
        }
        // Another number of inputs.
        (
            Operator::Conv(_)
            | Operator::Gemm
            | Operator::MatMul
            | Operator::Add
            | Operator::Sub
            | Operator::Mul
            | Operator::Div
            | Operator::Relu
            | Operator::MaxPool(_)
            | Operator::AveragePool { .. }
            | Operator::GlobalAveragePool
            | Operator::Flatten
            | Operator::Softmax,
            _,
        ) => None,
    }
}

fn each(x: &Tensor, change: impl Fn(f32) -> f32) -> Tensor {
    Tensor { shape: x.shape.clone(), values: x.values.iter().map(|&x| change(x)).collect() }
}

/// The mean of values that are added in `f64`.
fn mean(values: &[f32], count: usize) -> f32 {
    (values.iter().map(|&value| f64::from(value)).sum::<f64>() / count as f64) as f32
}

/// An operation on each pair of values: `b` has the shape of `a`, or one value per channel, as
/// (1, channels, 1, 1).
fn broadcast(a: &Tensor, b: &Tensor, combine: impl Fn(f32, f32) -> f32) -> Option<Tensor> {
    let repeat = match (a.shape.as_slice(), b.shape.as_slice()) {
        (a, b) if a == b => 1,
        (&[1, channels, height, width], &[1, same, 1, 1]) if channels == same => height * width,
        (&[1, channels], &[1, same, 1, 1]) if channels == same => 1,
        _ => return None,
    };
    let others = b.values.iter().flat_map(|&value| std::iter::repeat_n(value, repeat));
    let values = a.values.iter().zip(others).map(|(&a, b)| combine(a, b)).collect();
    Some(Tensor { shape: a.shape.clone(), values })
}

/// x (1, depth) times the transpose of a weight (out, depth), plus a bias.
fn gemm(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Option<Tensor> {
    let (&[1, depth], &[columns, same]) = (x.shape.as_slice(), weight.shape.as_slice()) else {
        return None;
    };
    if depth != same || bias.shape != [columns] {
        return None;
    }
    let mut values = bias.values.clone();
    let weight = Matrix::new(&weight.values, columns, depth, depth).transposed();
    let row = Matrix::new(&x.values, 1, depth, depth);
    multiply(&mut MatrixMut::new(&mut values, 1, columns, columns), true, row, weight);
    Some(Tensor { shape: vec![1, columns], values })
}

/// A product in which one side is a matrix and the other the maps of an image, each a matrix.
fn matmul(a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let (batch, rows, depth, columns) = match (a.shape.as_slice(), b.shape.as_slice()) {
        (&[rows, depth], &[1, maps, same, columns]) if depth == same => {
            (maps, rows, depth, columns)
        }
        (&[1, maps, rows, depth], &[same, columns]) if depth == same => {
            (maps, rows, depth, columns)
        }
        _ => return None,
    };
    let mut values = vec![0.0; batch * rows * columns];
    let part = |tensor: &Tensor, at: usize, length: usize| match tensor.shape.len() {
        2 => 0..length,
        _ => at * length..(at + 1) * length,
    };
    for (at, out) in values.chunks_exact_mut((rows * columns).max(1)).enumerate() {
        let left = &a.values[part(a, at, rows * depth)];
        let right = &b.values[part(b, at, depth * columns)];
        let (left, right) =
            (Matrix::new(left, rows, depth, depth), Matrix::new(right, depth, columns, columns));
        multiply(&mut MatrixMut::new(out, rows, columns, columns), false, left, right);
    }
    Some(Tensor { shape: vec![1, batch, rows, columns], values })
}

fn concat(parts: &[&Tensor]) -> Option<Tensor> {
    let mut shape = parts.first()?.shape.clone();
    let fits = |part: &&Tensor| {
        part.shape.len() == shape.len()
            && part.shape.iter().zip(&shape).enumerate().all(|(at, (a, b))| at == 1 || a == b)
    };
    if shape.len() < 2 || !parts.iter().all(fits) {
        return None;
    }
    shape[1] = parts.iter().map(|part| part.shape[1]).sum();
    Some(Tensor { shape, values: parts.iter().flat_map(|part| part.values.clone()).collect() })
}

/// A weight (out, in, kernel rows, kernel columns) times the windows of a map as columns.
fn conv(x: &Tensor, weight: &Tensor, bias: &Tensor, window: Window) -> Option<Tensor> {
    let &[1, channels, height, width] = x.shape.as_slice() else { return None };
    let &[out, same, tall, wide] = weight.shape.as_slice() else { return None };
    if channels != same || (tall, wide) != window.kernel || bias.shape != [out] {
        return None;
    }
    let (rows, columns) = window.over(height, width)?;
    let (depth, pixels) = (channels * tall * wide, rows * columns);
    let mut patches = vec![0.0; depth * pixels];
    let taps =
        (0..channels).flat_map(|c| (0..tall).flat_map(move |y| (0..wide).map(move |x| (c, y, x))));
    for (row, (channel, tap_y, tap_x)) in patches.chunks_exact_mut(pixels).zip(taps) {
        let map = &x.values[channel * height * width..][..height * width];
        for (y, line) in row.chunks_exact_mut(columns).enumerate() {
            let Some(y) = inside(y, tap_y, window.stride.0, window.padding.0, height) else {
                continue;
            };
            for (x, pixel) in line.iter_mut().enumerate() {
                if let Some(x) = inside(x, tap_x, window.stride.1, window.padding.1, width) {
                    *pixel = map[y * width + x];
                }
            }
        }
    }
    let biases = bias.values.iter().flat_map(|&bias| std::iter::repeat_n(bias, pixels));
    let mut values: Vec<f32> = biases.collect();
    multiply(
        &mut MatrixMut::new(&mut values, out, pixels, pixels),
        true,
        Matrix::new(&weight.values, out, depth, depth),
        Matrix::new(&patches, depth, pixels, pixels),
    );
    Some(Tensor { shape: vec![1, out, rows, columns], values })
}

/// The pixel of a map at a tap of the window number `index`; `None` in the padding.
fn inside(index: usize, tap: usize, stride: usize, padding: usize, size: usize) -> Option<usize> {
    (index * stride + tap).checked_sub(padding).filter(|&at| at < size)
}

/// For each window of each map, `reduce` of its pixels without the padding.
fn pooled(x: &Tensor, window: Window, reduce: impl Fn(&[f32]) -> f32) -> Option<Tensor> {
    let &[1, channels, height, width] = x.shape.as_slice() else { return None };
    let Window { kernel, stride, padding } = window;
    let (rows, columns) = window.over(height, width)?;
    let mut values = Vec::with_capacity(channels * rows * columns);
    let mut pixels = Vec::new();
    for map in x.values.chunks_exact(height * width) {
        for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
            pixels.clear();
            for (tap_y, tap_x) in (0..kernel.0).flat_map(|y| (0..kernel.1).map(move |x| (y, x))) {
                let y = inside(y, tap_y, stride.0, padding.0, height);
                let x = inside(x, tap_x, stride.1, padding.1, width);
                pixels.extend(y.zip(x).map(|(y, x)| map[y * width + x]));
            }
            values.push(reduce(&pixels));
        }
    }
    Some(Tensor { shape: vec![1, channels, rows, columns], values })
}
