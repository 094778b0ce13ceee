//! A network's run as a list of launches, forward and backward, on maps in one arena: what a card
//! executes. Pure data, computed from a program, a batch size and the trainable parameters; knows
//! no device. It does what the interpreter and the tape do: nothing is computed backward below all
//! trainable parameters, where layers run as in evaluation.
//!
//! `launch` is the vocabulary, `values` what is known before planning, `planner` with `forward` and
//! `backward` makes the launches, `arena` places the buffers, `memory` sums them up.

mod arena;
mod backward;
mod forward;
mod launch;
mod memory;
mod planner;
#[cfg(test)]
mod tests;
mod values;

pub use launch::{
    Buffer, Content, Element, Geometry, Launch, Mask, Store, Target, View, chunk_rows,
};
pub use memory::{Memory, largest_batch};

use super::graph::Graph;
use super::parameters;
use super::program::Program;
use super::{AUXILIARY_WEIGHT, BatchNorm, NnError};
use planner::Planner;
use std::iter;
use values::Values;

/// What a training step starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrainingInput {
    /// Images; the auxiliary head runs too, if there is one.
    Images,
    /// Features, for the head alone.
    Features,
}

/// The part of a network that inference runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Features from images.
    Backbone,
    /// Logits from features.
    Head,
    /// Logits from images.
    Both,
}

/// The options of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub batch: usize,
    /// Element type of maps and their gradients: [`Element::F32`] or [`Element::Bf16`].
    pub element: Element,
}

/// The launches of a run, in order, and the buffers they access.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub options: Options,
    pub launches: Vec<Launch>,
    /// Index of the first launch of the backward pass; the number of launches if there is none.
    pub backward: usize,
    pub buffers: Vec<Buffer>,
    /// Size of the arena in bytes.
    pub bytes: usize,
    /// Images or features, to be written before the first launch.
    pub input: View,
    /// Targets (batch, classes), to be written before the first launch of training.
    pub targets: Option<View>,
    /// The loss, one value.
    pub loss: Option<View>,
    /// Logits, or features of the backbone, without gaps; to be read after the last launch.
    pub output: View,
    /// For each parameter, whether the launches store a gradient. A trainable parameter of a part
    /// that doesn't run gets none.
    pub stored: Vec<bool>,
}

impl Schedule {
    /// A training step: forward, mean cross entropy, and the gradients of the parameters that
    /// `trainable` names in PyTorch's order. An auxiliary head's cross entropy is added, times
    /// [`AUXILIARY_WEIGHT`].
    ///
    /// # Errors
    /// When the batch is empty, a norm would see a single value per channel, or a pooling window is
    /// too large for a card.
    pub fn training(
        graph: &Graph,
        trainable: &[bool],
        from: TrainingInput,
        batch_norm: BatchNorm,
        options: Options,
    ) -> Result<Schedule, NnError> {
        let (program, offsets) = (&Program::new(graph), parameter_offsets(graph));
        check(&offsets, trainable, options)?;
        let range = Values::range(program, from);
        let auxiliary = graph.auxiliary().filter(|_| from == TrainingInput::Images);
        let logits = [Some(graph.logits()), auxiliary];
        let outputs: Vec<usize> = logits.into_iter().flatten().collect();
        let trains = |node: usize| trainable[offsets[node]..offsets[node + 1]].contains(&true);
        let values = Values::new(graph, program, range, &options, &outputs, Some(&trains));
        let batch_statistics = batch_norm == BatchNorm::Batch;
        let trainable = trainable.to_vec();
        let mut planner =
            Planner::new(values, options.element, batch_statistics, offsets, trainable);
        let input = planner.input();
        let classes = (options.batch, graph.classes());
        let targets = planner.allocate(Content::Targets, Element::F32, classes);
        let loss = planner.allocate(Content::Loss, Element::F64, (1, 1));
        planner.forward()?;
        for (index, &logits) in outputs.iter().enumerate() {
            planner.cross_entropy(logits, targets, loss, index == 0);
        }
        let backward = planner.launches.len();
        planner.backward();
        let output = planner.location(graph.logits());
        Ok(planner.schedule(options, backward, input, output, Some((targets, loss))))
    }

