//! A network's structure as a graph: nodes in execution order, with torchvision's names and the
//! shape of their output, which is inferred and checked when a node is added. Doesn't depend on
//! parameters, devices or gradients.

use super::NnError;

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

/// Builds a [`Graph`] node by node. Names nest: [`within`](Builder::within) adds a prefix.
pub struct Builder {
    nodes: Vec<Node>,
    layer_groups: Vec<String>,
    prefix: String,
    features: Option<usize>,
    logits: Option<usize>,
}

/// The output of a node in a graph under construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(usize);

impl Builder {
    /// A graph for images of `height` x `width` pixels with `channels` channels, and its input.
    pub fn new(height: usize, width: usize, channels: usize) -> (Builder, Value) {
        let input = Node {
            name: "input".into(),
            group: 0,
            op: Op::Input,
            inputs: Vec::new(),
            shape: Shape::new(height, width, channels),
        };
        (
            Builder {
                nodes: vec![input],
                layer_groups: Vec::new(),
                prefix: String::new(),
                features: None,
                logits: None,
            },
            Value(0),
        )
    }

    /// Starts a layer group: the nodes added next belong to it.
    pub fn layer_group(&mut self, name: &str) {
        self.layer_groups.push(name.to_owned());
    }

    /// Runs `build` with the prefix `name.` for every node's name.
    pub fn within<T>(
        &mut self,
        name: &str,
        build: impl FnOnce(&mut Builder) -> Result<T, NnError>,
    ) -> Result<T, NnError> {
        let length = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('.');
        let result = build(self);
        self.prefix.truncate(length);
        result
    }

    pub fn shape(&self, value: Value) -> Shape {
        self.nodes[value.0].shape
    }

    /// Adds a node.
    ///
    /// # Errors
    /// When the op can't be applied to the shapes of its inputs; the message names the node and the shapes.
    pub fn add(&mut self, name: &str, op: Op, inputs: &[Value]) -> Result<Value, NnError> {
        let name = format!("{}{name}", self.prefix);
        let shapes: Vec<Shape> = inputs.iter().map(|&value| self.shape(value)).collect();
        let twice = op == Op::Add && inputs.first() == inputs.get(1);
        let shape =
            infer(op, &shapes).filter(|shape| !shape.is_empty() && !twice).ok_or_else(|| {
                let shapes: Vec<String> = shapes
                    .iter()
                    .map(|s| format!("{}x{}x{}", s.height, s.width, s.channels))
                    .collect();
                NnError::Graph(format!(
                    "{name}: {} doesn't fit {} (height x width x channels); larger images may help",
                    op.described(),
                    shapes.join(", ")
                ))
            })?;
        let group = self.layer_groups.len().saturating_sub(usize::from(self.logits.is_none()));
        self.nodes.push(Node {
            name,
            group,
            op,
            inputs: inputs.iter().map(|value| value.0).collect(),
            shape,
        });
        Ok(Value(self.nodes.len() - 1))
    }

    /// Adds a convolution without a bias.
    pub fn convolution(
        &mut self,
        name: &str,
        x: Value,
        channels: usize,
        window: Window,
    ) -> Result<Value, NnError> {
        self.add(name, Op::Convolution { channels, window, bias: false }, &[x])
    }

    /// Adds batch normalization with PyTorch's default epsilon, 1e-5.
    pub fn batch_norm(&mut self, name: &str, x: Value) -> Result<Value, NnError> {
        self.add(name, Op::BatchNorm { epsilon: 1e-5 }, &[x])
    }

    /// Adds a ReLU. It has no parameters, so its name needn't be unique.
    pub fn relu(&mut self, x: Value) -> Result<Value, NnError> {
        self.add("relu", Op::Relu, &[x])
    }

    /// Marks the features and starts the layer group `head`.
    pub fn features(&mut self, x: Value) {
        self.features = Some(x.0);
        self.layer_group("head");
    }

    /// Ends the main network, whose logits are the last node. The nodes added next are the
    /// auxiliary head, in the layer group [`AUXILIARY`]; it must end with as many logits.
    pub fn auxiliary(&mut self) {
        self.logits = Some(self.nodes.len() - 1);
    }

