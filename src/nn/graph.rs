//! A network's structure as a graph: nodes in execution order, with torchvision's names and the
//! shape of their output, which is inferred and checked when a node is added. Doesn't depend on
//! parameters, devices or gradients.

mod builder;

pub use builder::{Builder, Value};

/// The layer group of an auxiliary head, torchvision's name of the branch. It isn't among
/// [`Graph::layer_groups`], so `freeze` can't name it: an auxiliary head is a second head.
pub const AUXILIARY: &str = "AuxLogits";

/// The shape of one image's activation: a map of `height` x `width` pixels with `channels` values
/// each, stored in that order (HWC). A vector is a map of one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub height: usize,
    pub width: usize,
    /// Values per pixel.
    pub channels: usize,
}

impl Shape {
    pub fn new(height: usize, width: usize, channels: usize) -> Shape {
        Shape { height, width, channels }
    }

    /// A vector of this length.
    pub fn vector(channels: usize) -> Shape {
        Shape::new(1, 1, channels)
    }

    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.pixels() * self.channels
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A sliding window: kernel, stride and zero padding, each as (vertical, horizontal), in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    /// Padding on each side.
    pub padding: (usize, usize),
}

impl Window {
    /// A square window.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Window {
        Window { kernel: (kernel, kernel), stride: (stride, stride), padding: (padding, padding) }
    }

    /// Height and width of the output for an input of `height` x `width` (rounded down, as PyTorch
    /// does), or `None` if the kernel doesn't fit.
    pub fn over(&self, height: usize, width: usize) -> Option<(usize, usize)> {
        let along = |size: usize, kernel: usize, stride: usize, padding: usize| {
            let room = (size + 2 * padding).checked_sub(kernel)?;
            (stride > 0 && kernel > 0).then(|| room / stride + 1)
        };
        Some((
            along(height, self.kernel.0, self.stride.0, self.padding.0)?,
            along(width, self.kernel.1, self.stride.1, self.padding.1)?,
        ))
    }
}

/// The operation of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// The images, (height, width, channels).
    Input,
    /// 2-D convolution; parameters `weight` (and `bias`).
    Convolution {
        /// Output channels.
        channels: usize,
        /// Kernel, stride, padding.
        window: Window,
        /// Whether a bias is added.
        bias: bool,
    },
    /// Batch normalization over N, H, W; parameters `weight`, `bias`, buffers `running_mean`,
    /// `running_var`.
    BatchNorm {
        /// Added to the variance.
        epsilon: f64,
    },
    /// max(x, 0).
    Relu,
    /// Maximum over each window, padding excluded.
    MaxPool(Window),
    /// Mean over each window.
    AveragePool {
        /// Kernel, stride, padding.
        window: Window,
        /// Whether padding counts as zeros (`count_include_pad` in PyTorch).
        count_padding: bool,
    },
    /// Means over a grid of `height` x `width` nearly equal bins (`adaptive_avg_pool2d`); 1 x 1 is
    /// the global mean.
    AdaptivePool {
        /// Bins vertically.
        height: usize,
        /// Bins horizontally.
        width: usize,
    },
    /// Sum of two maps of equal shape.
    Add,
    /// Concatenates the channels of maps of equal size.
    Concatenate,
    /// A map as a vector, without moving values (HWC): the weights of a linear layer that reads it
    /// are permuted from PyTorch's C,H,W order when they are loaded.
    Flatten,
    /// A fully connected layer; parameters `weight`, `bias`.
    Linear {
        /// Number of outputs.
        channels: usize,
    },
    /// In training, zeroes values with probability p and scales the others by 1 / (1 - p).
    Dropout {
        /// Probability in [0, 1).
        probability: f32,
    },
}

impl Op {
    /// For error messages: "a window of 3 x 3 pixels".
    fn described(&self) -> String {
        match self {
            Op::Convolution { window, .. }
            | Op::MaxPool(window)
            | Op::AveragePool { window, .. } => {
                format!("a window of {} x {} pixels", window.kernel.0, window.kernel.1)
            }
            Op::AdaptivePool { height, width } => format!("a grid of {height} x {width} bins"),
            Op::Add => "a sum of two values of one shape".to_owned(),
            Op::Concatenate => "joining maps of one size".to_owned(),
            Op::BatchNorm { .. } => "a norm".to_owned(),
            Op::Linear { .. } => "a linear layer, which reads a vector,".to_owned(),
            Op::Input | Op::Relu | Op::Flatten | Op::Dropout { .. } => "the next step".to_owned(),
        }
    }
}

