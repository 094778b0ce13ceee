//! A graph with its parameters on a device: training steps, logits, features. How instructions run is the interpreter's;
//! how weights come in and go out is `exchange`'s.

mod exchange;

use super::graph::{Graph, Head};
use super::initialization;
use super::interpreter::{Interpreter, Pass};
use super::loading::{self, Loaded, Taken};
use super::number::{Number, converted};
use super::ops::{Backend, Flat, Recorder};
use super::parameters::{self, Parameter, ParameterInfo, Statistics};
use super::plan::Plan;
use super::program::Program;
use super::step::{Step, StepOptions};
use super::weights::Weights;
use super::{NnError, backbones};
use dfdx::tensor::{Gradients, PutTape, SplitTape, Tensor};
use dfdx::tensor_ops::{Backward, TryAdd, TryMul};
use rayon::prelude::*;
use std::iter;
use std::ops::Range;
use std::sync::OnceLock;

/// How much an auxiliary head's cross entropy counts beside the network's own: 0.4, as torchvision's reference training
/// has it.
pub const AUXILIARY_WEIGHT: f64 = 0.4;

/// A network on a device, its parameters in single or double precision; running statistics and what it makes of images in
/// evaluation are in single. It is made and loaded in single precision, and [`converted`](Self::converted).
pub struct Network<D: Backend<N>, N: Number = f32> {
    graph: Graph,
    program: Program,
    head: Head,
    /// For each node, its first parameter's index.
    offsets: Vec<usize>,
    parameters: Vec<Parameter<D, N>>,
    statistics: Vec<Statistics>,
    device: D,
    plans: Plans,
}

/// What inference needs of the parameters, folded: of the backbone and of the head apart, since a head that learns leaves a
/// frozen backbone's as it is.
#[derive(Default)]
struct Plans {
    backbone: OnceLock<Plan>,
    head: OnceLock<Plan>,
}

/// Images that run at once in evaluation on devices without plans.
const EVALUATED: usize = 32;

impl<D: Backend> Network<D> {
    /// A backbone with a head for images of `input` (height, width), initialized from `seed` as torchvision does.
    ///
    /// # Errors
    /// For an unknown backbone, a head or an input size that doesn't fit, or want of memory.
    pub fn new(
        backbone: &str,
        head: &Head,
        input: (usize, usize),
        seed: u64,
        device: D,
    ) -> Result<Self, NnError> {
        let names = backbones::backbones().iter().map(|info| info.name);
        let info = backbones::backbone(backbone)
            .ok_or_else(|| NnError::unknown("backbone", backbone, names))?;
        Network::from_graph(info.graph(head, input)?, head, seed, device)
    }

    /// A network of any graph that ends in `head`.
    ///
    /// # Errors
    /// For want of memory.
    pub fn from_graph(graph: Graph, head: &Head, seed: u64, device: D) -> Result<Self, NnError> {
        let described = parameters::describe(&graph);
        let initial = initialization::initial(&described, seed);
        let statistics = parameters::statistics(&graph);
        Network::of(graph, head, described.into_iter().zip(initial), statistics, device)
    }

    /// The network that [`from_graph`](Self::from_graph) and then [`load`](Self::load) make, without drawing numbers that
    /// the weights would replace: only what they lack is initialized from `seed`.
    ///
    /// # Errors
    /// As those of both.
    pub fn from_weights(
        graph: Graph,
        head: &Head,
        weights: &Weights,
        seed: u64,
        device: D,
    ) -> Result<(Self, Loaded), NnError> {
        let described = parameters::describe(&graph);
        let infos: Vec<&ParameterInfo> = described.iter().collect();
        let Taken { values, statistics, loaded } =
            loading::take(&infos, parameters::statistics(&graph), head, weights)?;
        let draw = |(index, taken): (usize, Option<Vec<f32>>)| {
            taken.unwrap_or_else(|| initialization::initial_of(&described, index, seed))
        };
        let values: Vec<Vec<f32>> = values.into_par_iter().enumerate().map(draw).collect();
        let network =
            Network::of(graph, head, described.into_iter().zip(values), statistics, device)?;
        Ok((network, loaded))
    }
}

impl<D: Backend<N>, N: Number> Network<D, N> {
    /// A network of all its parts.
    fn of(
        graph: Graph,
        head: &Head,
        described: impl Iterator<Item = (ParameterInfo, Vec<N>)>,
        statistics: Vec<Statistics>,
        device: D,
    ) -> Result<Self, NnError> {
        let parameter = |(info, values)| {
            Ok(Parameter { tensor: tensor(&device, values)?, info, trainable: true })
        };
        let parameters: Result<Vec<Parameter<D, N>>, NnError> = described.map(parameter).collect();
        Ok(Network {
            program: Program::new(&graph),
            head: head.clone(),
            offsets: parameters::offsets(&graph),
            statistics,
            plans: Plans::default(),
            parameters: parameters?,
            graph,
            device,
        })
    }

