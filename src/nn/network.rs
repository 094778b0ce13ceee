//! A graph with its parameters on the CPU: training steps, logits, features. `exchange` loads and
//! saves weights, `explain` maps the evidence for a class, `learning` is what training calls.

mod exchange;
mod explain;
mod learning;

pub use explain::ClassMaps;

use super::compiled::CompiledNetwork;
use super::graph::{Graph, Head};
use super::initialization;
use super::interpreter::{Interpreter, Pass};
use super::learner::{check_length, check_targets};
use super::loading::{self, Loaded, Taken};
use super::matrix::{has_kernels, values};
use super::number::{Number, converted};
use super::ops::{Products, cross_entropy, flat, weighted_sum};
use super::optimizer::OptimizerState;
use super::parameters::{self, Parameter, ParameterInfo, RunningStatistics};
use super::program::Program;
use super::step::{Step, StepOptions};
use super::weights::Weights;
use super::{NnError, backbones};
use dfdx::tensor::{CpuError, Gradients};
use rayon::prelude::*;
use std::iter;
use std::ops::Range;
use std::sync::OnceLock;

/// Weight of an auxiliary head's cross entropy in the loss: 0.4, as in torchvision's reference
/// training.
pub const AUXILIARY_WEIGHT: f64 = 0.4;

/// A network on the CPU. `N` is the precision of parameters and training; running statistics and
/// evaluation are in `f32`. A network is created and loaded in `f32`, then
/// [`converted`](Self::converted).
pub struct Network<N: Number = f32> {
    graph: Graph,
    program: Program,
    head: Head,
    /// For each node, the index of its first parameter.
    offsets: Vec<usize>,
    parameters: Vec<Parameter<N>>,
    statistics: Vec<RunningStatistics>,
    products: Products,
    compiled: Compiled,
    optimizer: OptimizerState<N>,
}

/// Compiled networks for inference: backbone and head separately, since training a head doesn't
/// change a frozen backbone.
#[derive(Default)]
struct Compiled {
    backbone: OnceLock<CompiledNetwork>,
    head: OnceLock<CompiledNetwork>,
}

/// Batch size of evaluation op by op.
const EVALUATION_BATCH: usize = 32;

impl Network {
    /// A backbone with a head for images of `input` (height, width), initialized from `seed`.
    ///
    /// # Errors
    /// For an unknown backbone, an invalid head or input size, or when memory can't be allocated.
    pub fn new(
        backbone: &str,
        head: &Head,
        input: (usize, usize),
        seed: u64,
    ) -> Result<Self, NnError> {
        let names = backbones::backbones().iter().map(|info| info.name);
        let info = backbones::backbone(backbone)
            .ok_or_else(|| NnError::unknown("backbone", backbone, names))?;
        Network::from_graph(info.graph(head, input)?, head, seed)
    }

    /// A network for any graph that ends in `head`, initialized from `seed`.
    ///
    /// # Errors
    /// When memory can't be allocated.
    pub fn from_graph(graph: Graph, head: &Head, seed: u64) -> Result<Self, NnError> {
        let described = parameters::describe(&graph);
        let initial = initialization::initial(&described, seed);
        let statistics = parameters::statistics(&graph);
        Network::of(graph, head, described.into_iter().zip(initial), statistics)
    }

    /// Same as [`from_graph`](Self::from_graph) followed by [`load`](Self::load), but initializes
    /// from `seed` only the parameters that the weights lack.
    ///
    /// # Errors
    /// As for both.
    pub fn from_weights(
        graph: Graph,
        head: &Head,
        weights: &Weights,
        seed: u64,
    ) -> Result<(Self, Loaded), NnError> {
        let described = parameters::describe(&graph);
        let infos: Vec<&ParameterInfo> = described.iter().collect();
        let Taken { values, statistics, loaded } =
            loading::take(&infos, parameters::statistics(&graph), head, weights)?;
        let draw = |(index, taken): (usize, Option<Vec<f32>>)| {
            taken.unwrap_or_else(|| initialization::initial_of(&described, index, seed))
        };
        let values: Vec<Vec<f32>> = values.into_par_iter().enumerate().map(draw).collect();
        let network = Network::of(graph, head, described.into_iter().zip(values), statistics)?;
        Ok((network, loaded))
    }

    /// Sets what convolutions and linear layers multiply, in training and evaluation.
    ///
    /// # Errors
    /// When the processor can't.
    pub fn set_products(&mut self, products: Products) -> Result<(), NnError> {
        if products == Products::Bf16 && !has_kernels() {
            return Err(NnError::Bf16);
        }
        self.products = products;
        self.compiled = Compiled::default();
        Ok(())
    }
}

impl<N: Number> Network<N> {
    /// What convolutions and linear layers multiply.
    pub fn products(&self) -> Products {
        self.products
    }

