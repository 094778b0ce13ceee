//! What is known of a graph's values before anything is scheduled: which ones are another one's
//! elements under another shape, which depend on a trainable parameter, and which lie in a
//! concatenation's map.

use super::{Options, TrainingInput};
use crate::nn::graph::{Graph, Op, Shape};
use crate::nn::program::{Instruction, Program};
use std::ops::Range;

/// The instructions of a run and the facts about their values, which are identified by nodes.
pub(super) struct Values<'a> {
    pub graph: &'a Graph,
    pub batch: usize,
    /// The instructions in execution order; a ReLU that alone reads a convolution is its
    /// instruction's `relu`.
    pub steps: Vec<Instruction>,
    /// The value that the first instruction reads.
    pub source: usize,
    /// For each value, the one that its elements belong to: itself, or what a flattening or an
    /// inactive dropout reads.
    pub root: Vec<usize>,
    /// For each value, whether it depends on a trainable parameter.
    pub tracked: Vec<bool>,
    /// For each root, whether it is read as a vector, so that its rows must be contiguous.
    pub contiguous: Vec<bool>,
    /// For each root that is computed straight into the map of a concatenation: that value, and the
    /// index of its first channel there.
    pub home: Vec<Option<(usize, usize)>>,
    /// For each root, the number of instructions that read it, and one more for an output.
    pub uses: Vec<usize>,
}

impl<'a> Values<'a> {
    /// The values of a range of instructions, with `trains` for each node, whether one of its
    /// parameters is trainable.
    pub(super) fn new(
        graph: &'a Graph,
        program: &Program,
        range: Range<usize>,
        options: &Options,
        outputs: &[usize],
        trains: Option<&dyn Fn(usize) -> bool>,
    ) -> Values<'a> {
        let nodes = graph.nodes().len();
        let steps = fuse_relu(graph, program, range);
        let source = steps.first().and_then(|step| step.inputs.first()).copied().unwrap_or(0);
        let mut values = Values {
            graph,
            batch: options.batch,
            steps,
            source,
            root: (0..nodes).collect(),
            tracked: vec![false; nodes],
            contiguous: vec![false; nodes],
            home: vec![None; nodes],
            uses: vec![0; nodes],
        };
        if let Some(trains) = trains {
            values.track(trains);
        }
        values.find_roots(trains.is_some());
        outputs.iter().for_each(|&output| {
            let root = values.root[output];
            values.uses[root] += 1;
            values.contiguous[root] = true;
        });
        values.find_homes();
        values
    }

    fn track(&mut self, trains: &dyn Fn(usize) -> bool) {
        for step in &self.steps {
            let tracked = trains(step.node) || step.inputs.iter().any(|&input| self.tracked[input]);
            self.tracked[step.output] = tracked;
        }
    }

    fn find_roots(&mut self, training: bool) {
        for step in &self.steps {
            let Some(&input) = step.inputs.first() else { continue };
            if self.is_identity(step.node, training) {
                self.root[step.output] = self.root[input];
                let (from, to) =
                    (self.graph.nodes()[input].shape, self.graph.nodes()[step.node].shape);
                self.contiguous[self.root[input]] |= from != to;
            } else {
                step.inputs.iter().for_each(|&input| self.uses[self.root[input]] += 1);
            }
        }
    }

    /// Whether a node's output has its input's elements. Dropout is active in training where a
    /// trainable parameter is below it, and in the head always.
    fn is_identity(&self, node: usize, training: bool) -> bool {
        match self.graph.nodes()[node].op {
            Op::Input | Op::Flatten => true,
            Op::Dropout { probability } => {
                let active = self.tracked[node] || node > self.graph.features();
                probability == 0.0 || !(training && active)
            }
            _ => false,
        }
    }

    /// Whether a step does nothing, because its output has its input's elements.
    pub(super) fn skips(&self, step: &Instruction) -> bool {
        self.root[step.output] != step.output
    }

    /// Assigns to each concatenation the parts that can be written straight into its map.
    fn find_homes(&mut self) {
        for step in &self.steps {
            if self.graph.nodes()[step.node].op != Op::Concatenate {
                continue;
            }
            let mut first = 0;
            for &input in &step.inputs {
                let root = self.root[input];
                let free = self.home[root].is_none() && root != self.root[self.source];
                if free && !self.contiguous[root] {
                    self.home[root] = Some((step.output, first));
                }
                first += self.graph.nodes()[input].shape.channels;
            }
        }
    }

    pub(super) fn shape(&self, value: usize) -> Shape {
        self.graph.nodes()[value].shape
    }

    /// Rows of a value's map: pixels of all images.
    pub(super) fn rows(&self, value: usize) -> usize {
        self.batch * self.shape(value).pixels()
    }

    /// The range of a run's instructions.
    pub(super) fn range(program: &Program, from: TrainingInput) -> Range<usize> {
        match from {
            TrainingInput::Images => 0..program.instructions.len(),
            TrainingInput::Features => program.head..program.auxiliary,
        }
    }
}

/// The instructions of a range, where each ReLU that alone reads a convolution or a linear layer is
/// fused with it.
fn fuse_relu(graph: &Graph, program: &Program, range: Range<usize>) -> Vec<Instruction> {
    let nodes = graph.nodes();
    let uses = program.uses(0..program.instructions.len(), nodes.len());
    let mut steps: Vec<Instruction> = Vec::with_capacity(range.len());
    for instruction in &program.instructions[range] {
        let fuses = |before: &&mut Instruction| {
            let product =
                matches!(nodes[before.node].op, Op::Convolution { .. } | Op::Linear { .. });
            let value = before.output;
            product
                && !before.relu
                && instruction.inputs[..] == [value]
                && uses[value] == 1
                && value != graph.features()
                && value != graph.logits()
        };
        if nodes[instruction.node].op == Op::Relu
            && let Some(before) = steps.iter_mut().rev().find(fuses)
        {
            (before.relu, before.output) = (true, instruction.output);
            continue;
        }
        steps.push(instruction.clone());
    }
    steps
}
