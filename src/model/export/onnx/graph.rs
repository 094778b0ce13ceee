//! Turns the layers of a network into ONNX nodes: a layer becomes its op, the sum with a residual,
//! and ReLU. ONNX's maps are (batch, channels, height, width).

use super::schema::{Constant, IMAGES, LOGITS, Node, OnnxModel, Operator, PROBABILITIES};
use crate::nn::ops::bin;
use crate::nn::{Layer, LayerOp, Shape, WeightTensor, Window};
use std::collections::BTreeSet;

/// The scale of 8-bit pixels.
const LEVELS: f32 = 255.0;

/// Mean and standard deviation by channel, for pixels in 0..1.
pub(super) type Normalization = ([f32; 3], [f32; 3]);

/// The nodes and constants of a network for images of `input`. With a normalization, they begin with
/// it, and the input is pixels of 0 to 255.
pub(super) fn model(
    input: Shape,
    layers: Vec<Layer>,
    normalization: Option<Normalization>,
) -> OnnxModel {
    let classes = layers.last().map_or(0, |layer| layer.output_shape.len());
    let mut builder = Builder::default();
    let images = match normalization {
        Some(normalization) => builder.normalized(normalization),
        None => IMAGES.to_owned(),
    };
    builder.values.push((0, images));
    let last = layers.len().saturating_sub(1);
    for (at, layer) in layers.into_iter().enumerate() {
        builder.layer(layer, at == last);
    }
    builder.node(Operator::Softmax, &[LOGITS], PROBABILITIES);
    OnnxModel {
        nodes: builder.nodes,
        constants: builder.constants,
        input: vec![input.channels, input.height, input.width],
        classes,
        ..OnnxModel::default()
    }
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    constants: Vec<Constant>,
    /// The names of the layers' values, by number.
    values: Vec<(usize, String)>,
    /// The names of layers in use.
    taken: BTreeSet<String>,
}

impl Builder {
    /// Adds a node and returns the name of its output.
    fn node(&mut self, operator: Operator, inputs: &[&str], output: &str) -> String {
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        self.nodes.push(Node { operator, inputs, output: output.to_owned() });
        output.to_owned()
    }

    /// Adds a constant and returns its name.
    fn constant(&mut self, name: String, shape: &[usize], values: Vec<f32>) -> String {
        self.constants.push(Constant { name: name.clone(), shape: shape.to_vec(), values });
        name
    }

    /// `(images / 255 - mean) / std`, operation by operation as images are normalized for training,
    /// so that the network's input is the same to the last bit.
    fn normalized(&mut self, (mean, std): Normalization) -> String {
        let mut x = IMAGES.to_owned();
        for (operator, name, values) in [
            (Operator::Div, "levels", vec![LEVELS; 3]),
            (Operator::Sub, "mean", mean.to_vec()),
            (Operator::Div, "std", std.to_vec()),
        ] {
            let constant = self.constant(format!("normalize.{name}"), &[1, 3, 1, 1], values);
            x = self.node(operator, &[&x, &constant], &format!("normalize/{name}"));
        }
        x
    }

    /// A name that no other layer has: modules without parameters may share one.
    fn unique(&mut self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        let name = names.find(|name| !self.taken.contains(name)).unwrap_or_default();
        self.taken.insert(name.clone());
        name
    }

    fn value(&self, number: usize) -> String {
        let found = self.values.iter().rev().find(|(value, _)| *value == number);
        found.map_or_else(String::new, |(_, name)| name.clone())
    }

    /// Adds a layer's nodes. The output of the last layer is the logits.
    fn layer(&mut self, layer: Layer, is_last: bool) {
        let name = self.unique(&layer.name);
        let mut inputs: Vec<String> = layer.inputs.iter().map(|&input| self.value(input)).collect();
        let residual = if layer.residual { inputs.pop() } else { None };
        // What is computed, in order: each step but the first has a name of its own.
        let steps = [
            (!matches!(layer.op, LayerOp::Identity)).then_some(""),
            residual.is_some().then_some("/add"),
            layer.relu.then_some("/relu"),
        ];
        let steps: Vec<&str> = steps.into_iter().flatten().collect();
        let step_name = |(at, step): (usize, &&str)| match at + 1 == steps.len() && is_last {
            true => LOGITS.to_owned(),
            false if at == 0 => name.clone(),
            false => format!("{name}{step}"),
        };
        let mut outputs = steps.iter().enumerate().map(step_name);
        let mut next = || outputs.next().unwrap_or_default();
        let mut x = match layer.op {
            LayerOp::Identity => inputs.first().cloned().unwrap_or_default(),
            op => self.op(op, (layer.input_shape, layer.output_shape), &inputs, (&name, &next())),
        };
        if let Some(residual) = residual {
            x = self.node(Operator::Add, &[&x, &residual], &next());
        }
        if layer.relu {
            x = self.node(Operator::Relu, &[&x], &next());
        }
        self.values.push((layer.output, x));
    }

