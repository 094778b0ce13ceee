//! Runs a program instruction by instruction, on the tape where a trainable parameter is involved.
//! Decides which gradients are computed and frees values after their last use.

use super::NnError;
use super::graph::{Graph, Op};
use super::number::Number;
use super::ops::{
    self, BatchStatistics, DropoutPosition, FlatTensor, Geometry, Gradient, MaybeTape,
    NormStatistics, Normalization, PoolKind, Pooling, Products,
};
use super::parameters::{Parameter, RunningStatistics};
use super::program::{Instruction, Program};
use super::step::{BatchNorm, StepOptions};
use dfdx::tensor::CpuError;
use std::ops::Range;

/// The mode of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pass {
    /// Running statistics, no dropout, no tape.
    Evaluation,
    /// With a tape and the given options.
    Training(StepOptions),
    /// As in evaluation, with a tape for the gradient by the run's input; parameters get none.
    InputGradient,
}

/// One run of a program. Values and shapes are per batch; parameters are in our layout.
pub(crate) struct Interpreter<'a, N: Number> {
    graph: &'a Graph,
    program: &'a Program,
    offsets: &'a [usize],
    parameters: &'a [Parameter<N>],
    statistics: &'a [RunningStatistics],
    batch: usize,
    products: Products,
    pass: Pass,
    /// For each value, whether the tape records it: it depends on a trainable parameter, or on the
    /// input of a pass for its gradient.
    tracked: Vec<bool>,
    pub tape: MaybeTape<N>,
    /// Statistics of batch norms that normalized with the batch's: index of the norm, statistics,
    /// values per channel.
    pub batch_statistics: Vec<(usize, BatchStatistics, usize)>,
}

impl<'a, N: Number> Interpreter<'a, N> {
    pub(super) fn new(
        graph: &'a Graph,
        program: &'a Program,
        offsets: &'a [usize],
        parameters: &'a [Parameter<N>],
        statistics: &'a [RunningStatistics],
        batch: usize,
        pass: Pass,
    ) -> Self {
        let (tracked, batch_statistics) = (vec![false; graph.nodes().len()], Vec::new());
        Interpreter {
            graph,
            program,
            offsets,
            parameters,
            statistics,
            batch,
            products: Products::Own,
            pass,
            tracked,
            tape: None,
            batch_statistics,
        }
    }

    /// With products of another kind.
    pub(super) fn with_products(self, products: Products) -> Self {
        Interpreter { products, ..self }
    }

    /// Runs a range of instructions on the input of the first one and returns the `wanted` values
    /// in order. An empty range returns the input.
    pub(super) fn run(
        &mut self,
        range: Range<usize>,
        input: FlatTensor<N>,
        wanted: &[usize],
    ) -> Result<Vec<FlatTensor<N>>, NnError> {
        let program = self.program;
        let instructions = &program.instructions[range.clone()];
        let Some(source) =
            instructions.first().and_then(|instruction| instruction.inputs.first()).copied()
        else {
            return Ok(vec![input]);
        };
        if !matches!(self.pass, Pass::Evaluation) {
            self.tracked[source] = matches!(self.pass, Pass::InputGradient);
            self.track(instructions);
            self.tape = self.tracked.contains(&true).then(Default::default);
        }
        let gradients = self.gradients(instructions);
        let mut uses = program.uses(range, self.graph.nodes().len());
        wanted.iter().for_each(|&value| uses[value] += 1);
        let mut values: Vec<Option<FlatTensor<N>>> =
            (0..self.graph.nodes().len()).map(|_| None).collect();
        values[source] = Some(input);
        for (instruction, gradients) in instructions.iter().zip(gradients) {
            // Instructions below all trainable parameters aren't recorded.
            let tape = if self.tracked[instruction.output] { None } else { self.tape.take() };
            let result = self.instruction(instruction, &gradients, &values);
            if tape.is_some() {
                self.tape = tape;
            }
            values[instruction.output] = Some(result?);
            for &input in &instruction.inputs {
                uses[input] -= 1;
                if uses[input] == 0 {
                    values[input] = None;
                }
            }
        }
        let missing = |value: usize| {
            NnError::Graph(format!("{} is never computed", self.graph.nodes()[value].name))
        };
        wanted.iter().map(|&value| values[value].take().ok_or_else(|| missing(value))).collect()
    }