    /// Adds the head under torchvision's name of the classifier, such as `fc`. Hidden layers are
    /// numbered as in `nn.Sequential(Linear, ReLU, Dropout, Linear, …)`: `fc.0`, `fc.3`, ….
    ///
    /// # Errors
    /// When a size is 0 or dropout isn't in [0, 1).
    pub fn dense_head(
        &mut self,
        name: &str,
        features: Value,
        head: &Head,
    ) -> Result<Value, NnError> {
        let Head::Dense { hidden, dropout, classes } = head else {
            return self.add(name, Op::Linear { channels: 1000 }, &[features]);
        };
        if !(0.0..1.0).contains(dropout) {
            return Err(NnError::Graph(format!("dropout must be in [0, 1), not {dropout}")));
        }
        let mut x = features;
        if hidden.is_empty() {
            if *dropout > 0.0 {
                x = self.add("dropout", Op::Dropout { probability: *dropout }, &[x])?;
            }
            return self.add(name, Op::Linear { channels: *classes }, &[x]);
        }
        self.within(name, |builder| {
            for (layer, &channels) in hidden.iter().enumerate() {
                x = builder.add(&format!("{}", 3 * layer), Op::Linear { channels }, &[x])?;
                x = builder.add(&format!("{}", 3 * layer + 1), Op::Relu, &[x])?;
                if *dropout > 0.0 {
                    x = builder.add(
                        &format!("{}", 3 * layer + 2),
                        Op::Dropout { probability: *dropout },
                        &[x],
                    )?;
                }
            }
            builder.add(&format!("{}", 3 * hidden.len()), Op::Linear { channels: *classes }, &[x])
        })
    }

    /// Finishes the graph.
    ///
    /// # Errors
    /// When no features were marked, or the auxiliary head has another number of logits.
    pub fn finish(self) -> Result<Graph, NnError> {
        let features =
            self.features.ok_or_else(|| NnError::Graph("the graph marks no features".into()))?;
        let last = self.nodes.len() - 1;
        let logits = self.logits.unwrap_or(last);
        let (classes, others) = (self.nodes[logits].shape.len(), self.nodes[last].shape.len());
        if classes != others {
            return Err(NnError::Graph(format!(
                "{others} auxiliary logits beside the network's {classes}"
            )));
        }
        Ok(Graph { nodes: self.nodes, layer_groups: self.layer_groups, features, logits })
    }
}

/// The output shape of `op`, or `None` if it can't be applied to `inputs`.
fn infer(op: Op, inputs: &[Shape]) -> Option<Shape> {
    let windowed = |x: Shape, window: Window, channels: usize| {
        let (height, width) = window.over(x.height, x.width)?;
        Some(Shape::new(height, width, channels))
    };
    // A pooling window entirely within the padding would contain no value.
    let pooled = |x: Shape, window: Window| {
        let fits =
            2 * window.padding.0 <= window.kernel.0 && 2 * window.padding.1 <= window.kernel.1;
        windowed(x, window, x.channels).filter(|_| fits)
    };
    match (op, inputs) {
        (Op::Convolution { channels, window, .. }, &[x]) => windowed(x, window, channels),
        (Op::BatchNorm { .. } | Op::Relu | Op::Dropout { .. }, &[x]) => Some(x),
        (Op::MaxPool(window) | Op::AveragePool { window, .. }, &[x]) => pooled(x, window),
        (Op::AdaptivePool { height, width }, &[x]) => Some(Shape::new(height, width, x.channels)),
        (Op::Add, &[a, b]) => (a == b).then_some(a),
        (Op::Concatenate, [first, rest @ ..]) => {
            let fits = rest.iter().all(|x| (x.height, x.width) == (first.height, first.width));
            let channels = inputs.iter().map(|x| x.channels).sum();
            fits.then_some(Shape::new(first.height, first.width, channels))
        }
        (Op::Flatten, &[x]) => Some(Shape::vector(x.len())),
        (Op::Linear { channels }, &[x]) => (x.pixels() == 1).then_some(Shape::vector(channels)),
        // Another number of inputs. Listed, so that the compiler finds an op without a rule.
        (
            Op::Input
            | Op::Convolution { .. }
            | Op::BatchNorm { .. }
            | Op::Relu
            | Op::MaxPool(_)
            | Op::AveragePool { .. }
            | Op::AdaptivePool { .. }
            | Op::Add
            | Op::Concatenate
            | Op::Flatten
            | Op::Linear { .. }
            | Op::Dropout { .. },
            _,
        ) => None,
    }
}
