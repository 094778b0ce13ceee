//! Makes the fused ops of a compiled network from a program: folds norms, and assigns buffers.

use super::product::Product;
use super::{Computation, Epilogue, FusedOp, Slot};
use crate::nn::Window;
use crate::nn::graph::{Graph, Op};
use crate::nn::ops::{Geometry, PoolKind, Pooling, Products, folded};
use crate::nn::parameters::RunningStatistics;
use crate::nn::program::{Instruction, Program};
use std::borrow::Cow;
use std::ops::Range;

/// The input of compilation.
pub(super) struct Compiler<'a> {
    graph: &'a Graph,
    program: &'a Program,
    offsets: &'a [usize],
    /// The values of the parameter at an index, in our layout.
    parameters: &'a dyn Fn(usize) -> Cow<'a, [f32]>,
    statistics: &'a [RunningStatistics],
    range: Range<usize>,
    /// Images processed together.
    pub(super) group: usize,
}

/// Number of images processed together in linear layers that only vectors follow: enough that
/// their weights are read once for many images.
pub(super) const VECTORS: usize = 64;

/// Number of images processed together: enough for blocks of about a hundred rows on the smallest
/// maps, and few enough that the largest maps fit in a cache.
fn group_size(graph: &Graph) -> usize {
    let products =
        graph.main_nodes().iter().filter(|node| matches!(node.op, Op::Convolution { .. }));
    let smallest = products.map(|node| node.shape.pixels()).min().unwrap_or(1);
    let largest = graph.main_nodes().iter().map(|node| node.shape.len()).max().unwrap_or(1);
    128usize.div_ceil(smallest).clamp(1, 32).min((4 << 20) / largest).max(1)
}