    fn track(&mut self, instructions: &[Instruction]) {
        for instruction in instructions {
            let own = self.of_node(instruction.node).iter().any(|parameter| self.trains(parameter));
            self.tracked[instruction.output] =
                own || instruction.inputs.iter().any(|&input| self.tracked[input]);
        }
    }

    /// For each instruction, how it stores the gradients of its inputs. The backward pass visits
    /// the last reader of a value first. A flattened map is the same tensor, so its readers are the
    /// map's.
    fn gradients(&self, instructions: &[Instruction]) -> Vec<Vec<Gradient>> {
        let nodes = self.graph.nodes();
        let mut seen = vec![false; nodes.len()];
        let mut hand_over = |&input: &usize| {
            let mut tensor = input;
            while self.is_identity(nodes[tensor].op) {
                tensor = nodes[tensor].inputs[0];
            }
            match (self.tracked[input], std::mem::replace(&mut seen[tensor], true)) {
                (false, _) => Gradient::None,
                (true, false) => Gradient::First,
                (true, true) => Gradient::Add,
            }
        };
        let mut all: Vec<Vec<Gradient>> = vec![vec![Gradient::None]; instructions.len()];
        for (instruction, gradients) in instructions.iter().zip(&mut all).rev() {
            if !self.is_identity(nodes[instruction.node].op) {
                *gradients = instruction.inputs.iter().map(&mut hand_over).collect();
            }
        }
        all
    }