    /// A run in evaluation mode: running statistics, no dropout.
    ///
    /// # Errors
    /// When the batch is empty.
    pub fn inference(graph: &Graph, part: Part, options: Options) -> Result<Schedule, NnError> {
        let (program, offsets) = (&Program::new(graph), parameter_offsets(graph));
        let trainable = vec![false; offsets.last().copied().unwrap_or(0)];
        check(&offsets, &trainable, options)?;
        let (range, output) = match part {
            Part::Backbone => (0..program.head, graph.features()),
            Part::Head => (program.head..program.auxiliary, graph.logits()),
            Part::Both => (0..program.auxiliary, graph.logits()),
        };
        let values = Values::new(graph, program, range, &options, &[output], None);
        let mut planner = Planner::new(values, options.element, false, offsets, trainable);
        let input = planner.input();
        planner.forward()?;
        let output = planner.location(output);
        let backward = planner.launches.len();
        Ok(planner.schedule(options, backward, input, output, None))
    }
}

impl Planner<'_> {
    /// The schedule of what was planned. `trained` are the views of targets and loss in training.
    fn schedule(
        mut self,
        options: Options,
        backward: usize,
        input: View,
        output: View,
        trained: Option<(View, View)>,
    ) -> Schedule {
        let (targets, loss) = trained.unzip();
        let given: Vec<View> = iter::once(input).chain(targets).collect();
        let read: Vec<View> = loss.into_iter().chain([output]).collect();
        let (bytes, stored) = (self.finish(&given, &read), self.stored());
        let Planner { launches, buffers, .. } = self;
        Schedule {
            options,
            launches,
            backward,
            buffers,
            bytes,
            input,
            targets,
            loss,
            output,
            stored,
        }
    }

    /// The buffer of the run's input.
    fn input(&mut self) -> View {
        let source = self.values.source;
        let view = self.map(Content::Input, source);
        self.place_at(source, view);
        view
    }

    /// The loss of a head's logits and, where they depend on trainable parameters, its gradient.
    fn cross_entropy(&mut self, logits: usize, targets: View, loss: View, main: bool) {
        let (view, target) = (self.location(logits), self.target(logits));
        let (factor, store) =
            if main { (1.0, Store::Overwrite) } else { (AUXILIARY_WEIGHT, Store::Add) };
        let loss = Target { view: loss, store };
        let losses = self.allocate(Content::Scratch, Element::F64, (self.values.batch, 1));
        // Both heads may have the same logits under two names.
        let again = target.filter(|target| target.store == Store::Add);
        let gradient = match again {
            Some(_) => Some(self.map(Content::Scratch, logits)),
            None => target.map(|target| target.view),
        };
        self.push(Launch::CrossEntropy { logits: view, targets, factor, losses, loss, gradient });
        if let (Some(target), Some(gradient)) = (again, gradient) {
            self.accumulate(target, gradient);
        }
    }

    /// For each parameter, whether a launch stores its gradient.
    fn stored(&self) -> Vec<bool> {
        let mut stored = vec![false; self.trainable.len()];
        for parameter in self.launches.iter().flat_map(Launch::stored_gradients) {
            stored[parameter] = true;
        }
        stored
    }
}

/// For each node, the index of its first parameter, and at the end the number of parameters.
fn parameter_offsets(graph: &Graph) -> Vec<usize> {
    let mut offsets = parameters::offsets(graph);
    offsets.push(parameters::describe(graph).len());
    offsets
}

fn check(offsets: &[usize], trainable: &[bool], options: Options) -> Result<(), NnError> {
    let parameters = offsets.last().copied().unwrap_or(0);
    if trainable.len() != parameters {
        let found = trainable.len();
        return Err(NnError::Input(format!(
            "{found} choices of trainable parameters for {parameters} parameters"
        )));
    }
    if options.batch == 0 {
        return Err(NnError::Input("a run needs at least one image".into()));
    }
    if !matches!(options.element, Element::F32 | Element::Bf16) {
        return Err(NnError::Input("maps are f32 or bf16".into()));
    }
    Ok(())
}
