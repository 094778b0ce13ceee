//! The parameters and buffers of a graph, under torchvision's names and shapes. Doesn't know how
//! they are initialized, laid out in memory, used or updated.

use super::graph::{Graph, Node, Op, Shape};
use super::number::Number;
use super::ops::{BatchStatistics, FlatTensor};

/// The kind of a parameter, which decides its initialization and whether weight decay applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Kernel of a convolution.
    ConvWeight,
    /// Matrix of a linear layer.
    LinearWeight,
    /// Bias of a convolution or a linear layer.
    Bias,
    /// Scale of a batch norm.
    NormWeight,
    /// Shift of a batch norm.
    NormBias,
}

/// Name, shape and role of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterInfo {
    /// torchvision's name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// torchvision's shape: (out, in, height, width) of a convolution, (out, in) of a linear layer.
    pub shape: Vec<usize>,
    pub role: Role,
    /// Its layer group: `head` after the features, [`AUXILIARY`](super::AUXILIARY) in an auxiliary
    /// head.
    pub group: String,
    /// Index of the layer group, 0 nearest to the input; an auxiliary head has that of the head.
    pub depth: usize,
    /// The shape before flattening, which determines the order of a linear layer's inputs.
    pub(crate) source: Shape,
}

/// A parameter in the network's precision.
pub struct Parameter<N: Number = f32> {
    pub info: ParameterInfo,
    /// Its values, flat, in our layout.
    pub tensor: FlatTensor<N>,
    /// Whether training steps compute its gradient.
    pub trainable: bool,
}

/// Running statistics of a batch norm.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunningStatistics {
    pub name: String,
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

impl RunningStatistics {
    /// torchvision's names of the mean and the variance.
    pub(super) fn names(&self) -> (String, String) {
        (format!("{}.running_mean", self.name), format!("{}.running_var", self.name))
    }

    /// Updates from a batch with `count` values per channel, with PyTorch's momentum of 0.1 and the
    /// unbiased variance.
    pub(super) fn update(&mut self, moments: &BatchStatistics, count: usize) {
        const MOMENTUM: f32 = 0.1;
        let unbiased = count as f32 / (count.max(2) - 1) as f32;
        let mix = |kept: &mut Vec<f32>, new: &[f32], factor: f32| {
            for (kept, new) in kept.iter_mut().zip(new) {
                *kept = (1.0 - MOMENTUM) * *kept + MOMENTUM * factor * new;
            }
        };
        mix(&mut self.mean, &moments.mean, 1.0);
        mix(&mut self.variance, &moments.variance, unbiased);
    }
}

/// The parameters of one node, in PyTorch's order.
fn of_node(graph: &Graph, node: &Node) -> Vec<ParameterInfo> {
    let info = |suffix: &str, shape: Vec<usize>, role: Role, source: Shape| ParameterInfo {
        name: format!("{}.{suffix}", node.name),
        shape,
        role,
        group: graph.group_of(node).to_owned(),
        depth: node.group.min(graph.layer_groups().len().saturating_sub(1)),
        source,
    };
    let input = node.inputs.first().map_or(node.shape, |&input| graph.nodes()[input].shape);
    let channels = node.shape.channels;
    match node.op {
        Op::Convolution { window, bias, .. } => {
            let shape = vec![channels, input.channels, window.kernel.0, window.kernel.1];
            let mut list = vec![info("weight", shape, Role::ConvWeight, input)];
            list.extend(bias.then(|| info("bias", vec![channels], Role::Bias, input)));
            list
        }
        Op::BatchNorm { .. } => vec![
            info("weight", vec![channels], Role::NormWeight, input),
            info("bias", vec![channels], Role::NormBias, input),
        ],
        Op::Linear { .. } => {
            let source = source_map(graph, node);
            vec![
                info("weight", vec![channels, input.len()], Role::LinearWeight, source),
                info("bias", vec![channels], Role::Bias, source),
            ]
        }
        Op::Input
        | Op::Relu
        | Op::MaxPool(_)
        | Op::AveragePool { .. }
        | Op::AdaptivePool { .. }
        | Op::Add
        | Op::Concatenate
        | Op::Flatten
        | Op::Dropout { .. } => Vec::new(),
    }
}

/// The shape of a linear layer's input before flattening, looking through ops that keep the order
/// of values.
fn source_map(graph: &Graph, node: &Node) -> Shape {
    let mut source = &graph.nodes()[node.inputs[0]];
    while keeps_order(source.op) {
        source = &graph.nodes()[source.inputs[0]];
    }
    source.shape
}

/// Whether value `i` of the output depends on value `i` of the input alone.
fn keeps_order(op: Op) -> bool {
    match op {
        Op::Relu | Op::Flatten | Op::Dropout { .. } => true,
        Op::Input
        | Op::Convolution { .. }
        | Op::BatchNorm { .. }
        | Op::MaxPool(_)
        | Op::AveragePool { .. }
        | Op::AdaptivePool { .. }
        | Op::Add
        | Op::Concatenate
        | Op::Linear { .. } => false,
    }
}

impl Graph {
    /// Number of trainable values (buffers not counted), as torchvision counts them. Includes the
    /// auxiliary head where the graph has one: torchvision publishes `inception_v3` with it,
    /// 27,161,264 for 1000 classes, of which 3,326,696 are the auxiliary head's.
    pub fn parameter_count(&self) -> u64 {
        let count = |info: &ParameterInfo| info.shape.iter().product::<usize>() as u64;
        describe(self).iter().map(count).sum()
    }
}

/// All parameters of a graph in PyTorch's order, those of an auxiliary head last.
pub(crate) fn describe(graph: &Graph) -> Vec<ParameterInfo> {
    graph.nodes().iter().flat_map(|node| of_node(graph, node)).collect()
}

/// For each node, the index of its first parameter in [`describe`]'s list.
pub(crate) fn offsets(graph: &Graph) -> Vec<usize> {
    let mut next = 0;
    let begin = |node| {
        let begin = next;
        next += of_node(graph, node).len();
        begin
    };
    graph.nodes().iter().map(begin).collect()
}

/// Initial running statistics of all batch norms: mean 0, variance 1.
pub(crate) fn statistics(graph: &Graph) -> Vec<RunningStatistics> {
    let norms = graph.nodes().iter().filter(|node| matches!(node.op, Op::BatchNorm { .. }));
    let fresh = |node: &Node| RunningStatistics {
        name: node.name.clone(),
        mean: vec![0.0; node.shape.channels],
        variance: vec![1.0; node.shape.channels],
    };
    norms.map(fresh).collect()
}
