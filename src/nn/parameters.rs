//! What a graph has to learn: its parameters and buffers by torchvision's names and shapes, how they start, and how
//! torchvision's layout and ours turn into each other. Knows nothing of how they are used or updated.
//!
//! Our layout of a convolution's weight is (kernel row, kernel column, input channel, output channel), of a linear
//! layer's (input, output), the input of a flattened map in H,W,C order: both are the right-hand side of the matrix
//! product that runs them, row by row.

use super::Backend;
use super::graph::{Graph, Node, Op, Shape};
use super::number::Number;
use super::ops::{Flat, Moments};
use crate::random::Stream;
use rayon::prelude::*;

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

/// Initial values of every parameter: see [`initial_of`].
pub(crate) fn initial(parameters: &[ParameterInfo], seed: u64) -> Vec<Vec<f32>> {
    (0..parameters.len()).into_par_iter().map(|index| initial_of(parameters, index, seed)).collect()
}

/// Initial values in our layout of one parameter of a list, from the stream of its name, so that networks which share a
/// layer's name and shape start alike. As torchvision's residual networks and AlexNet do: He's normal initialization by
/// fan-out for convolutions without a bias (which norms follow), torch's default uniform(-1/sqrt(fan in), 1/sqrt(fan in))
/// for layers with one, 1 and 0 for norms. Inception starts so too; torchvision's own start of it, a deviation of 0.1
/// whatever the fan, is one that it warns of.
pub(crate) fn initial_of(parameters: &[ParameterInfo], index: usize, seed: u64) -> Vec<f32> {
    let info = &parameters[index];
    let mut stream = Stream::new(seed, &format!("initial {}", info.name), &[]);
    let count: usize = info.shape.iter().product();
    let biased = parameters.get(index + 1).is_some_and(|next| next.role == Role::Bias);
    // A bias follows the weight whose inputs it shares.
    let weight = if info.role == Role::Bias { &parameters[index - 1] } else { info };
    let bound = 1.0 / (weight.shape[1..].iter().product::<usize>() as f64).sqrt();
    match info.role {
        Role::ConvWeight if !biased => {
            let deviation = (2.0 * info.shape[1] as f64 / count as f64).sqrt();
            (0..count).map(|_| (stream.normal() * deviation) as f32).collect()
        }
        Role::ConvWeight | Role::LinearWeight | Role::Bias => {
            (0..count).map(|_| stream.between(-bound, bound) as f32).collect()
        }
        Role::NormWeight => vec![1.0; count],
        Role::NormBias => vec![0.0; count],
    }
}

/// Output rows, inputs' channels and pixels of a weight: torch keeps (out, channel, pixel), we keep (pixel, channel, out).
fn axes(info: &ParameterInfo) -> Option<(usize, usize, usize)> {
    match info.role {
        Role::ConvWeight => Some((info.shape[0], info.shape[1], info.shape[2] * info.shape[3])),
        Role::LinearWeight => Some((info.shape[0], info.source.channels, info.source.pixels())),
        _ => None,
    }
}

/// Lines that are turned together: as many values as a cache line holds.
const TURNED: usize = 16;

/// Values in torch's layout, as ours.
pub(crate) fn from_torch<N: Number>(info: &ParameterInfo, values: &[N]) -> Vec<N> {
    let Some((outputs, channels, pixels)) = axes(info) else { return values.to_vec() };
    let mut ours = vec![N::ZERO; values.len()];
    // A line of ours is a (pixel, channel).
    ours.par_chunks_mut(TURNED * outputs).enumerate().for_each(|(block, lines)| {
        let first = block * TURNED;
        for output in 0..outputs {
            let source = &values[output * channels * pixels..][..channels * pixels];
            for (line, place) in lines.chunks_exact_mut(outputs).zip(first..) {
                line[output] = source[place % channels * pixels + place / channels];
            }
        }
    });
    ours
}

/// Values in our layout, as torch's.
pub(crate) fn to_torch<N: Number>(info: &ParameterInfo, values: &[N]) -> Vec<N> {
    let Some((outputs, channels, pixels)) = axes(info) else { return values.to_vec() };
    let mut torch = vec![N::ZERO; values.len()];
    // A line of torch's is an output.
    torch.par_chunks_mut(TURNED * channels * pixels).enumerate().for_each(|(block, lines)| {
        let first = block * TURNED;
        for (place, source) in values.chunks_exact(outputs).enumerate() {
            let target = place % channels * pixels + place / channels;
            for (line, output) in lines.chunks_exact_mut(channels * pixels).zip(first..) {
                line[target] = source[output];
            }
        }
    });
    torch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Head, backbone};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn layouts_turn_into_each_other(outputs in 1usize..5, channels in 1usize..5, h in 1usize..4, w in 1usize..4) {
            let info = ParameterInfo {
                name: "x".into(),
                shape: vec![outputs, channels, h, w],
                role: Role::ConvWeight,
                stage: "s".into(),
                depth: 0,
                source: Shape::new(9, 9, channels),
            };
            let torch: Vec<f32> = (0..outputs * channels * h * w).map(|v| v as f32).collect();
            let ours = from_torch(&info, &torch);
            prop_assert_eq!(&to_torch(&info, &ours), &torch);
            // (pixel 0, channel 0, output 1) is torch's (output 1, channel 0, pixel 0).
            if outputs > 1 {
                prop_assert_eq!(ours[1], torch[channels * h * w]);
            }
        }
    }

    #[test]
    fn convolutions_start_with_the_deviation_of_their_fan_out() {
        let graph = backbone("resnet18").unwrap().graph(&Head::Original, (64, 64)).unwrap();
        let list = describe(&graph);
        let place = list.iter().position(|info| info.name == "layer2.0.conv2.weight").unwrap();
        let draw = |seed| initial(&list, seed).swap_remove(place);
        let values = draw(7);
        let variance =
            values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
        assert!((variance / (2.0 / (128.0 * 9.0)) - 1.0).abs() < 0.02, "{variance}");
        assert_eq!(values, draw(7));
        assert_ne!(values, draw(8));
    }
}
