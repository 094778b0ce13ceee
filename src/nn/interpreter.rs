//! Runs a program op by op on a device, on the tape where something below is trainable. Knows what needs a gradient and
//! how long values live; nothing of losses or of weights as files.

use super::NnError;
use super::graph::{Graph, Op};
use super::number::Number;
use super::ops::{
    Backend, DropoutPosition, Flat, Geometry, Gradient, Moments, NormStatistics, Normalization,
    Pooling, Recorder, Taking,
};
use super::parameters::{Parameter, Statistics};
use super::program::{Instruction, Program};
use super::step::{BatchNorm, StepOptions};
use std::ops::Range;

/// What a run is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pass {
    /// Running statistics, no dropout, no tape.
    Evaluation,
    /// As the options say, with a tape.
    Training(StepOptions),
}

/// One run of a program.
pub(crate) struct Interpreter<'a, D: Backend<N>, N: Number> {
    graph: &'a Graph,
    program: &'a Program,
    offsets: &'a [usize],
    parameters: &'a [Parameter<D, N>],
    statistics: &'a [Statistics],
    batch: usize,
    pass: Pass,
    /// For each value, whether something trainable lies below it.
    tracked: Vec<bool>,
    pub tape: Recorder<D, N>,
    /// Batch norms that saw a batch: index, moments, values a channel.
    pub moments: Vec<(usize, Moments, usize)>,
}

impl<'a, D: Backend<N>, N: Number> Interpreter<'a, D, N> {
    pub fn new(
        graph: &'a Graph,
        program: &'a Program,
        offsets: &'a [usize],
        parameters: &'a [Parameter<D, N>],
        statistics: &'a [Statistics],
        batch: usize,
        pass: Pass,
    ) -> Self {
        let (tracked, moments) = (vec![false; graph.nodes().len()], Vec::new());
        Interpreter {
            graph,
            program,
            offsets,
            parameters,
            statistics,
            batch,
            pass,
            tracked,
            tape: None,
            moments,
        }
    }

    /// Runs a range of instructions on what the first one reads, and gives the `wanted` values in their order; of an empty
    /// range, the input.
    pub fn run(
        &mut self,
        range: Range<usize>,
        input: Flat<D, N>,
        wanted: &[usize],
    ) -> Result<Vec<Flat<D, N>>, NnError> {
        let program = self.program;
        let instructions = &program.instructions[range.clone()];
        let Some(source) = instructions.first().and_then(|made| made.inputs.first()).copied()
        else {
            return Ok(vec![input]);
        };
        if matches!(self.pass, Pass::Training(_)) {
            self.track(instructions);
            self.tape = self.tracked.contains(&true).then(Default::default);
        }
        let gradients = self.gradients(instructions);
        let mut uses = program.uses(range, self.graph.nodes().len());
        wanted.iter().for_each(|&value| uses[value] += 1);
        let mut values: Vec<Option<Flat<D, N>>> =
            (0..self.graph.nodes().len()).map(|_| None).collect();
        values[source] = Some(input);
        for (made, gradients) in instructions.iter().zip(gradients) {
            // What lies below everything trainable runs off the tape.
            let tape = if self.tracked[made.output] { None } else { self.tape.take() };
            let result = self.instruction(made, &gradients, &values);
            if tape.is_some() {
                self.tape = tape;
            }
            values[made.output] = Some(result?);
            for &input in &made.inputs {
                uses[input] -= 1;
                if uses[input] == 0 {
                    values[input] = None;
                }
            }
        }
        let missing =
            |value: usize| NnError::Graph(format!("{} isn't made", self.graph.nodes()[value].name));
        wanted.iter().map(|&value| values[value].take().ok_or_else(|| missing(value))).collect()
    }

    fn track(&mut self, instructions: &[Instruction]) {
        for made in instructions {
            let own = self.of_node(made.node).iter().any(|parameter| parameter.trainable);
            self.tracked[made.output] = own || made.inputs.iter().any(|&input| self.tracked[input]);
        }
    }

    /// For each instruction, how it hands gradients to its inputs: the last reader comes first when the tape runs back.
    /// A flattened map is the same tensor, so its readers are the map's.
    fn gradients(&self, instructions: &[Instruction]) -> Vec<Vec<Gradient>> {
        let nodes = self.graph.nodes();
        let mut seen = vec![false; nodes.len()];
        let mut hand_over = |&input: &usize| {
            let mut tensor = input;
            while nodes[tensor].op == Op::Flatten {
                tensor = nodes[tensor].inputs[0];
            }
            match (self.tracked[input], std::mem::replace(&mut seen[tensor], true)) {
                (false, _) => Gradient::None,
                (true, false) => Gradient::First,
                (true, true) => Gradient::Add,
            }
        };
        let mut all: Vec<Vec<Gradient>> = vec![vec![Gradient::None]; instructions.len()];
        for (made, gradients) in instructions.iter().zip(&mut all).rev() {
            if nodes[made.node].op != Op::Flatten {
                *gradients = made.inputs.iter().map(&mut hand_over).collect();
            }
        }
        all
    }

