//! The launches of the forward pass.

use super::launch::{Content, Element, Geometry, Launch, Store, Target, View, partial_chunks};
use super::planner::Planner;
use crate::nn::NnError;
use crate::nn::graph::{Op, Shape, Window};
use crate::nn::ops::{PoolKind, Pooling};
use crate::nn::program::Instruction;

impl Planner<'_> {
    /// Schedules all steps in order.
    pub(super) fn forward(&mut self) -> Result<(), NnError> {
        for step in self.values.steps.clone() {
            if !self.values.skips(&step) {
                self.forward_step(&step)?;
            }
        }
        Ok(())
    }

    fn forward_step(&mut self, step: &Instruction) -> Result<(), NnError> {
        let x = self.location(step.inputs[0]);
        match self.values.graph.nodes()[step.node].op {
            // Their output is their input's.
            Op::Input | Op::Flatten => {}
            Op::Convolution { .. } | Op::Linear { .. } => self.convolution(step, x),
            Op::BatchNorm { epsilon } => return self.norm(step, x, epsilon),
            Op::Relu => {
                let y = self.output_over(step, x);
                self.push(Launch::Relu { x, y });
            }
            Op::MaxPool(_) | Op::AveragePool { .. } | Op::AdaptivePool { .. } => {
                return self.pool(step, x);
            }
            Op::Add => {
                let (b, y) = (self.location(step.inputs[1]), self.location(step.output));
                self.push(Launch::Add { a: x, b, y });
            }
            Op::Concatenate => self.concatenate(step),
            Op::Dropout { probability } => {
                let y = Target { view: self.location(step.output), store: Store::Overwrite };
                self.push(Launch::Dropout { x, y, layer: step.node, probability });
            }
        }
        Ok(())
    }

    /// Where an elementwise step writes: over its input, if nothing else reads that and no gradient
    /// needs it.
    fn output_over(&mut self, step: &Instruction, x: View) -> View {
        let (input, values) = (self.values.root[step.inputs[0]], &self.values);
        let alone = values.uses[input] == 1 && input != values.root[values.source];
        if alone && !values.tracked[step.output] && values.home[step.output].is_none() {
            self.place_at(step.output, x);
        }
        self.location(step.output)
    }

    /// The geometry of a convolution or a linear layer.
    pub(super) fn geometry(&self, step: &Instruction) -> Geometry {
        let nodes = self.values.graph.nodes();
        let (input, output) = (nodes[step.inputs[0]].shape, nodes[step.node].shape);
        let batch = self.values.batch;
        match nodes[step.node].op {
            Op::Convolution { window, .. } => Geometry { batch, input, output, window },
            _ => {
                let (input, window) = (Shape::vector(input.len()), Window::square(1, 1, 0));
                Geometry { batch, input, output, window }
            }
        }
    }

    fn convolution(&mut self, step: &Instruction, x: View) {
        let (geometry, y) = (self.geometry(step), self.location(step.output));
        let weight = self.offsets[step.node];
        self.push(Launch::Convolution { geometry, x, weight, y });
        match self.parameter(step.node, 1) {
            Some(bias) => self.push(Launch::Bias { bias, relu: step.relu, y }),
            None if step.relu => self.push(Launch::Relu { x: y, y }),
            None => {}
        }
    }

    fn norm(&mut self, step: &Instruction, x: View, epsilon: f64) -> Result<(), NnError> {
        let node = step.node;
        let rows = x.rows;
        let nodes = self.values.graph.nodes();
        let is_norm = |op: Op| matches!(op, Op::BatchNorm { .. });
        let norm = nodes[..node].iter().filter(|node| is_norm(node.op)).count();
        let (weight, bias) = (self.offsets[node], self.offsets[node] + 1);
        let of_batch = self.of_batch(step);
        if of_batch && rows == 1 {
            return Err(NnError::SingleValue { norm: nodes[node].name.clone() });
        }
        let coefficients = self.allocate(Content::Kept(node), Element::F32, (4, x.channels));
        self.kept[node] = Some(coefficients);
        if of_batch {
            let partials = self.scratch(2 * partial_chunks(rows, x.channels), x.channels);
            self.push(Launch::NormStatistics { x, partials });
            self.push(Launch::NormFinish {
                partials,
                rows,
                norm,
                weight,
                bias,
                epsilon,
                coefficients,
            });
        } else {
            self.push(Launch::NormRunning { norm, weight, bias, epsilon, coefficients });
        }
        let residual = step.residual.then(|| self.location(step.inputs[1]));
        let y = self.output_over(step, x);
        self.push(Launch::NormApply { x, coefficients, residual, relu: step.relu, y });
        Ok(())
    }

    /// Whether a norm uses the batch's statistics.
    pub(super) fn of_batch(&self, step: &Instruction) -> bool {
        self.batch_statistics && self.values.tracked[step.output]
    }

    /// The shapes and the kind of a pooling step.
    pub(super) fn pooling(&self, step: &Instruction) -> Pooling {
        let nodes = self.values.graph.nodes();
        let (input, output) = (nodes[step.inputs[0]].shape, nodes[step.node].shape);
        let kind = match nodes[step.node].op {
            Op::MaxPool(window) => PoolKind::Maximum(window),
            Op::AveragePool { window, count_padding } => PoolKind::Mean { window, count_padding },
            _ => PoolKind::Bins,
        };
        Pooling { batch: self.values.batch, input, output, kind }
    }

    fn pool(&mut self, step: &Instruction, x: View) -> Result<(), NnError> {
        let (pooling, y) = (self.pooling(step), self.location(step.output));
        let mut indices = None;
        if let PoolKind::Maximum(Window { kernel, .. }) = pooling.kind
            && self.values.tracked[step.output]
        {
            // 255 stands for no pixel.
            if kernel.0 * kernel.1 > 255 {
                return Err(NnError::Graph(format!(
                    "{}: on a GPU, max pooling trains with windows of at most 255 pixels, not \
                     {} x {}; use smaller windows or train on the CPU",
                    self.values.graph.nodes()[step.node].name,
                    kernel.0,
                    kernel.1
                )));
            }
            let (rows, channels) = (y.rows, y.channels);
            let view = self.allocate(Content::Kept(step.node), Element::U8, (rows, channels));
            self.kept[step.node] = Some(view);
            indices = Some(view);
        }
        self.push(Launch::Pool { pooling, x, y, indices });
        Ok(())
    }

    /// Copies the parts that aren't computed straight into the joint map.
    fn concatenate(&mut self, step: &Instruction) {
        let joint = self.location(step.output);
        let mut first = 0;
        for &input in &step.inputs {
            let x = self.location(input);
            if self.values.home[self.values.root[input]] != Some((step.output, first)) {
                self.push(Launch::Copy { x, y: joint.columns(first, x.channels) });
            }
            first += x.channels;
        }
    }
}