    /// The same network in another precision; what is trainable stays so.
    ///
    /// # Errors
    /// For want of memory.
    pub fn converted<M: Number>(&self) -> Result<Network<D, M>, NnError>
    where
        D: Backend<M>,
    {
        let described = self.parameters.iter().map(|Parameter { info, tensor, .. }| {
            (info.clone(), converted(&<D as Backend<N>>::numbers(tensor)))
        });
        let (graph, statistics) = (self.graph.clone(), self.statistics.clone());
        let mut network =
            Network::of(graph, &self.head, described, statistics, self.device.clone())?;
        for (new, own) in network.parameters.iter_mut().zip(&self.parameters) {
            new.trainable = own.trainable;
        }
        Ok(network)
    }

    /// The structure.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The device it lives on.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The parameters, in torch's order.
    pub fn parameters(&self) -> &[Parameter<D, N>] {
        &self.parameters
    }

    /// The parameters, to be updated: only those that are trainable may change.
    pub fn parameters_mut(&mut self) -> &mut [Parameter<D, N>] {
        self.plans.head = OnceLock::new();
        if self
            .parameters
            .iter()
            .any(|parameter| parameter.trainable && parameter.info.stage != "head")
        {
            self.plans.backbone = OnceLock::new();
        }
        &mut self.parameters
    }

    /// Chooses what steps make gradients for. What lies below everything trainable runs without a tape and with
    /// running statistics.
    pub fn set_trainable(&mut self, choose: impl Fn(&ParameterInfo) -> bool) {
        for parameter in &mut self.parameters {
            parameter.trainable = choose(&parameter.info);
        }
    }