    /// The parameters of a node.
    fn of_node(&self, node: usize) -> &'a [Parameter<D, N>] {
        let end = self.offsets.get(node + 1).copied().unwrap_or(self.parameters.len());
        &self.parameters[self.offsets[node]..end]
    }

    /// Whether a parameter wants a gradient; each is used by one op alone.
    fn wanted(parameter: Option<&Parameter<D, N>>) -> Gradient {
        if parameter.is_some_and(|parameter| parameter.trainable) {
            Gradient::First
        } else {
            Gradient::None
        }
    }

    fn instruction(
        &mut self,
        made: &Instruction,
        gradients: &[Gradient],
        values: &[Option<Flat<D, N>>],
    ) -> Result<Flat<D, N>, NnError> {
        let read = |index: usize| {
            let value = made.inputs.get(index).and_then(|&input| values[input].as_ref());
            value.ok_or_else(|| {
                NnError::Graph(format!(
                    "{} reads a value that isn't there",
                    self.graph.nodes()[made.node].name
                ))
            })
        };
        let x = read(0)?;
        let node = &self.graph.nodes()[made.node];
        let (input, output) = (self.graph.nodes()[made.inputs[0]].shape, node.shape);
        let own = self.of_node(made.node);
        let first = gradients[0];
        let result = match node.op {
            Op::Input | Op::Flatten => Ok(x.clone()),
            Op::Convolution { window, .. } => {
                let geometry = Geometry { batch: self.batch, input, output, window };
                let gradients = [first, Self::wanted(own.first()), Self::wanted(own.get(1))];
                D::convolution(
                    x,
                    &own[0].tensor,
                    own.get(1).map(|bias| &bias.tensor),
                    &geometry,
                    gradients,
                    &mut self.tape,
                )
            }
            Op::BatchNorm { epsilon } => {
                let residual = made.residual.then(|| read(1)).transpose()?;
                let residual_gradient = gradients.get(1).copied().unwrap_or(Gradient::None);
                let gradients =
                    [first, Self::wanted(own.first()), Self::wanted(own.get(1)), residual_gradient];
                return self.batch_norm(made, x, residual, epsilon, gradients);
            }
            Op::Relu => D::relu(x, first, &mut self.tape),
            Op::MaxPool(window) => self.pool(x, made, Taking::Maximum(window), first),
            Op::AveragePool { window, count_padding } => {
                self.pool(x, made, Taking::Mean { window, count_padding }, first)
            }
            Op::AdaptivePool { .. } => self.pool(x, made, Taking::Bins, first),
            Op::Add => D::add(x, read(1)?, [first, gradients[1]], &mut self.tape),
            Op::Concatenate => {
                let widths =
                    made.inputs.iter().map(|&input| self.graph.nodes()[input].shape.channels);
                let parts: Result<Vec<_>, NnError> = widths
                    .enumerate()
                    .map(|(index, width)| Ok((read(index)?, width, gradients[index])))
                    .collect();
                D::concatenate(&parts?, self.batch * output.pixels(), &mut self.tape)
            }
            Op::Linear { .. } => {
                let gradients = [first, Self::wanted(own.first()), Self::wanted(own.get(1))];
                D::linear(x, &own[0].tensor, &own[1].tensor, self.batch, gradients, &mut self.tape)
            }
            Op::Dropout { probability } => match self.pass {
                // Below everything trainable the backbone runs as in evaluation; the head's dropout is always on.
                Pass::Training(options)
                    if self.tracked[made.output] || made.node > self.graph.features() =>
                {
                    let position = DropoutPosition {
                        seed: options.seed,
                        step: options.step,
                        layer: made.node as u64,
                    };
                    D::dropout(x, probability, position, first, &mut self.tape)
                }
                _ => Ok(x.clone()),
            },
        };
        result.map_err(NnError::device)
    }

    fn pool(
        &mut self,
        x: &Flat<D, N>,
        made: &Instruction,
        taking: Taking,
        gradient: Gradient,
    ) -> Result<Flat<D, N>, D::Err> {
        let nodes = self.graph.nodes();
        let (input, output) = (nodes[made.inputs[0]].shape, nodes[made.node].shape);
        D::pool(x, &Pooling { batch: self.batch, input, output, taking }, gradient, &mut self.tape)
    }

    fn batch_norm(
        &mut self,
        made: &Instruction,
        x: &Flat<D, N>,
        residual: Option<&Flat<D, N>>,
        epsilon: f64,
        gradients: [Gradient; 4],
    ) -> Result<Flat<D, N>, NnError> {
        let node = &self.graph.nodes()[made.node];
        let own = self.of_node(made.node);
        let norms = |node: &super::graph::Node| matches!(node.op, Op::BatchNorm { .. });
        let norm = self.graph.nodes()[..made.node].iter().filter(|node| norms(node)).count();
        let of_batch = self.tracked[made.output]
            && matches!(
                self.pass,
                Pass::Training(StepOptions { batch_norm: BatchNorm::Batch, .. })
            );
        let count = self.batch * node.shape.pixels();
        if of_batch && count == 1 {
            return Err(NnError::SingleValue { norm: node.name.clone() });
        }
        let Statistics { mean, variance, .. } = &self.statistics[norm];
        let statistics = if of_batch {
            NormStatistics::Batch
        } else {
            NormStatistics::Running { mean, variance }
        };
        let norm_options = Normalization { statistics, epsilon, relu: made.relu };
        let affine = [&own[0].tensor, &own[1].tensor];
        let (out, moments) =
            D::batch_norm(x, affine, residual, &norm_options, gradients, &mut self.tape)
                .map_err(NnError::device)?;
        self.moments.extend(moments.map(|moments| (norm, moments, count)));
        Ok(out)
    }
}
