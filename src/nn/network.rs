//! A graph with its parameters on a device: training steps, logits, features, weights in and out. How instructions run is
//! the interpreter's.

use super::graph::{Graph, Head};
use super::interpreter::{Interpreter, Pass};
use super::ops::{Backend, Buffer, Flat};
use super::parameters::{self, Parameter, ParameterInfo, Statistics};
use super::plan::Plan;
use super::program::Program;
use super::weights::{WeightTensor, Weights};
use super::{NnError, backbones};
use dfdx::optim::{Momentum, WeightDecay};
use dfdx::shapes::HasShape;
use dfdx::tensor::{Gradients, PutTape, Storage, Tensor};
use dfdx::tensor_ops::{Backward, SgdConfig, TryMul};
use std::sync::OnceLock;

/// With which statistics batch norms normalise in a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchNorm {
    /// With the batch's, and the running ones are updated. Norms below everything trainable use the running ones.
    Batch,
    /// With the running ones, which stay as they are; gradients flow through.
    Running,
}

/// How a training step is made.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions {
    /// The root of randomness.
    pub seed: u64,
    /// The step's number since the start of training: dropout masks come from (seed, step, layer).
    pub step: u64,
    /// Statistics of batch norms.
    pub batch_norm: BatchNorm,
}

/// What a training step gives.
pub struct Step<D: Backend> {
    /// Mean cross entropy of the batch.
    pub loss: f32,
    /// (batch, classes), in training mode.
    pub logits: Vec<f32>,
    /// Of the trainable parameters: `gradients.get(&parameter.tensor)`, in our layout.
    pub gradients: Gradients<f32, D>,
}

/// What loading weights left alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Parameters of the network that keep their values, such as a new head's.
    pub kept: Vec<String>,
    /// Tensors of the file that the network has no place for, such as the original classifier.
    pub unused: Vec<String>,
}

/// A network on a device.
pub struct Network<D: Backend> {
    graph: Graph,
    program: Program,
    head: Head,
    /// For each node, its first parameter's index.
    offsets: Vec<usize>,
    parameters: Vec<Parameter<D>>,
    statistics: Vec<Statistics>,
    device: D,
    plan: OnceLock<Plan>,
}

/// Pictures that run at once in evaluation on devices without plans.
const EVALUATED: usize = 32;

impl<D: Backend> Network<D> {
    /// A backbone with a head for pictures of `input` (height, width), initialised from `seed` as torchvision does.
    ///
    /// # Errors
    /// For an unknown backbone, a head or an input size that doesn't fit, or want of memory.
    pub fn new(backbone: &str, head: &Head, input: (usize, usize), seed: u64, device: D) -> Result<Self, NnError> {
        let names = backbones::backbones().iter().map(|info| info.name);
        let info = backbones::backbone(backbone).ok_or_else(|| NnError::unknown("backbone", backbone, names))?;
        Network::from_graph(info.graph(head, input)?, head, seed, device)
    }