    /// Adds the nodes of an op and returns the name of its value: `output`, unless the op does
    /// nothing.
    fn op(
        &mut self,
        op: LayerOp,
        (input, result): (Shape, Shape),
        inputs: &[String],
        (name, output): (&str, &str),
    ) -> String {
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let x = inputs.first().copied().unwrap_or_default();
        match op {
            LayerOp::Convolution { window, weight, bias } => {
                self.weighted(Operator::Conv(window), weight, bias, x, (name, output))
            }
            LayerOp::Linear { weight, bias } => {
                self.weighted(Operator::Gemm, weight, bias, x, (name, output))
            }
            LayerOp::Scale { scale, shift } => {
                let shape = [1, scale.len(), 1, 1];
                let scale = self.constant(format!("{name}.scale"), &shape, scale);
                let shift = self.constant(format!("{name}.shift"), &shape, shift);
                let scaled = self.node(Operator::Mul, &[x, &scale], &format!("{name}/scaled"));
                self.node(Operator::Add, &[&scaled, &shift], output)
            }
            LayerOp::MaxPool(window) => self.node(Operator::MaxPool(window), &[x], output),
            LayerOp::AveragePool { window, count_padding } => {
                self.node(Operator::AveragePool { window, count_padding }, &[x], output)
            }
            LayerOp::AdaptivePool => self.adaptive_pool(x, (input, result), (name, output)),
            LayerOp::Add => self.node(Operator::Add, &inputs, output),
            LayerOp::Concatenate => self.node(Operator::Concat, &inputs, output),
            LayerOp::Flatten => self.node(Operator::Flatten, &[x], output),
            LayerOp::Identity => x.to_owned(),
        }
    }

    fn weighted(
        &mut self,
        operator: Operator,
        weight: WeightTensor,
        bias: Vec<f32>,
        x: &str,
        (name, output): (&str, &str),
    ) -> String {
        let bias = self.constant(format!("{name}.bias"), &[bias.len()], bias);
        let weight = self.constant(format!("{name}.weight"), &weight.shape, weight.data);
        self.node(operator, &[x, &weight, &bias], output)
    }

    /// `adaptive_avg_pool2d`, which ONNX doesn't have: the global mean, nothing, windows of equal
    /// size, or else products with a matrix for the rows and one for the columns.
    fn adaptive_pool(
        &mut self,
        x: &str,
        (input, result): (Shape, Shape),
        (name, output): (&str, &str),
    ) -> String {
        let (rows, columns) = (result.height, result.width);
        if (rows, columns) == (1, 1) {
            return self.node(Operator::GlobalAveragePool, &[x], output);
        }
        if (rows, columns) == (input.height, input.width) {
            return x.to_owned();
        }
        if input.height.is_multiple_of(rows) && input.width.is_multiple_of(columns) {
            let kernel = (input.height / rows, input.width / columns);
            let window = Window { kernel, stride: kernel, padding: (0, 0) };
            let pool = Operator::AveragePool { window, count_padding: false };
            return self.node(pool, &[x], output);
        }
        let shares = bins(rows, input.height);
        let down = self.constant(format!("{name}.rows"), &[rows, input.height], shares);
        let shares = transposed(&bins(columns, input.width), input.width);
        let across = self.constant(format!("{name}.columns"), &[input.width, columns], shares);
        let tall = self.node(Operator::MatMul, &[&down, x], &format!("{name}/rows"));
        self.node(Operator::MatMul, &[&tall, &across], output)
    }
}

/// The share of each of `size` values in each of `count` bins: (count, size), row by row.
fn bins(count: usize, size: usize) -> Vec<f32> {
    let mut shares = vec![0.0; count * size];
    for (index, row) in shares.chunks_exact_mut(size).enumerate() {
        let (from, to) = bin(index, count, size);
        row[from..to].fill(1.0 / (to - from) as f32);
    }
    shares
}

/// A matrix of rows of `width` values, transposed.
fn transposed(matrix: &[f32], width: usize) -> Vec<f32> {
    let columns = 0..width;
    columns.flat_map(|at| matrix.chunks_exact(width).map(move |row| row[at])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_overlap_as_those_of_adaptive_pooling() {
        // torch.nn.functional.adaptive_avg_pool1d of 5 values to 3: [0, 2), [1, 4), [3, 5).
        let third = 1.0 / 3.0;
        let expected =
            [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, third, third, third, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5];
        assert_eq!(bins(3, 5), expected);
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        // More bins than values repeat them.
        assert_eq!(bins(3, 1), [1.0; 3]);
    }

    #[test]
    fn names_are_unique() {
        let mut builder = Builder::default();
        let names = ["a", "a", "b", "a"].map(|name| builder.unique(name));
        assert_eq!(names, ["a", "a_2", "b", "a_3"]);
    }
}