/// One node of a [`Graph`].
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// torchvision's name of the module (`layer1.0.conv1`), the prefix of its parameters' names.
    pub name: String,
    /// Index into [`Graph::layer_groups`], or its length for nodes of the auxiliary head.
    pub group: usize,
    pub op: Op,
    /// Indices of the nodes it reads, all smaller than its own.
    pub inputs: Vec<usize>,
    /// Shape of its output for one image.
    pub shape: Shape,
}

/// The layers after the backbone's features.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// The published classifier with ImageNet's 1000 classes.
    Original,
    /// Dense layers of `hidden` sizes, each followed by ReLU and dropout, then a linear layer to
    /// `classes` logits.
    Dense {
        /// Sizes of the hidden layers; empty for a linear classifier.
        hidden: Vec<usize>,
        /// Dropout probability in [0, 1): after each hidden layer, or before a linear classifier.
        dropout: f32,
        classes: usize,
    },
}

impl Head {
    pub fn classes(&self) -> usize {
        match self {
            Head::Original => 1000,
            Head::Dense { classes, .. } => *classes,
        }
    }
}

/// The structure of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    layer_groups: Vec<String>,
    features: usize,
    logits: usize,
}

impl Graph {
    /// The nodes in execution order: the main network up to [`logits`](Self::logits), then the
    /// auxiliary head.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The shape of an input image.
    pub fn input(&self) -> Shape {
        self.nodes[0].shape
    }

    /// Index of the node that outputs the features; the nodes after it are the head.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Index of the node that outputs the logits.
    pub fn logits(&self) -> usize {
        self.logits
    }

    /// Index of the node that outputs the auxiliary head's logits (the last node), if there is such
    /// a head.
    pub fn auxiliary(&self) -> Option<usize> {
        (self.logits + 1 < self.nodes.len()).then(|| self.nodes.len() - 1)
    }

    /// The nodes of the main network, without the auxiliary head: all that evaluation runs.
    pub fn main_nodes(&self) -> &[Node] {
        &self.nodes[..=self.logits]
    }

    /// Number of features per image.
    pub fn feature_count(&self) -> usize {
        self.nodes[self.features].shape.len()
    }

    /// Number of logits per image.
    pub fn classes(&self) -> usize {
        self.nodes[self.logits].shape.len()
    }

    /// Names of the layer groups from input to output, the last one `head`. `freeze` takes these
    /// names.
    pub fn layer_groups(&self) -> &[String] {
        &self.layer_groups
    }

    /// The name of a node's layer group.
    pub fn group_of(&self, node: &Node) -> &str {
        self.layer_groups.get(node.group).map_or(AUXILIARY, String::as_str)
    }

    /// The same graph without dropout, so that a training step is deterministic.
    pub fn without_dropout(mut self) -> Graph {
        for node in &mut self.nodes {
            if let Op::Dropout { probability } = &mut node.op {
                *probability = 0.0;
            }
        }
        self
    }

    /// Multiply-adds of convolutions and linear layers per image in evaluation, without the
    /// auxiliary head.
    pub fn multiply_adds(&self) -> u64 {
        self.main_nodes().iter().map(|node| self.node_multiply_adds(node)).sum()
    }

    fn node_multiply_adds(&self, node: &Node) -> u64 {
        let inputs = |index: usize| self.nodes[node.inputs[index]].shape;
        let count = match node.op {
            Op::Convolution { window: Window { kernel, .. }, .. } => {
                node.shape.len() * kernel.0 * kernel.1 * inputs(0).channels
            }
            Op::Linear { channels } => channels * inputs(0).len(),
            Op::Input
            | Op::BatchNorm { .. }
            | Op::Relu
            | Op::MaxPool(_)
            | Op::AveragePool { .. }
            | Op::AdaptivePool { .. }
            | Op::Add
            | Op::Concatenate
            | Op::Flatten
            | Op::Dropout { .. } => 0,
        };
        count as u64
    }
}