    /// A network of any graph that ends in `head`.
    ///
    /// # Errors
    /// For want of memory.
    pub fn from_graph(graph: Graph, head: &Head, seed: u64, device: D) -> Result<Self, NnError> {
        let described = parameters::describe(&graph);
        let initial = parameters::initial(&described, seed);
        let mut parameters = Vec::with_capacity(described.len());
        for (info, values) in described.into_iter().zip(initial) {
            parameters.push(Parameter { tensor: tensor(&device, values)?, info, trainable: true });
        }
        Ok(Network {
            program: Program::new(&graph),
            head: head.clone(),
            offsets: parameters::offsets(&graph),
            statistics: parameters::statistics(&graph),
            plan: OnceLock::new(),
            graph,
            parameters,
            device,
        })
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
    pub fn parameters(&self) -> &[Parameter<D>] {
        &self.parameters
    }

    /// The parameters, to be updated.
    pub fn parameters_mut(&mut self) -> &mut [Parameter<D>] {
        self.plan = OnceLock::new();
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
    /// smoothing and class weights can be folded in), backward. Parameters stay as they are.
    ///
    /// # Errors
    /// When the lengths don't fit, when batch statistics would be over a single value, or for want of memory.
    pub fn step(
        &mut self,
        pictures: &[f32],
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<D>, NnError> {
        self.train(0, pictures, batch, targets, options)
    }

    /// As [`step`](Self::step), of the head alone, from features (batch, feature count).
    ///
    /// # Errors
    /// As those of [`step`](Self::step).
    pub fn step_from_features(
        &mut self,
        features: &[f32],
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<D>, NnError> {
        self.train(self.program.head, features, batch, targets, options)
    }

    /// A step of the instructions from `first` on.
    fn train(
        &mut self,
        first: usize,
        input: &[f32],
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<D>, NnError> {
        self.check_input(first, input, batch)?;
        if batch == 0 {
            return Err(NnError::Input("a training step needs a picture at least".into()));
        }
        if targets.len() != batch * self.graph.classes() {
            let (found, classes) = (targets.len(), self.graph.classes());
            return Err(NnError::Input(format!("{found} targets for {batch} pictures of {classes} classes")));
        }
        let input = tensor(&self.device, input.to_vec())?;
        let mut interpreter = self.interpreter(batch, Pass::Training(*options));
        let logits = interpreter.run(first, self.program.instructions.len(), input)?;
        let loss = D::cross_entropy(&logits, targets, batch, &mut interpreter.tape).map_err(NnError::device)?;
        let (tape, moments) = (interpreter.tape.take(), std::mem::take(&mut interpreter.moments));
        drop(interpreter);
        for (norm, moments, count) in moments {
            self.statistics[norm].update(&moments, count);
            self.plan = OnceLock::new();
        }
        let (loss_value, logits) = (loss.as_vec(), logits.as_vec());
        let gradients = match tape {
            Some(tape) => loss.put_tape(tape).try_backward().map_err(NnError::device)?,
            None => Gradients::leaky(),
        };
        Ok(Step { loss: loss_value.first().copied().unwrap_or(f32::NAN), logits, gradients })
    }

    /// Logits (batch, classes) in evaluation mode. On the CPU a picture's are the same bytes in any batch and with any
    /// number of threads.
    ///
    /// # Errors
    /// When the length doesn't fit, or for want of memory.
    pub fn logits(&self, pictures: &[f32], batch: usize) -> Result<Vec<f32>, NnError> {
        self.evaluate(0, self.program.instructions.len(), pictures, batch)
    }

    /// Features (batch, feature count) in evaluation mode, before the head; with [`logits`](Self::logits)'s promises.
    ///
    /// # Errors
    /// As those of [`logits`](Self::logits).
    pub fn features(&self, pictures: &[f32], batch: usize) -> Result<Vec<f32>, NnError> {
        self.evaluate(0, self.program.head, pictures, batch)
    }

    /// Logits in evaluation mode from features: what the head makes of them.
    ///
    /// # Errors
    /// As those of [`logits`](Self::logits).
    pub fn logits_from_features(&self, features: &[f32], batch: usize) -> Result<Vec<f32>, NnError> {
        self.evaluate(self.program.head, self.program.instructions.len(), features, batch)
    }

    fn evaluate(&self, first: usize, last: usize, input: &[f32], batch: usize) -> Result<Vec<f32>, NnError> {
        self.check_input(first, input, batch)?;
        if D::PLANNED {
            return Ok(self.plan().run(first, last, input, batch));
        }
        self.interpret(first, last, input, batch)
    }

    /// Evaluation op by op, a few pictures at a time.
    fn interpret(&self, first: usize, last: usize, input: &[f32], batch: usize) -> Result<Vec<f32>, NnError> {
        let per_picture = input.len() / batch.max(1);
        let mut out = Vec::new();
        for part in input.chunks(EVALUATED * per_picture.max(1)) {
            let count = part.len() / per_picture;
            let part = tensor(&self.device, part.to_vec())?;
            out.extend(self.interpreter(count, Pass::Evaluation).run(first, last, part)?.as_vec());
        }
        Ok(out)
    }

    /// Folds norms into convolutions for inference now rather than at the next use. Any change to parameters undoes it.
    pub fn prepare(&mut self) {
        if D::PLANNED {
            self.plan();
        }
    }

    fn plan(&self) -> &Plan {
        self.plan.get_or_init(|| {
            let values: Vec<Vec<f32>> = self.parameters.iter().map(|parameter| parameter.tensor.as_vec()).collect();
            Plan::new(&self.graph, &self.program, &self.offsets, &values, &self.statistics)
        })
    }

    #[cfg(test)]
    pub(super) fn interpreted_logits(&self, pictures: &[f32], batch: usize) -> Result<Vec<f32>, NnError> {
        self.interpret(0, self.program.instructions.len(), pictures, batch)
    }

    fn interpreter(&self, batch: usize, pass: Pass) -> Interpreter<'_, D> {
        Interpreter::new(&self.graph, &self.program, &self.offsets, &self.parameters, &self.statistics, batch, pass)
    }

    fn check_input(&self, first: usize, input: &[f32], batch: usize) -> Result<(), NnError> {
        let shape = if first == 0 { self.graph.input() } else { self.graph.nodes()[self.graph.features()].shape };
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

    /// Takes weights by name. The tensors of the original classifier are left out where the head is dense and they don't
    /// fit it; what was left out is said.
    ///
    /// # Errors
    /// [`NnError::Mismatch`] names every tensor that is missing or has another shape, with both shapes; nothing was taken
    /// then.
    pub fn load(&mut self, weights: &Weights) -> Result<Loaded, NnError> {
        let mut loaded = Loaded::default();
        let mut mismatches = Vec::new();
        let mut taken = std::collections::BTreeSet::new();
        let mut values = Vec::with_capacity(self.parameters.len());
        let replaces = self.replaces_classifier(weights);
        for Parameter { info, .. } in &self.parameters {
            values.push(match found(weights, &info.name, &info.shape) {
                Ok(tensor) => {
                    taken.insert(info.name.clone());
                    Some(parameters::from_torch(info, &tensor.data))
                }
                Err(_) if replaces && info.stage == "head" => {
                    loaded.kept.push(info.name.clone());
                    None
                }
                Err(reason) => {
                    mismatches.push(reason);
                    None
                }
            });
        }
        let mut statistics = self.statistics.clone();
        for norm in &mut statistics {
            let (mean, variance) = norm.names();
            let shape = [norm.mean.len()];
            for (name, values) in [(mean, &mut norm.mean), (variance, &mut norm.variance)] {
                match found(weights, &name, &shape) {
                    Ok(tensor) => values.copy_from_slice(&tensor.data),
                    Err(reason) => mismatches.push(reason),
                }
                taken.insert(name);
            }
            if norm.variance.iter().any(|variance| *variance < 0.0) {
                mismatches.push(format!("{}.running_var holds a negative variance", norm.name));
            }
        }
        if !mismatches.is_empty() {
            return Err(NnError::Mismatch(mismatches));
        }
        for (parameter, values) in self.parameters.iter_mut().zip(values) {
            if let Some(values) = values {
                parameter.tensor = tensor(&self.device, values)?;
            }
        }
        loaded.unused = weights.tensors.keys().filter(|name| !taken.contains(*name)).cloned().collect();
        self.statistics = statistics;
        self.plan = OnceLock::new();
        Ok(loaded)
    }

    /// Whether the weights' classifier isn't that of this network's dense head as a whole: then the head stays new.
    fn replaces_classifier(&self, weights: &Weights) -> bool {
        let mut head = self.parameters.iter().filter(|parameter| parameter.info.stage == "head");
        matches!(self.head, Head::Dense { .. })
            && head.any(|parameter| found(weights, &parameter.info.name, &parameter.info.shape).is_err())
    }

    /// Values in our layout, such as a gradient, in torchvision's.
    pub fn torch_layout(&self, info: &ParameterInfo, values: &[f32]) -> Vec<f32> {
        parameters::to_torch(info, values)
    }

    /// Parameters and buffers under torchvision's names and in its layouts; no metadata.
    pub fn save(&self) -> Weights {
        let mut weights = Weights::default();
        for Parameter { info, tensor, .. } in &self.parameters {
            let data = parameters::to_torch(info, &tensor.as_vec());
            weights.tensors.insert(info.name.clone(), WeightTensor { shape: info.shape.clone(), data });
        }
        for norm in &self.statistics {
            let (mean, variance) = norm.names();
            for (name, values) in [(mean, &norm.mean), (variance, &norm.variance)] {
                weights.tensors.insert(name, WeightTensor { shape: vec![values.len()], data: values.clone() });
            }
        }
        weights
    }
}

/// The tensor of this name and shape, or a sentence that says what is there instead.
fn found<'a>(weights: &'a Weights, name: &str, shape: &[usize]) -> Result<&'a WeightTensor, String> {
    match weights.tensors.get(name) {
        Some(tensor) if tensor.shape == shape && tensor.data.len() == shape.iter().product::<usize>() => Ok(tensor),
        Some(tensor) => Err(format!("{name} is {:?}, the network's is {shape:?}", tensor.shape)),
        None => Err(format!("{name} {shape:?} is missing")),
    }
}

fn tensor<D: Backend>(device: &D, values: Vec<f32>) -> Result<Flat<D>, NnError> {
    let length = values.len();
    let tensor: Result<Tensor<(usize,), f32, D>, _> = device.try_tensor_from_vec(values, (length,));
    tensor.map_err(NnError::device)
}

impl<D: Backend> Step<D> {
    /// The gradient's buffer of a trainable parameter, without a copy.
    ///
    /// # Errors
    /// For want of memory, where it has no gradient yet and zeros are made.
    pub fn gradient(&mut self, parameter: &Parameter<D>) -> Result<&mut Buffer<D>, NnError> {
        self.gradients.get_or_alloc_mut(&parameter.tensor).map_err(NnError::device)
    }

    /// The Euclidean norm of the gradients of trainable parameters together.
    pub fn gradient_norm(&self, parameters: &[Parameter<D>]) -> f64 {
        let trainable = parameters.iter().filter(|parameter| parameter.trainable);
        let squares = |parameter: &Parameter<D>| {
            self.gradients.get(&parameter.tensor).as_vec().iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>()
        };
        trainable.map(squares).sum::<f64>().sqrt()
    }

    /// Multiplies the gradients of trainable parameters, as clipping does.
    ///
    /// # Errors
    /// For want of memory.
    pub fn scale_gradients(&mut self, parameters: &[Parameter<D>], factor: f32) -> Result<(), NnError> {
        for parameter in parameters.iter().filter(|parameter| parameter.trainable) {
            let mut scaled = self.gradients.get(&parameter.tensor).try_mul(factor).map_err(NnError::device)?;
            // dfdx lends no tensor's buffer, but its SGD kernel computes velocity = gradient + decay * parameter.
            let copy =
                SgdConfig { lr: 0.0, momentum: Some(Momentum::Classic(0.0)), weight_decay: Some(WeightDecay::L2(1.0)) };
            let length = scaled.shape().0;
            let zeros = <D as Storage<f32>>::try_alloc_len(scaled.device(), length).map_err(NnError::device)?;
            let slot = self.gradients.get_or_alloc_mut(&parameter.tensor).map_err(NnError::device)?;
            copy.try_update(&mut scaled, slot, &zeros).map_err(NnError::device)?;
        }
        Ok(())
    }
}
