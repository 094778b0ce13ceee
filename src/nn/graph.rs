//! A network as a graph: nodes in the order in which they run, named as torchvision names their parameters, each with
//! the shape of what it makes, inferred and checked once when the node is added. Knows no numbers: parameters, devices
//! and gradients are the interpreter's; what the graph says of itself (parameters, multiply-adds, stages) is read off it.

use super::NnError;

/// The stage of an auxiliary head's nodes, torchvision's name of the branch. It isn't among [`Graph::stages`], so that
/// `freeze` can't name it: where there is one, it is a second head.
pub const AUXILIARY: &str = "AuxLogits";

/// The shape of one image's activation: a map of `height` x `width` pixels with `channels` each, stored in that
/// order (HWC). A vector is a map of one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values a pixel.
    pub channels: usize,
}

impl Shape {
    /// A map.
    pub fn new(height: usize, width: usize, channels: usize) -> Shape {
        Shape { height, width, channels }
    }

    /// A vector.
    pub fn vector(channels: usize) -> Shape {
        Shape::new(1, 1, channels)
    }

    /// Pixels of the map.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Values of one image.
    pub fn len(&self) -> usize {
        self.pixels() * self.channels
    }

    /// True for a shape without values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A window that slides over a map: kernel, stride and zero padding, each as (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Size of the kernel.
    pub kernel: (usize, usize),
    /// Step between two positions.
    pub stride: (usize, usize),
    /// Rows and columns of padding on each side.
    pub padding: (usize, usize),
}

impl Window {
    /// A square window.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Window {
        Window { kernel: (kernel, kernel), stride: (stride, stride), padding: (padding, padding) }
    }

    /// Height and width of what sliding over `height` x `width` gives (rounded down, as torch does), or `None` where
    /// the kernel doesn't fit.
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

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// The images.
    Input,
    /// 2-D convolution; parameters `weight` (and `bias`).
    Convolution {
        /// Channels it makes.
        channels: usize,
        /// Kernel, stride, padding.
        window: Window,
        /// Whether it adds a bias.
        bias: bool,
    },
    /// Batch normalization over N, H, W; parameters `weight`, `bias`, buffers `running_mean`, `running_var`.
    BatchNorm {
        /// Added to the variance.
        epsilon: f64,
    },
    /// max(x, 0).
    Relu,
    /// The largest value in each window; padding never wins.
    MaxPool(Window),
    /// The mean of each window.
    AveragePool {
        /// Kernel, stride, padding.
        window: Window,
        /// Whether zeros of the padding count as values.
        count_padding: bool,
    },
    /// Means over a grid of `height` x `width` nearly equal bins; 1 x 1 is the global mean.
    AdaptivePool {
        /// Bins vertically.
        height: usize,
        /// Bins horizontally.
        width: usize,
    },
    /// The sum of two maps of one shape.
    Add,
    /// Maps of one size, channels one after the other.
    Concatenate,
    /// A map as a vector. Memory stays as it is (HWC); weights of a linear layer that reads it are permuted from
    /// torch's C,H,W order when they are loaded.
    Flatten,
    /// A fully connected layer; parameters `weight`, `bias`.
    Linear {
        /// Values it makes.
        channels: usize,
    },
    /// Zeroes values with this probability while training and scales the others by 1 / (1 - p).
    Dropout {
        /// Probability in [0, 1).
        probability: f32,
    },
}

impl Op {
    /// In words: "a window of 3 x 3 pixels".
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

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// torchvision's name of the module (`layer1.0.conv1`), under which its parameters are found.
    pub name: String,
    /// Index into [`Graph::stages`], one past its end in the auxiliary head.
    pub stage: usize,
    /// What it does.
    pub op: Op,
    /// The nodes it reads, all earlier ones.
    pub inputs: Vec<usize>,
    /// What it makes for one image.
    pub shape: Shape,
}

/// What follows the backbone's features.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// The published classifier, 1000 classes of ImageNet.
    Original,
    /// Dense layers of `hidden` sizes with ReLU and dropout after each, then one to `classes`.
    Dense {
        /// Sizes of the hidden layers; empty for a linear classifier.
        hidden: Vec<usize>,
        /// Dropout probability, after each hidden layer, or before the classifier where there is none.
        dropout: f32,
        /// Number of classes.
        classes: usize,
    },
}

impl Head {
    /// Number of logits.
    pub fn classes(&self) -> usize {
        match self {
            Head::Original => 1000,
            Head::Dense { classes, .. } => *classes,
        }
    }
}

/// A network's structure.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    stages: Vec<String>,
    features: usize,
    logits: usize,
}

impl Graph {
    /// The nodes, in the order in which they run: those up to [`logits`](Self::logits) are the network proper, those after
    /// it the auxiliary head.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The shape of one image.
    pub fn input(&self) -> Shape {
        self.nodes[0].shape
    }

    /// The node whose values are the features, all that follows being the head.
    pub fn features(&self) -> usize {
        self.features
    }

    /// The node that makes the logits.
    pub fn logits(&self) -> usize {
        self.logits
    }

    /// The node that makes the auxiliary head's logits, the last one, where there is such a head.
    pub fn auxiliary(&self) -> Option<usize> {
        (self.logits + 1 < self.nodes.len()).then(|| self.nodes.len() - 1)
    }

