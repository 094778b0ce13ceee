//! Builds a graph node by node: names, layer groups, and the shape of each output.

use super::{Graph, Head, Node, Op, Shape, Window};
use crate::nn::NnError;

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
    /// auxiliary head, in the layer group [`AUXILIARY`](super::AUXILIARY); it must end with as many
    /// logits.
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
