//! The parameters and buffers of a graph, under torchvision's names and shapes. Doesn't know how they are initialized, laid
//! out in memory, used or updated.

use super::Backend;
use super::graph::{Graph, Node, Op, Shape};
use super::number::Number;
use super::ops::{Flat, Moments};

/// What a parameter does, which decides how it is initialized and whether weight decay applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A convolution's kernel.
    ConvWeight,
    /// A linear layer's matrix.
    LinearWeight,
    /// A bias of a convolution or linear layer.
    Bias,
    /// A batch norm's scale.
    NormWeight,
    /// A batch norm's shift.
    NormBias,
}

/// What is known of a parameter beside its values.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterInfo {
    /// torchvision's name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// torchvision's shape: (out, in, height, width) of a convolution, (out, in) of a linear layer.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
    /// The stage of the graph it belongs to, `head` for what follows the features, [`AUXILIARY`](super::AUXILIARY) in an
    /// auxiliary head.
    pub stage: String,
    /// The stage's place: 0 is nearest to the images; an auxiliary head's is that of the head.
    pub depth: usize,
    /// The map that a flattened input came from, which decides the order of a linear layer's inputs.
    pub(crate) source: Shape,
}

/// A parameter on a device, in the network's precision.
pub struct Parameter<D: Backend<N>, N: Number = f32> {
    /// Name, shape, role.
    pub info: ParameterInfo,
    /// Its values, flat, in our layout.
    pub tensor: Flat<D, N>,
    /// Whether steps make a gradient for it.
    pub trainable: bool,
}

/// A batch norm's running statistics, by the name of its node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statistics {
    pub name: String,
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

impl Statistics {
    /// torchvision's names of mean and variance.
    pub fn names(&self) -> (String, String) {
        (format!("{}.running_mean", self.name), format!("{}.running_var", self.name))
    }

    /// Takes a batch's moments over `count` values in with torch's momentum of 0.1; what is kept is the unbiased variance.
    pub fn update(&mut self, moments: &Moments, count: usize) {
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

/// The parameters of one node, in torch's order.
fn of_node(graph: &Graph, node: &Node) -> Vec<ParameterInfo> {
    let info = |suffix: &str, shape: Vec<usize>, role: Role, source: Shape| ParameterInfo {
        name: format!("{}.{suffix}", node.name),
        shape,
        role,
        stage: graph.stage_of(node).to_owned(),
        depth: node.stage.min(graph.stages().len().saturating_sub(1)),
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
        _ => Vec::new(),
    }
}

/// The map that a linear layer's input was flattened from, looking through what leaves the order of values alone.
fn source_map(graph: &Graph, node: &Node) -> Shape {
    let mut source = &graph.nodes()[node.inputs[0]];
    while matches!(source.op, Op::Flatten | Op::Dropout { .. } | Op::Relu) {
        source = &graph.nodes()[source.inputs[0]];
    }
    source.shape
}

impl Graph {
    /// Number of trainable values (buffers not counted), as torchvision counts them. Includes the auxiliary head where the
    /// graph has one: torchvision publishes `inception_v3` with it, 27,161,264 for 1000 classes, of which 3,326,696 are the
    /// auxiliary head's.
    pub fn parameter_count(&self) -> u64 {
        let count = |info: &ParameterInfo| info.shape.iter().product::<usize>() as u64;
        describe(self).iter().map(count).sum()
    }
}

/// Every parameter of a graph, in torch's order but for those of an auxiliary head, which come last.
pub(crate) fn describe(graph: &Graph) -> Vec<ParameterInfo> {
    graph.nodes().iter().flat_map(|node| of_node(graph, node)).collect()
}

/// For each node, where its parameters begin in [`describe`]'s list.
pub(crate) fn offsets(graph: &Graph) -> Vec<usize> {
    let mut next = 0;
    let begin = |node| {
        let begin = next;
        next += of_node(graph, node).len();
        begin
    };
    graph.nodes().iter().map(begin).collect()
}

/// Every batch norm's running statistics as they start.
pub(crate) fn statistics(graph: &Graph) -> Vec<Statistics> {
    let norms = graph.nodes().iter().filter(|node| matches!(node.op, Op::BatchNorm { .. }));
    let fresh = |node: &Node| Statistics {
        name: node.name.clone(),
        mean: vec![0.0; node.shape.channels],
        variance: vec![1.0; node.shape.channels],
    };
    norms.map(fresh).collect()
}