    /// The network proper: what evaluation runs, without the auxiliary head.
    pub fn proper(&self) -> &[Node] {
        &self.nodes[..=self.logits]
    }

    /// Features a image.
    pub fn feature_count(&self) -> usize {
        self.nodes[self.features].shape.len()
    }

    /// Logits a image.
    pub fn classes(&self) -> usize {
        self.nodes[self.logits].shape.len()
    }

    /// Names of the stages from the images to the logits, the last one being `head`: what `freeze` can name.
    pub fn stages(&self) -> &[String] {
        &self.stages
    }

    /// The name of the stage that a node belongs to.
    pub fn stage_of(&self, node: &Node) -> &str {
        self.stages.get(node.stage).map_or(AUXILIARY, String::as_str)
    }

    /// The same without dropout, so that a training step computes what the graph computes, nothing drawn.
    pub fn without_dropout(mut self) -> Graph {
        for node in &mut self.nodes {
            if let Op::Dropout { probability } = &mut node.op {
                *probability = 0.0;
            }
        }
        self
    }

    /// Multiply-adds of convolutions and linear layers for one image in evaluation, where the auxiliary head doesn't run.
    pub fn multiply_adds(&self) -> u64 {
        self.proper().iter().map(|node| self.node_multiply_adds(node)).sum()
    }

    fn node_multiply_adds(&self, node: &Node) -> u64 {
        let inputs = |index: usize| self.nodes[node.inputs[index]].shape;
        let count = match node.op {
            Op::Convolution { window: Window { kernel, .. }, .. } => {
                node.shape.len() * kernel.0 * kernel.1 * inputs(0).channels
            }
            Op::Linear { channels } => channels * inputs(0).len(),
            _ => 0,
        };
        count as u64
    }
}

/// Builds a [`Graph`] node by node. Names nest: [`within`](Builder::within) puts a prefix before what is added inside.
pub struct Builder {
    nodes: Vec<Node>,
    stages: Vec<String>,
    prefix: String,
    features: Option<usize>,
    logits: Option<usize>,
}

/// A node's place in a graph that is being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(usize);

impl Builder {
    /// A graph whose images are `height` x `width` with `channels` each.
    pub fn new(height: usize, width: usize, channels: usize) -> (Builder, Value) {
        let input = Node {
            name: "input".into(),
            stage: 0,
            op: Op::Input,
            inputs: Vec::new(),
            shape: Shape::new(height, width, channels),
        };
        (
            Builder {
                nodes: vec![input],
                stages: Vec::new(),
                prefix: String::new(),
                features: None,
                logits: None,
            },
            Value(0),
        )
    }

    /// Opens the stage to which the nodes that follow belong.
    pub fn stage(&mut self, name: &str) {
        self.stages.push(name.to_owned());
    }

    /// Runs `build` with `name.` before every name.
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

    /// The shape of a value.
    pub fn shape(&self, value: Value) -> Shape {
        self.nodes[value.0].shape
    }

    /// Adds a node.
    ///
    /// # Errors
    /// When the shapes of its inputs don't fit the op; the message names the node and the shapes.
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
        let stage = self.stages.len().saturating_sub(usize::from(self.logits.is_none()));
        self.nodes.push(Node {
            name,
            stage,
            op,
            inputs: inputs.iter().map(|value| value.0).collect(),
            shape,
        });
        Ok(Value(self.nodes.len() - 1))
    }

    /// Convolution without a bias.
    pub fn convolution(
        &mut self,
        name: &str,
        x: Value,
        channels: usize,
        window: Window,
    ) -> Result<Value, NnError> {
        self.add(name, Op::Convolution { channels, window, bias: false }, &[x])
    }

    /// Batch normalization with torch's default epsilon.
    pub fn batch_norm(&mut self, name: &str, x: Value) -> Result<Value, NnError> {
        self.add(name, Op::BatchNorm { epsilon: 1e-5 }, &[x])
    }

    /// ReLU; it has no parameters, so its name is only for reading.
    pub fn relu(&mut self, x: Value) -> Result<Value, NnError> {
        self.add("relu", Op::Relu, &[x])
    }

    /// Marks the features and opens the stage `head`.
    pub fn features(&mut self, x: Value) {
        self.features = Some(x.0);
        self.stage("head");
    }

    /// Ends the network proper, whose logits were made last: what follows is an auxiliary head, of the stage
    /// [`AUXILIARY`], which ends with logits of as many classes.
    pub fn auxiliary(&mut self) {
        self.logits = Some(self.nodes.len() - 1);
    }

    /// Adds the head under torchvision's name of the classifier, `fc`. With hidden layers the numbering is that of
    /// `nn.Sequential(Linear, ReLU, Dropout, Linear, …)`: `fc.0`, `fc.3`, ….
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

    /// The finished graph.
    ///
    /// # Errors
    /// When no features were marked, or an auxiliary head's logits aren't as many as the network's.
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
        Ok(Graph { nodes: self.nodes, stages: self.stages, features, logits })
    }
}

/// The shape that `op` makes of `inputs`, or `None` where it can't be applied to them.
fn infer(op: Op, inputs: &[Shape]) -> Option<Shape> {
    let windowed = |x: Shape, window: Window, channels: usize| {
        let (height, width) = window.over(x.height, x.width)?;
        Some(Shape::new(height, width, channels))
    };
    // A pooling window that lies in the padding alone would have no value to take.
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
        _ => None,
    }
}