    fn of_node(&self, node: usize) -> &'a [Parameter<N>] {
        let end = self.offsets.get(node + 1).copied().unwrap_or(self.parameters.len());
        &self.parameters[self.offsets[node]..end]
    }

    /// Whether the output of an op is its input's tensor, although the tape may record its readers.
    fn is_identity(&self, op: Op) -> bool {
        let without_dropout = matches!(self.pass, Pass::InputGradient);
        op == Op::Flatten || (without_dropout && matches!(op, Op::Dropout { .. }))
    }

    fn trains(&self, parameter: &Parameter<N>) -> bool {
        matches!(self.pass, Pass::Training(_)) && parameter.trainable
    }

    /// How the gradient of a parameter is stored; only one op reads each parameter.
    fn wanted(&self, parameter: Option<&Parameter<N>>) -> Gradient {
        if parameter.is_some_and(|parameter| self.trains(parameter)) {
            Gradient::First
        } else {
            Gradient::None
        }
    }

    fn instruction(
        &mut self,
        instruction: &Instruction,
        gradients: &[Gradient],
        values: &[Option<FlatTensor<N>>],
    ) -> Result<FlatTensor<N>, NnError> {
        let read = |index: usize| {
            let value = instruction.inputs.get(index).and_then(|&input| values[input].as_ref());
            value.ok_or_else(|| {
                NnError::Graph(format!(
                    "{} reads a value that was not computed",
                    self.graph.nodes()[instruction.node].name
                ))
            })
        };
        let x = read(0)?;
        let node = &self.graph.nodes()[instruction.node];
        let (input, output) = (self.graph.nodes()[instruction.inputs[0]].shape, node.shape);
        let own = self.of_node(instruction.node);
        let first = gradients[0];
        let result = match node.op {
            Op::Input | Op::Flatten => Ok(x.clone()),
            Op::Convolution { window, .. } => {
                let (batch, products) = (self.batch, self.products);
                let geometry = Geometry { batch, input, output, window, products };
                let gradients = [first, self.wanted(own.first()), self.wanted(own.get(1))];
                ops::convolution(
                    x,
                    &own[0].tensor,
                    own.get(1).map(|bias| &bias.tensor),
                    &geometry,
                    gradients,
                    &mut self.tape,
                )
            }
            Op::BatchNorm { epsilon } => {
                let residual = instruction.residual.then(|| read(1)).transpose()?;
                let residual_gradient = gradients.get(1).copied().unwrap_or(Gradient::None);
                let gradients =
                    [first, self.wanted(own.first()), self.wanted(own.get(1)), residual_gradient];
                return self.batch_norm(instruction, x, residual, epsilon, gradients);
            }
            Op::Relu => ops::relu(x, first, &mut self.tape),
            Op::MaxPool(window) => self.pool(x, instruction, PoolKind::Maximum(window), first),
            Op::AveragePool { window, count_padding } => {
                self.pool(x, instruction, PoolKind::Mean { window, count_padding }, first)
            }
            Op::AdaptivePool { .. } => self.pool(x, instruction, PoolKind::Bins, first),
            Op::Add => ops::add(x, read(1)?, [first, gradients[1]], &mut self.tape),
            Op::Concatenate => {
                let widths = instruction
                    .inputs
                    .iter()
                    .map(|&input| self.graph.nodes()[input].shape.channels);
                let parts: Result<Vec<_>, NnError> = widths
                    .enumerate()
                    .map(|(index, width)| Ok((read(index)?, width, gradients[index])))
                    .collect();
                ops::concatenate(&parts?, self.batch * output.pixels(), &mut self.tape)
            }
            Op::Linear { .. } => {
                let gradients = [first, self.wanted(own.first()), self.wanted(own.get(1))];
                let affine = [&own[0].tensor, &own[1].tensor];
                ops::linear(x, affine, self.batch, self.products, gradients, &mut self.tape)
            }
            Op::Dropout { probability } => match self.pass {
                // Below all trainable parameters the backbone runs as in evaluation; dropout in the
                // head is always on.
                Pass::Training(options)
                    if self.tracked[instruction.output]
                        || instruction.node > self.graph.features() =>
                {
                    let position = DropoutPosition {
                        seed: options.seed,
                        step: options.step,
                        layer: instruction.node as u64,
                    };
                    ops::dropout(x, probability, position, first, &mut self.tape)
                }
                _ => Ok(x.clone()),
            },
        };
        result.map_err(NnError::device)
    }

    fn pool(
        &mut self,
        x: &FlatTensor<N>,
        instruction: &Instruction,
        kind: PoolKind,
        gradient: Gradient,
    ) -> Result<FlatTensor<N>, CpuError> {
        let nodes = self.graph.nodes();
        let (input, output) = (nodes[instruction.inputs[0]].shape, nodes[instruction.node].shape);
        ops::pool(x, &Pooling { batch: self.batch, input, output, kind }, gradient, &mut self.tape)
    }

    fn batch_norm(
        &mut self,
        instruction: &Instruction,
        x: &FlatTensor<N>,
        residual: Option<&FlatTensor<N>>,
        epsilon: f64,
        gradients: [Gradient; 4],
    ) -> Result<FlatTensor<N>, NnError> {
        let node = &self.graph.nodes()[instruction.node];
        let own = self.of_node(instruction.node);
        let norms = |node: &super::graph::Node| matches!(node.op, Op::BatchNorm { .. });
        let norm = self.graph.nodes()[..instruction.node].iter().filter(|node| norms(node)).count();
        let of_batch = self.tracked[instruction.output]
            && matches!(
                self.pass,
                Pass::Training(StepOptions { batch_norm: BatchNorm::Batch, .. })
            );
        let count = self.batch * node.shape.pixels();
        if of_batch && count == 1 {
            return Err(NnError::SingleValue { norm: node.name.clone() });
        }
        let RunningStatistics { mean, variance, .. } = &self.statistics[norm];
        let statistics = if of_batch {
            NormStatistics::Batch
        } else {
            NormStatistics::Running { mean, variance }
        };
        let norm_options = Normalization { statistics, epsilon, relu: instruction.relu };
        let affine = [&own[0].tensor, &own[1].tensor];
        let (out, batch_statistics) =
            ops::batch_norm(x, affine, residual, &norm_options, gradients, &mut self.tape)
                .map_err(NnError::device)?;
        self.batch_statistics.extend(batch_statistics.map(|statistics| (norm, statistics, count)));
        Ok(out)
    }
}