    /// One training step: forward, mean cross entropy against `targets` (batch, classes; rows of any sum, so that
    /// smoothing and class weights can be folded in), backward. An auxiliary head's cross entropy is added with the factor
    /// [`AUXILIARY_WEIGHT`]. Parameters stay as they are.
    ///
    /// # Errors
    /// When the lengths don't fit, when batch statistics would be over a single value, or for want of memory.
    pub fn step(
        &mut self,
        images: &[f32],
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<D, N>, NnError> {
        self.train(0..self.program.instructions.len(), images, batch, targets, options)
    }

    /// As [`step`](Self::step), of the head alone, from features (batch, feature count). An auxiliary head, which reads no
    /// features, isn't run and gets no gradients.
    ///
    /// # Errors
    /// As those of [`step`](Self::step).
    pub fn step_from_features(
        &mut self,
        features: &[f32],
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<D, N>, NnError> {
        self.train(self.program.head..self.program.auxiliary, features, batch, targets, options)
    }

    /// A step of a range of instructions.
    fn train(
        &mut self,
        range: Range<usize>,
        input: &[f32],
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<D, N>, NnError> {
        self.check_input(range.start, input, batch)?;
        if batch == 0 {
            return Err(NnError::Input("a training step needs a image at least".into()));
        }
        if targets.len() != batch * self.graph.classes() {
            let (found, classes) = (targets.len(), self.graph.classes());
            return Err(NnError::Input(format!(
                "{found} targets for {batch} images of {classes} classes"
            )));
        }
        let input = tensor(&self.device, converted(input))?;
        let auxiliary = self.graph.auxiliary().filter(|_| range.end > self.program.auxiliary);
        let wanted: Vec<usize> = iter::once(self.graph.logits()).chain(auxiliary).collect();
        let mut interpreter = self.interpreter(batch, Pass::Training(*options));
        let outputs = interpreter.run(range, input, &wanted)?;
        let (mut tape, moments) =
            (interpreter.tape.take(), std::mem::take(&mut interpreter.moments));
        drop(interpreter);
        let loss = loss(&outputs, targets, batch, &mut tape).map_err(NnError::device)?;
        for (norm, moments, count) in moments {
            self.statistics[norm].update(&moments, count);
            self.plans = Plans::default();
        }
        let (loss_value, logits) = (
            loss.as_vec(),
            outputs.first().map(|logits| N::singles(D::numbers(logits)).into_owned()),
        );
        let gradients = match tape {
            Some(tape) => loss.put_tape(tape).try_backward().map_err(NnError::device)?,
            None => Gradients::leaky(),
        };
        Ok(Step {
            loss: loss_value.first().map_or(f64::NAN, |&loss| loss.into()),
            logits: logits.unwrap_or_default(),
            gradients,
        })
    }

    /// Logits (batch, classes) in evaluation mode. On the CPU a image's are the same bytes in any batch and with any
    /// number of threads.
    ///
    /// # Errors
    /// When the length doesn't fit, or for want of memory.
    pub fn logits(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, NnError> {
        self.evaluate(0..self.program.auxiliary, images, batch)
    }

    /// Features (batch, feature count) in evaluation mode, before the head; with [`logits`](Self::logits)'s promises.
    ///
    /// # Errors
    /// As those of [`logits`](Self::logits).
    pub fn features(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, NnError> {
        self.evaluate(0..self.program.head, images, batch)
    }

    /// Logits in evaluation mode from features: what the head makes of them.
    ///
    /// # Errors
    /// As those of [`logits`](Self::logits).
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
        if !D::PLANNED {
            return Ok(N::singles(self.interpret(range, input, batch)?.into()).into_owned());
        }
        match (range.start < self.program.head, range.end > self.program.head) {
            (true, true) => {
                Ok(self.head_plan().run(&self.backbone_plan().run(input, batch), batch))
            }
            (true, false) => Ok(self.backbone_plan().run(input, batch)),
            (false, _) => Ok(self.head_plan().run(input, batch)),
        }
    }

    /// Evaluation op by op, a few images at a time.
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
        for part in input.chunks(EVALUATED * per_image.max(1)) {
            let count = part.len() / per_image;
            let part = tensor(&self.device, converted(part))?;
            let made =
                self.interpreter(count, Pass::Evaluation).run(range.clone(), part, &[wanted])?;
            made.iter().for_each(|made| out.extend_from_slice(&D::numbers(made)));
        }
        Ok(out)
    }

    /// Folds norms into convolutions for inference now rather than at the next use. Any change to parameters undoes it.
    pub fn prepare(&mut self) {
        if D::PLANNED {
            self.backbone_plan();
            self.head_plan();
        }
    }

    /// Gives back the memory that inference took; the next one prepares itself again.
    pub fn release(&mut self) {
        self.plans = Plans::default();
    }

    fn backbone_plan(&self) -> &Plan {
        self.plans.backbone.get_or_init(|| self.plan(0..self.program.head))
    }

    fn head_plan(&self) -> &Plan {
        self.plans.head.get_or_init(|| self.plan(self.program.head..self.program.auxiliary))
    }

    fn plan(&self, range: Range<usize>) -> Plan {
        let values = |place: usize| N::singles(D::numbers(&self.parameters[place].tensor));
        Plan::new(&self.graph, &self.program, &self.offsets, &values, &self.statistics, range)
    }

    /// Logits (batch, classes) in evaluation mode, op by op and in the network's own precision: slower than
    /// [`logits`](Self::logits), for numerical comparison.
    ///
    /// # Errors
    /// As those of [`logits`](Self::logits).
    pub fn interpreted_logits(&self, images: &[f32], batch: usize) -> Result<Vec<N>, NnError> {
        self.check_input(0, images, batch)?;
        self.interpret(0..self.program.auxiliary, images, batch)
    }

    fn interpreter(&self, batch: usize, pass: Pass) -> Interpreter<'_, D, N> {
        Interpreter::new(
            &self.graph,
            &self.program,
            &self.offsets,
            &self.parameters,
            &self.statistics,
            batch,
            pass,
        )
    }

    fn check_input(&self, first: usize, input: &[f32], batch: usize) -> Result<(), NnError> {
        let shape = if first == 0 {
            self.graph.input()
        } else {
            self.graph.nodes()[self.graph.features()].shape
        };
        if input.len() == batch * shape.len() {
            return Ok(());
        }
        Err(NnError::Input(format!(
            "{} values for a batch of {batch}, each {} x {} x {}",
            input.len(),
            shape.height,
            shape.width,
            shape.channels
        )))
    }
}

/// Cross entropy of the logits, and of the auxiliary ones with their factor where there are any, against the same targets.
fn loss<D: Backend<N>, N: Number>(
    outputs: &[Flat<D, N>],
    targets: &[f32],
    batch: usize,
    tape: &mut Recorder<D, N>,
) -> Result<Tensor<(), N, D>, D::Err> {
    let mut losses = Vec::with_capacity(outputs.len());
    for logits in outputs {
        losses.push(D::cross_entropy(logits, targets, batch, tape)?);
    }
    let mut losses = losses.into_iter();
    let weight = N::of(AUXILIARY_WEIGHT);
    let (Some(own), auxiliary) = (losses.next(), losses.next()) else {
        unreachable!("the logits are always wanted")
    };
    let Some(auxiliary) = auxiliary else { return Ok(own) };
    let Some(recorded) = tape.take() else { return own.try_add(auxiliary.try_mul(weight)?) };
    let (auxiliary, recorded) = auxiliary.put_tape(recorded).try_mul(weight)?.split_tape();
    let (total, recorded) = own.put_tape(recorded).try_add(auxiliary)?.split_tape();
    *tape = Some(recorded);
    Ok(total)
}

fn tensor<D: Backend<N>, N: Number>(device: &D, values: Vec<N>) -> Result<Flat<D, N>, NnError> {
    let length = values.len();
    let tensor: Result<Flat<D, N>, _> = device.try_tensor_from_vec(values, (length,));
    tensor.map_err(NnError::device)
}
