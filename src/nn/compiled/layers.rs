//! The layers of a network in evaluation mode, for exporters: the fused ops of the compiled network,
//! with weights in torchvision's layouts. Doesn't depend on file formats.

use super::compiler::Compiler;
use super::{Computation, FusedOp};
use crate::nn::graph::{Graph, Op, Shape, Window};
use crate::nn::layout;
use crate::nn::parameters::{ParameterInfo, RunningStatistics};
use crate::nn::program::Program;
use crate::nn::weights::WeightTensor;
use std::borrow::Cow;

/// A layer: its op, then the sum with a residual, then ReLU. Norms are folded into the convolutions
/// before them.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// torchvision's name of the module, such as `layer1.0.conv1`. Modules without parameters may
    /// share one.
    pub name: String,
    pub op: LayerOp,
    /// The values that it reads, by number: 0 is the images, others are the `output` of an earlier
    /// layer. With `residual`, the last one is added to the op's output.
    pub inputs: Vec<usize>,
    pub residual: bool,
    pub relu: bool,
    /// The number of its output.
    pub output: usize,
    /// The shape of the first input, for one image.
    pub input_shape: Shape,
    /// The shape of the output, for one image.
    pub output_shape: Shape,
}

/// The operation of a [`Layer`] on maps of (channels, height, width).
#[derive(Clone, Debug, PartialEq)]
pub enum LayerOp {
    /// 2-D convolution with a weight (out, in, kernel rows, kernel columns).
    Convolution { window: Window, weight: WeightTensor, bias: Vec<f32> },
    /// `x * scale + shift`, by channel.
    Scale { scale: Vec<f32>, shift: Vec<f32> },
    /// A fully connected layer with a weight (out, in).
    Linear { weight: WeightTensor, bias: Vec<f32> },
    /// Maximum over each window, padding excluded.
    MaxPool(Window),
    /// Mean over each window, where `count_padding` with padding as zeros.
    AveragePool { window: Window, count_padding: bool },
    /// Means over the bins of `adaptive_avg_pool2d`; the output's shape says how many.
    AdaptivePool,
    /// The sum of two values.
    Add,
    /// The channels of all values, one after the other.
    Concatenate,
    /// A map as a vector in the order (channels, height, width).
    Flatten,
    /// Its input: a ReLU that stands alone, or dropout.
    Identity,
}

impl FusedOp {
    /// Weight and bias of a product, scale and shift, or nothing; and whether a residual and a ReLU
    /// follow.
    fn into_values(self) -> (Vec<f32>, Vec<f32>, bool, bool) {
        match self.computation {
            Computation::Product(product) => {
                let epilogue = product.epilogue;
                (product.weight, epilogue.shift, epilogue.residual, epilogue.relu)
            }
            Computation::Scale { scale, epilogue } => {
                (scale, epilogue.shift, epilogue.residual, epilogue.relu)
            }
            Computation::Pool(_)
            | Computation::Add
            | Computation::Concatenate(_)
            | Computation::Copy => (Vec::new(), Vec::new(), false, false),
        }
    }
}

/// The layers of a graph's main network in execution order. `infos` and `values` give the parameters
/// by index in PyTorch's order, values in our layout.
pub(crate) fn layers<'a>(
    graph: &'a Graph,
    program: &'a Program,
    offsets: &'a [usize],
    infos: impl Fn(usize) -> &'a ParameterInfo,
    values: &'a dyn Fn(usize) -> Cow<'a, [f32]>,
    statistics: &'a [RunningStatistics],
) -> Vec<Layer> {
    let nodes = graph.nodes();
    let compiler = Compiler::new(graph, program, offsets, values, statistics, 0..program.auxiliary);
    let layer = |fused: FusedOp| {
        let (inputs, output, at) = (fused.inputs.clone(), fused.output, fused.node);
        let (values, bias, residual, relu) = fused.into_values();
        let weight = |values: Vec<f32>| {
            let info = infos(offsets[at]);
            WeightTensor { shape: info.shape.clone(), data: layout::to_torch(info, &values) }
        };
        let op = match nodes[at].op {
            Op::Convolution { window, .. } => {
                LayerOp::Convolution { window, weight: weight(values), bias }
            }
            Op::Linear { .. } => LayerOp::Linear { weight: weight(values), bias },
            Op::BatchNorm { .. } => LayerOp::Scale { scale: values, shift: bias },
            Op::MaxPool(window) => LayerOp::MaxPool(window),
            Op::AveragePool { window, count_padding } => {
                LayerOp::AveragePool { window, count_padding }
            }
            Op::AdaptivePool { .. } => LayerOp::AdaptivePool,
            Op::Add => LayerOp::Add,
            Op::Concatenate => LayerOp::Concatenate,
            Op::Flatten => LayerOp::Flatten,
            Op::Input | Op::Relu | Op::Dropout { .. } => LayerOp::Identity,
        };
        Layer {
            name: nodes[at].name.clone(),
            op,
            residual,
            relu,
            output,
            input_shape: nodes[inputs[0]].shape,
            output_shape: nodes[output].shape,
            inputs,
        }
    };
    compiler.ops().into_iter().map(layer).collect()
}