impl<'a> Compiler<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        program: &'a Program,
        offsets: &'a [usize],
        parameters: &'a dyn Fn(usize) -> Cow<'a, [f32]>,
        statistics: &'a [RunningStatistics],
        range: Range<usize>,
    ) -> Compiler<'a> {
        let group = group_size(graph);
        Compiler { graph, program, offsets, parameters, statistics, range, group }
    }

    pub(super) fn ops(&self) -> Vec<FusedOp> {
        let instructions = &self.program.instructions[self.range.clone()];
        let mut uses = self.program.uses(self.range.clone(), self.graph.nodes().len());
        uses[self.graph.features()] += 1;
        let mut ops: Vec<FusedOp> = Vec::new();
        // Convolutions that only a norm reads, to be folded into it.
        let mut waiting: Vec<usize> = Vec::new();
        for (index, instruction) in instructions.iter().enumerate() {
            let follower =
                instructions.iter().find(|other| other.inputs.first() == Some(&instruction.output));
            let op = |instruction: &Instruction| self.graph.nodes()[instruction.node].op;
            let folds = matches!(op(instruction), Op::Convolution { .. })
                && uses[instruction.output] == 1
                && follower.is_some_and(|follower| matches!(op(follower), Op::BatchNorm { .. }));
            if folds {
                waiting.push(index);
                continue;
            }
            let convolution = waiting
                .iter()
                .position(|&waiting| instructions[waiting].output == instruction.inputs[0]);
            let convolution = convolution.map(|position| &instructions[waiting.remove(position)]);
            let (computation, mut inputs) =
                (self.computation(instruction, convolution), instruction.inputs.clone());
            if let Some(convolution) = convolution {
                inputs[0] = convolution.inputs[0];
            }
            let node = convolution.unwrap_or(instruction).node;
            ops.push(FusedOp { node, computation, inputs, output: instruction.output });
        }
        ops
    }

    fn parameter(&self, node: usize, index: usize) -> Cow<'_, [f32]> {
        (self.parameters)(self.offsets[node] + index)
    }

    /// Weight and bias of a convolution or linear layer.
    fn affine(&self, instruction: &Instruction) -> (Vec<f32>, Vec<f32>) {
        let node = &self.graph.nodes()[instruction.node];
        let bias = if matches!(node.op, Op::Convolution { bias: false, .. }) {
            vec![0.0; node.shape.channels]
        } else {
            self.parameter(instruction.node, 1).into_owned()
        };
        (self.parameter(instruction.node, 0).into_owned(), bias)
    }

    fn computation(
        &self,
        instruction: &Instruction,
        convolution: Option<&Instruction>,
    ) -> Computation {
        let nodes = self.graph.nodes();
        let node = &nodes[instruction.node];
        let (input, output) = (nodes[instruction.inputs[0]].shape, node.shape);
        let pool = |kind| Computation::Pool(Pooling { batch: 1, input, output, kind });
        match node.op {
            Op::Convolution { .. } | Op::Linear { .. } => {
                let (weight, shift) = self.affine(instruction);
                let epilogue = Epilogue { shift, residual: false, relu: instruction.relu };
                self.product(instruction, weight, epilogue)
            }
            Op::BatchNorm { epsilon } => {
                let before = nodes[..instruction.node]
                    .iter()
                    .filter(|node| matches!(node.op, Op::BatchNorm { .. }))
                    .count();
                let RunningStatistics { mean, variance, .. } = &self.statistics[before];
                let affine =
                    (self.parameter(instruction.node, 0), self.parameter(instruction.node, 1));
                let (scale, mut shift) = folded(&affine.0, &affine.1, mean, variance, epsilon);
                let Some(convolution) = convolution else {
                    return Computation::Scale {
                        scale,
                        epilogue: Epilogue {
                            shift,
                            residual: instruction.residual,
                            relu: instruction.relu,
                        },
                    };
                };
                let (mut weight, bias) = self.affine(convolution);
                for row in weight.chunks_exact_mut(scale.len()) {
                    row.iter_mut().zip(&scale).for_each(|(weight, scale)| *weight *= scale);
                }
                for ((shift, bias), scale) in shift.iter_mut().zip(&bias).zip(&scale) {
                    *shift += bias * scale;
                }
                let epilogue =
                    Epilogue { shift, residual: instruction.residual, relu: instruction.relu };
                self.product(convolution, weight, epilogue)
            }
            Op::Relu => {
                let epilogue =
                    Epilogue { shift: vec![0.0; output.channels], residual: false, relu: true };
                Computation::Scale { scale: vec![1.0; output.channels], epilogue }
            }
            Op::MaxPool(window) => pool(PoolKind::Maximum(window)),
            Op::AveragePool { window, count_padding } => {
                pool(PoolKind::Mean { window, count_padding })
            }
            Op::AdaptivePool { .. } => pool(PoolKind::Bins),
            Op::Add => Computation::Add,
            Op::Concatenate => Computation::Concatenate(
                instruction.inputs.iter().map(|&input| nodes[input].shape.channels).collect(),
            ),
            Op::Input | Op::Flatten | Op::Dropout { .. } => Computation::Copy,
        }
    }

    /// The product for a convolution, or for a linear layer as a convolution of one-pixel maps.
    fn product(
        &self,
        instruction: &Instruction,
        weight: Vec<f32>,
        epilogue: Epilogue,
    ) -> Computation {
        let nodes = self.graph.nodes();
        let (input, output) = (nodes[instruction.inputs[0]].shape, nodes[instruction.node].shape);
        let window = match nodes[instruction.node].op {
            Op::Convolution { window, .. } => window,
            _ => Window::square(1, 1, 0),
        };
        let patches =
            Geometry { batch: 1, input, output, window, products: Products::Own }.patches();
        Computation::Product(Product::new(patches, weight, epilogue, self.group))
    }

    /// Where to split ops so that the first linear layer and all behind it form a part of their
    /// own: that layer's index, if they are on vectors alone and read no other value from before.
    pub(super) fn vectors(&self, ops: &[FusedOp]) -> Option<usize> {
        let nodes = self.graph.nodes();
        let is_linear = |op: &FusedOp| matches!(nodes[op.node].op, Op::Linear { .. });
        let first = ops.iter().position(is_linear)?;
        let source = ops[first].inputs[0];
        let mut known = vec![source];
        for op in &ops[first..] {
            if nodes[op.output].shape.pixels() > 1 || !op.inputs.iter().all(|i| known.contains(i)) {
                return None;
            }
            known.push(op.output);
        }
        Some(first)
    }

    /// Assigns a buffer to each value; buffers are reused after a value's last read.
    pub(super) fn slots(&self, ops: &[FusedOp]) -> (Vec<Slot>, Vec<usize>) {
        let nodes = self.graph.nodes();
        let mut left = vec![0usize; nodes.len()];
        ops.iter().flat_map(|op| &op.inputs).for_each(|&input| left[input] += 1);
        // A run may start or end with the features, so they keep their buffer.
        left[self.graph.features()] += 1;
        let mut slots: Vec<Slot> =
            nodes.iter().map(|node| Slot { buffer: usize::MAX, size: node.shape.len() }).collect();
        let (mut buffers, mut free) = (Vec::<usize>::new(), Vec::<usize>::new());
        for op in ops {
            let size = slots[op.output].size;
            // The smallest free buffer that is large enough, else the largest, instruction larger.
            free.sort_by_key(|&buffer| {
                if buffers[buffer] >= size {
                    (0, buffers[buffer])
                } else {
                    (1, usize::MAX - buffers[buffer])
                }
            });
            let buffer = if free.is_empty() { buffers.len() } else { free.remove(0) };
            if buffer == buffers.len() {
                buffers.push(0);
            }
            buffers[buffer] = buffers[buffer].max(size);
            slots[op.output].buffer = buffer;
            for &input in &op.inputs {
                left[input] -= 1;
                if left[input] == 0 && slots[input].buffer != usize::MAX {
                    free.push(slots[input].buffer);
                }
            }
        }
        (slots, buffers)
    }
}