    fn of(
        graph: Graph,
        head: &Head,
        described: impl Iterator<Item = (ParameterInfo, Vec<N>)>,
        statistics: Vec<RunningStatistics>,
    ) -> Result<Self, NnError> {
        let parameter = |(info, values)| {
            Ok(Parameter { tensor: flat(values).map_err(NnError::device)?, info, trainable: true })
        };
        let parameters: Vec<Parameter<N>> =
            described.map(parameter).collect::<Result<_, NnError>>()?;
        Ok(Network {
            program: Program::new(&graph),
            head: head.clone(),
            offsets: parameters::offsets(&graph),
            statistics,
            products: Products::default(),
            compiled: Compiled::default(),
            optimizer: OptimizerState::new(parameters.len()),
            parameters,
            graph,
        })
    }

    /// The same network in another precision, with the same trainable parameters.
    ///
    /// # Errors
    /// When memory can't be allocated.
    pub fn converted<M: Number>(&self) -> Result<Network<M>, NnError> {
        let described = self
            .parameters
            .iter()
            .map(|Parameter { info, tensor, .. }| (info.clone(), converted(values(tensor))));
        let (graph, statistics) = (self.graph.clone(), self.statistics.clone());
        let mut network = Network::of(graph, &self.head, described, statistics)?;
        for (new, own) in network.parameters.iter_mut().zip(&self.parameters) {
            new.trainable = own.trainable;
        }
        Ok(network)
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The parameters, in PyTorch's order.
    pub fn parameters(&self) -> &[Parameter<N>] {
        &self.parameters
    }

    /// The parameters, to be updated. Only trainable ones may change.
    pub fn parameters_mut(&mut self) -> &mut [Parameter<N>] {
        self.discard_compiled();
        &mut self.parameters
    }

    /// Discards what was compiled from trainable parameters.
    fn discard_compiled(&mut self) {
        self.compiled.head = OnceLock::new();
        if self
            .parameters
            .iter()
            .any(|parameter| parameter.trainable && parameter.info.group != "head")
        {
            self.compiled.backbone = OnceLock::new();
        }
    }

    /// Selects the trainable parameters. Layers below all of them run without a tape and with
    /// running statistics.
    pub fn set_trainable(&mut self, choose: impl Fn(&ParameterInfo) -> bool) {
        for parameter in &mut self.parameters {
            parameter.trainable = choose(&parameter.info);
        }
    }

    /// One training step: forward, mean cross entropy against `targets`, backward. Parameters don't
    /// change. `images` are (batch, height, width, 3), `targets` (batch, classes) with rows of any
    /// sum, so that label smoothing and class weights can be folded in. An auxiliary head's cross
    /// entropy is added, times [`AUXILIARY_WEIGHT`].
    ///
    /// # Errors
    /// When lengths don't match, a batch norm would see a single value per channel, or memory can't be allocated.
    pub fn step(
        &mut self,
        images: &[f32],
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<N>, NnError> {
        self.train(0..self.program.instructions.len(), images, batch, targets, options)
    }

    /// As [`step`](Self::step), for the head alone, from features (batch, feature count). An
    /// auxiliary head, which doesn't read features, doesn't run and gets no gradients.
    ///
    /// # Errors
    /// As for [`step`](Self::step).
    pub fn step_from_features(
        &mut self,
        features: &[f32],
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<N>, NnError> {
        self.train(self.program.head..self.program.auxiliary, features, batch, targets, options)
    }

    fn train(
        &mut self,
        range: Range<usize>,
        input: &[f32],
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<N>, NnError> {
        self.check_input(range.start, input, batch)?;
        if batch == 0 {
            return Err(NnError::Input("a training step needs at least one image".into()));
        }
        check_targets(&self.graph, targets, batch)?;
        let input = flat(converted(input)).map_err(NnError::device)?;
        let auxiliary = self.graph.auxiliary().filter(|_| range.end > self.program.auxiliary);
        let wanted: Vec<usize> = iter::once(self.graph.logits()).chain(auxiliary).collect();
        let mut interpreter = self.interpreter(batch, Pass::Training(*options));
        let outputs = interpreter.run(range, input, &wanted)?;
        let (mut tape, batch_statistics) =
            (interpreter.tape.take(), std::mem::take(&mut interpreter.batch_statistics));
        drop(interpreter);
        let weights = [1.0, AUXILIARY_WEIGHT];
        let losses: Result<Vec<_>, CpuError> = outputs
            .iter()
            .zip(weights)
            .map(|(logits, weight)| {
                Ok((cross_entropy(logits, targets, batch, &mut tape)?, N::of(weight)))
            })
            .collect();
        let loss = losses.and_then(|losses| weighted_sum(losses, &mut tape));
        let loss = loss.map_err(NnError::device)?;
        for (norm, of_batch, count) in batch_statistics {
            self.statistics[norm].update(&of_batch, count);
            self.compiled = Compiled::default();
        }
        let (loss_value, logits) =
            (loss.as_vec(), outputs.first().map(|logits| N::as_f32(values(logits)).into_owned()));
        let gradients = match tape {
            Some(tape) => N::backward(loss, tape).map_err(NnError::device)?,
            None => Gradients::leaky(),
        };
        Ok(Step {
            loss: loss_value.first().map_or(f64::NAN, |&loss| loss.into()),
            logits: logits.unwrap_or_default(),
            gradients,
        })
    }

    /// Logits (batch, classes) in evaluation mode. On the CPU an image's logits are bitwise
    /// identical in any batch and with any number of threads.
    ///
    /// # Errors
    /// When the length doesn't match, or memory can't be allocated.
    pub fn logits(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, NnError> {
        self.evaluate(0..self.program.auxiliary, images, batch)
    }

    /// Features (batch, feature count) in evaluation mode, the input of the head; reproducible as
    /// [`logits`](Self::logits) are.
    ///
    /// # Errors
    /// As for [`logits`](Self::logits).
    pub fn features(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, NnError> {
        self.evaluate(0..self.program.head, images, batch)
    }

    /// Logits (batch, classes) in evaluation mode from features (batch, feature count).
    ///
    /// # Errors
    /// As for [`logits`](Self::logits).
    pub fn logits_from_features(
        &self,
        features: &[f32],
        batch: usize,
    ) -> Result<Vec<f32>, NnError> {
        self.evaluate(self.program.head..self.program.auxiliary, features, batch)
    }

    fn evaluate(
        &self,
        range: Range<usize>,
        input: &[f32],
        batch: usize,
    ) -> Result<Vec<f32>, NnError> {
        self.check_input(range.start, input, batch)?;
        match (range.start < self.program.head, range.end > self.program.head) {
            (true, true) => {
                Ok(self.compiled_head().run(&self.compiled_backbone().run(input, batch), batch))
            }
            (true, false) => Ok(self.compiled_backbone().run(input, batch)),
            (false, _) => Ok(self.compiled_head().run(input, batch)),
        }
    }

    /// Evaluation by the interpreter, [`EVALUATION_BATCH`] images at a time.
    fn interpret(
        &self,
        range: Range<usize>,
        input: &[f32],
        batch: usize,
    ) -> Result<Vec<N>, NnError> {
        let wanted =
            if range.end > self.program.head { self.graph.logits() } else { self.graph.features() };
        let per_image = input.len() / batch.max(1);
        let mut out = Vec::new();
        for part in input.chunks(EVALUATION_BATCH * per_image.max(1)) {
            let count = part.len() / per_image;
            let part = flat(converted(part)).map_err(NnError::device)?;
            let made =
                self.interpreter(count, Pass::Evaluation).run(range.clone(), part, &[wanted])?;
            made.iter().for_each(|made| out.extend_from_slice(values(made)));
        }
        Ok(out)
    }

    /// Compiles the network for inference now rather than at the next use. Any change of parameters
    /// discards it.
    pub fn prepare(&mut self) {
        self.compiled_backbone();
        self.compiled_head();
    }

    /// Frees the compiled network; the next inference compiles again.
    pub fn release(&mut self) {
        self.compiled = Compiled::default();
    }

    fn compiled_backbone(&self) -> &CompiledNetwork {
        self.compiled.backbone.get_or_init(|| self.compile(0..self.program.head))
    }

    fn compiled_head(&self) -> &CompiledNetwork {
        self.compiled.head.get_or_init(|| self.compile(self.program.head..self.program.auxiliary))
    }

    fn compile(&self, range: Range<usize>) -> CompiledNetwork {
        let values = |index: usize| N::as_f32(values(&self.parameters[index].tensor));
        CompiledNetwork::new(
            &self.graph,
            &self.program,
            &self.offsets,
            &values,
            &self.statistics,
            range,
            self.products,
        )
    }

    /// Logits (batch, classes) in evaluation mode, op by op and in the network's own precision:
    /// slower than [`logits`](Self::logits), for numerical comparison.
    ///
    /// # Errors
    /// As for [`logits`](Self::logits).
    pub fn interpreted_logits(&self, images: &[f32], batch: usize) -> Result<Vec<N>, NnError> {
        self.check_input(0, images, batch)?;
        self.interpret(0..self.program.auxiliary, images, batch)
    }

    fn interpreter(&self, batch: usize, pass: Pass) -> Interpreter<'_, N> {
        Interpreter::new(
            &self.graph,
            &self.program,
            &self.offsets,
            &self.parameters,
            &self.statistics,
            batch,
            pass,
        )
        .with_products(self.products)
    }

    fn check_input(&self, first: usize, input: &[f32], batch: usize) -> Result<(), NnError> {
        let shape = match first {
            0 => self.graph.input(),
            _ => self.graph.nodes()[self.graph.features()].shape,
        };
        check_length(shape, input.len(), batch)
    }
}
