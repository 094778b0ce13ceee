//! From gradients to new parameters: dfdx's update rules, one configuration a group of parameters, and the clipping of
//! the gradient's global norm. Knows nothing of schedules or epochs.

use super::TrainingError;
use super::buffers;
use super::options::{OptimizerConfig, OptimizerKind, is_head};
use crate::nn::{Backend, Buffer, Number, Parameter, ParameterInfo, Role, WeightTensor};
use dfdx::tensor::Gradients;
use dfdx::tensor_ops::{AdamConfig, Momentum, SgdConfig, WeightDecay};
use std::collections::BTreeMap;

/// What an optimizer remembers of one parameter: SGD's velocity, or Adam's two moments.
struct Moments<D: Backend<N>, N: Number> {
    first: Buffer<D, N>,
    second: Buffer<D, N>,
    /// Steps that were taken before the parameter began to learn.
    before: u64,
}

/// An optimizer with what it remembers of each trainable parameter.
pub struct Optimizer<D: Backend<N>, N: Number> {
    options: OptimizerConfig,
    max_grad_norm: Option<f64>,
    /// Steps taken.
    steps: u64,
    /// By the parameter's place in the network; none for those that don't learn.
    moments: Vec<Option<Moments<D, N>>>,
    /// By the parameter's place, its learning rate at its highest.
    rates: Vec<f64>,
}

/// An update rule with the numbers of one group at one step.
#[derive(Clone, Copy)]
enum Rule {
    Adam(AdamConfig, i32),
    Sgd(SgdConfig),
}

/// One parameter's update.
struct Update<'a, D: Backend<N>, N: Number> {
    rule: Rule,
    parameter: &'a mut Parameter<D, N>,
    moments: &'a mut Moments<D, N>,
    gradient: Buffer<D, N>,
}

impl<D: Backend<N>, N: Number> Optimizer<D, N> {
    /// An optimizer of the parameters that are trainable now, remembering nothing yet.
    pub fn new(
        options: &OptimizerConfig,
        max_grad_norm: Option<f64>,
        parameters: &[Parameter<D, N>],
        device: &D,
    ) -> Result<Self, TrainingError> {
        let infos: Vec<&ParameterInfo> =
            parameters.iter().map(|parameter| &parameter.info).collect();
        let mut optimizer = Optimizer {
            options: options.clone(),
            max_grad_norm,
            steps: 0,
            moments: parameters.iter().map(|_| None).collect(),
            rates: rates(options, &infos),
        };
        optimizer.follow(parameters, 0, device)?;
        Ok(optimizer)
    }

    /// Takes up parameters that have become trainable when `steps` steps were taken, remembering nothing of them yet.
    pub fn follow(
        &mut self,
        parameters: &[Parameter<D, N>],
        steps: u64,
        device: &D,
    ) -> Result<(), TrainingError> {
        let second = matches!(self.options.kind, OptimizerKind::Adamw);
        for (parameter, moments) in parameters.iter().zip(&mut self.moments) {
            if parameter.trainable && moments.is_none() {
                let count = parameter.info.shape.iter().product();
                *moments = Some(Moments {
                    first: buffers::zeros::<D, N>(device, count)?,
                    second: buffers::zeros::<D, N>(device, if second { count } else { 0 })?,
                    before: steps,
                });
            }
        }
        Ok(())
    }

    /// Moves the trainable parameters along their gradients, with learning rates at `factor` of their height. The global
    /// norm of the gradient before clipping, where it was asked for; an infinite or undefined one moves nothing.
    pub fn step(
        &mut self,
        parameters: &mut [Parameter<D, N>],
        mut gradients: Gradients<N, D>,
        factor: f64,
        device: &D,
    ) -> Result<Option<f64>, TrainingError> {
        let (weights, biases) = (self.options.weight_decay, 0.0);
        self.steps += 1;
        let mut updates = Vec::with_capacity(self.moments.len());
        for ((parameter, moments), rate) in
            parameters.iter_mut().zip(&mut self.moments).zip(&self.rates)
        {
            let Some(moments) = moments else { continue };
            let gradient =
                gradients.get_or_alloc_mut(&parameter.tensor).map_err(TrainingError::device)?;
            let gradient = std::mem::replace(gradient, buffers::zeros::<D, N>(device, 0)?);
            let decays = matches!(parameter.info.role, Role::ConvWeight | Role::LinearWeight);
            let (decay, step) =
                (if decays { weights } else { biases }, self.steps - moments.before);
            let rule = rule(&self.options, rate * factor, decay, step);
            updates.push(Update { rule, parameter, moments, gradient });
        }
        let norm = match self.max_grad_norm {
            Some(limit) => Some(clip(&mut updates, limit, device)?),
            None => None,
        };
        if norm.is_none_or(f64::is_finite) {
            apply_all(updates)?;
        }
        Ok(norm)
    }

    /// What it remembers, by names such as `first/fc.weight`, and the number of steps taken.
    pub fn save(
        &self,
        parameters: &[Parameter<D, N>],
        device: &D,
    ) -> Result<BTreeMap<String, WeightTensor<N>>, TrainingError> {
        let mut tensors = BTreeMap::new();
        for (parameter, moments) in parameters.iter().zip(&self.moments) {
            let Some(moments) = moments else { continue };
            for (which, buffer) in [("first", &moments.first), ("second", &moments.second)] {
                let data = buffers::read::<D, N>(device, buffer)?;
                let tensor = WeightTensor { shape: vec![data.len()], data };
                tensors.insert(format!("{which}/{}", parameter.info.name), tensor);
            }
        }
        Ok(tensors)
    }

    /// Remembers what [`save`](Self::save) gave after `steps` steps. False where it doesn't fit these parameters; then
    /// nothing has changed.
    pub fn restore(
        &mut self,
        parameters: &[Parameter<D, N>],
        mut tensors: BTreeMap<String, WeightTensor<N>>,
        steps: u64,
        device: &D,
    ) -> Result<bool, TrainingError> {
        let mut restored = Vec::with_capacity(self.moments.len());
        for (parameter, moments) in parameters.iter().zip(&self.moments) {
            let Some(moments) = moments else {
                restored.push(None);
                continue;
            };
            let mut take = |which: &str, like: &Buffer<D, N>| {
                let tensor = tensors.remove(&format!("{which}/{}", parameter.info.name));
                tensor.filter(|tensor| tensor.data.len() == buffers::length::<D, N>(device, like))
            };
            let (Some(first), Some(second)) =
                (take("first", &moments.first), take("second", &moments.second))
            else {
                return Ok(false);
            };
            let (first, second) = (
                buffers::write::<D, N>(device, first.data)?,
                buffers::write::<D, N>(device, second.data)?,
            );
            restored.push(Some(Moments { first, second, before: moments.before }));
        }
        (self.moments, self.steps) = (restored, steps);
        Ok(true)
    }
}

/// The learning rate of each parameter at its highest: by group, and within the backbone by depth.
fn rates(options: &OptimizerConfig, parameters: &[&ParameterInfo]) -> Vec<f64> {
    let backbone = options.backbone_learning_rate.unwrap_or(options.learning_rate);
    let top = parameters
        .iter()
        .filter(|info| !is_head(&info.group))
        .map(|info| info.depth)
        .max()
        .unwrap_or(0);
    let rate = |info: &&ParameterInfo| match is_head(&info.group) {
        true => options.learning_rate,
        false => backbone * options.layer_decay.powi((top - info.depth).min(1000) as i32),
    };
    parameters.iter().map(rate).collect()
}

fn rule(options: &OptimizerConfig, lr: f64, decay: f64, step: u64) -> Rule {
    match options.kind {
        OptimizerKind::Adamw => {
            let weight_decay = (decay > 0.0).then_some(WeightDecay::Decoupled(decay));
            let config =
                AdamConfig { lr, betas: options.betas, eps: options.epsilon, weight_decay };
            // The bias correction is 1 long before the counter ends.
            Rule::Adam(config, i32::try_from(step).unwrap_or(i32::MAX))
        }
        OptimizerKind::Sgd => {
            let momentum = (options.momentum > 0.0).then_some(match options.nesterov {
                true => Momentum::Nesterov(options.momentum),
                false => Momentum::Classic(options.momentum),
            });
            Rule::Sgd(SgdConfig {
                lr,
                momentum,
                weight_decay: (decay > 0.0).then_some(WeightDecay::L2(decay)),
            })
        }
    }
}

/// Brings the norm of all gradients together down to `limit`, and gives what it was.
fn clip<D: Backend<N>, N: Number>(
    updates: &mut [Update<D, N>],
    limit: f64,
    device: &D,
) -> Result<f64, TrainingError> {
    let mut sum = 0.0;
    for update in updates.iter() {
        sum += buffers::square_sum::<D, N>(device, &update.gradient)?;
    }
    let norm = sum.sqrt();
    if norm.is_finite() && norm > limit {
        for update in updates {
            buffers::scale::<D, N>(device, &mut update.gradient, limit / norm)?;
        }
    }
    Ok(norm)
}

/// Every element is updated by itself, so that order changes nothing.
fn apply_all<D: Backend<N>, N: Number>(updates: Vec<Update<D, N>>) -> Result<(), TrainingError> {
    let parts = |Update { rule, parameter, moments, gradient }| {
        (&mut parameter.tensor, (rule, moments, gradient))
    };
    D::for_each(updates.into_iter().map(parts).collect(), |tensor, (rule, moments, gradient)| {
        match rule {
            Rule::Adam(config, step) => {
                config.try_update(step, tensor, &mut moments.first, &mut moments.second, &gradient)
            }
            Rule::Sgd(config) => config.try_update(tensor, &mut moments.first, &gradient),
        }
        .map_err(TrainingError::device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Cpu, Shape};
    use crate::training::HEAD;
    use dfdx::tensor::TensorFromVec;

    const START: [f32; 3] = [0.5, -1.0, 2.0];
    const GRADIENTS: [[f32; 3]; 3] = [[0.1, -0.2, 0.3], [0.4, 0.05, -0.6], [-0.7, 0.8, 0.9]];

    fn parameter(
        device: &Cpu,
        name: &str,
        role: Role,
        stage: &str,
        values: &[f32],
    ) -> Parameter<Cpu> {
        let info = ParameterInfo {
            name: name.to_owned(),
            shape: vec![values.len()],
            role,
            group: stage.to_owned(),
            depth: 0,
            source: Shape::vector(values.len()),
        };
        let tensor = device.tensor_from_vec(values.to_vec(), (values.len(),));
        Parameter { info, tensor, trainable: true }
    }

    fn options(kind: OptimizerKind, rate: f64, decay: f64) -> OptimizerConfig {
        OptimizerConfig {
            kind,
            learning_rate: rate,
            backbone_learning_rate: None,
            layer_decay: 1.0,
            weight_decay: decay,
            momentum: 0.0,
            nesterov: false,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
        }
    }

    fn gradients(
        device: &Cpu,
        parameters: &[Parameter<Cpu>],
        values: &[f32],
    ) -> Gradients<f32, Cpu> {
        let mut gradients = Gradients::leaky();
        for parameter in parameters {
            *gradients.get_or_alloc_mut(&parameter.tensor).unwrap() =
                buffers::write(device, values.to_vec()).unwrap();
        }
        gradients
    }

    /// Three steps of one parameter.
    fn run(options: &OptimizerConfig, role: Role) -> Vec<f32> {
        let device = Cpu::default();
        let mut parameters = vec![parameter(&device, "x", role, HEAD, &START)];
        let mut optimizer = Optimizer::new(options, None, &parameters, &device).unwrap();
        for values in &GRADIENTS {
            let gradients = gradients(&device, &parameters, values);
            optimizer.step(&mut parameters, gradients, 1.0, &device).unwrap();
        }
        parameters[0].tensor.as_vec()
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 5e-7, "{found:?} is not {expected:?}");
        }
    }

    /// The numbers of PyTorch 2.15:
    ///
    /// ```python
    /// import torch
    /// def run(make):
    ///     p = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
    ///     o = make([p])
    ///     for g in ([0.1, -0.2, 0.3], [0.4, 0.05, -0.6], [-0.7, 0.8, 0.9]):
    ///         p.grad = torch.tensor(g); o.step()
    ///     print(p.detach().tolist())
    /// run(lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1))
    /// run(lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0))
    /// run(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01))
    /// run(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01))
    /// run(lambda p: torch.optim.SGD(p, lr=0.1))
    /// ```
    #[test]
    fn steps_are_those_of_pytorch() {
        let adamw = options(OptimizerKind::Adamw, 0.01, 0.1);
        close(&run(&adamw, Role::ConvWeight), &[0.48172346, -0.9876147, 1.9842511]);
        // Norms and biases don't decay.
        for role in [Role::Bias, Role::NormWeight, Role::NormBias] {
            close(&run(&adamw, role), &[0.48319313, -0.99058694, 1.9902287]);
        }
        let sgd = OptimizerConfig { momentum: 0.9, ..options(OptimizerKind::Sgd, 0.1, 0.01) };
        close(&run(&sgd, Role::LinearWeight), &[0.46417537, -1.0297657, 1.9315436]);
        let nesterov = OptimizerConfig { nesterov: true, ..sgd };
        close(&run(&nesterov, Role::LinearWeight), &[0.48643976, -1.0889226, 1.872452]);
        let plain = options(OptimizerKind::Sgd, 0.1, 0.0);
        close(&run(&plain, Role::LinearWeight), &[0.52000004, -1.065, 1.9399999]);
    }

    #[test]
    fn one_step_is_the_formula() {
        // SGD: p - lr (g + decay p). AdamW's first: p - lr decay p - lr g/(|g| + eps).
        let device = Cpu::default();
        for (kind, expected) in [
            (OptimizerKind::Sgd, 2.0 - 0.1 * (0.5 + 0.01 * 2.0)),
            (OptimizerKind::Adamw, 2.0 - 0.1 * 0.01 * 2.0 - 0.1),
        ] {
            let mut parameters = vec![parameter(&device, "x", Role::LinearWeight, HEAD, &[2.0])];
            let mut optimizer =
                Optimizer::new(&options(kind, 0.1, 0.01), None, &parameters, &device).unwrap();
            let gradients = gradients(&device, &parameters, &[0.5]);
            optimizer.step(&mut parameters, gradients, 1.0, &device).unwrap();
            close(&parameters[0].tensor.as_vec(), &[expected]);
        }
    }

    #[test]
    fn groups_have_their_own_rates_and_what_is_frozen_stays() {
        let device = Cpu::default();
        let mut parameters = vec![
            parameter(&device, "a", Role::ConvWeight, "layer1", &[1.0]),
            parameter(&device, "b", Role::LinearWeight, HEAD, &[1.0]),
            parameter(&device, "c", Role::ConvWeight, "conv1", &[1.0]),
        ];
        parameters[2].trainable = false;
        let options = OptimizerConfig {
            backbone_learning_rate: Some(0.01),
            ..options(OptimizerKind::Sgd, 0.1, 0.0)
        };
        let mut optimizer = Optimizer::new(&options, None, &parameters, &device).unwrap();
        let gradients = gradients(&device, &parameters, &[1.0]);
        optimizer.step(&mut parameters, gradients, 0.5, &device).unwrap();
        let values: Vec<f32> =
            parameters.iter().flat_map(|parameter| parameter.tensor.as_vec()).collect();
        close(&values, &[0.995, 0.95, 1.0]);
    }

    #[test]
    fn each_stage_takes_a_share_of_the_rate_above_it() {
        let device = Cpu::default();
        let mut parameters: Vec<Parameter<Cpu>> =
            [("conv1", 0), ("layer1", 1), ("layer2", 2), (HEAD, 3)]
                .map(|(stage, depth)| {
                    let mut parameter =
                        parameter(&device, stage, Role::LinearWeight, stage, &[1.0]);
                    parameter.info.depth = depth;
                    parameter
                })
                .into();
        let group = OptimizerConfig {
            backbone_learning_rate: Some(0.04),
            ..options(OptimizerKind::Sgd, 0.1, 0.0)
        };
        let options = OptimizerConfig { layer_decay: 0.5, ..group };
        let mut optimizer = Optimizer::new(&options, None, &parameters, &device).unwrap();
        let gradients = gradients(&device, &parameters, &[1.0]);
        optimizer.step(&mut parameters, gradients, 1.0, &device).unwrap();
        let values: Vec<f32> =
            parameters.iter().flat_map(|parameter| parameter.tensor.as_vec()).collect();
        close(&values, &[0.99, 0.98, 0.96, 0.9]);
    }

    #[test]
    fn what_thaws_later_counts_its_own_steps() {
        // Adam's first step has the size of the rate, whenever it is taken.
        let device = Cpu::default();
        let mut parameters = vec![
            parameter(&device, "a", Role::Bias, "layer1", &[0.0]),
            parameter(&device, "b", Role::Bias, HEAD, &[0.0]),
        ];
        parameters[0].trainable = false;
        let options = options(OptimizerKind::Adamw, 0.1, 0.0);
        let mut optimizer = Optimizer::new(&options, None, &parameters, &device).unwrap();
        for steps in 0..5 {
            if steps == 4 {
                parameters[0].trainable = true;
                optimizer.follow(&parameters, 4, &device).unwrap();
            }
            let gradients = gradients(&device, &parameters, &[0.3]);
            optimizer.step(&mut parameters, gradients, 1.0, &device).unwrap();
        }
        close(&parameters[0].tensor.as_vec(), &[-0.1]);
        assert!((parameters[1].tensor.as_vec()[0] + 0.5).abs() < 1e-5);
    }

    #[test]
    fn the_norm_over_all_parameters_is_clipped() {
        let device = Cpu::default();
        let mut parameters = vec![
            parameter(&device, "a", Role::Bias, HEAD, &[0.0]),
            parameter(&device, "b", Role::Bias, HEAD, &[0.0]),
        ];
        let options = options(OptimizerKind::Sgd, 1.0, 0.0);
        let mut optimizer = Optimizer::new(&options, Some(1.0), &parameters, &device).unwrap();
        let mut large = gradients(&device, &parameters, &[3.0]);
        *large.get_or_alloc_mut(&parameters[1].tensor).unwrap() =
            buffers::write(&device, vec![4.0]).unwrap();
        assert_eq!(optimizer.step(&mut parameters, large, 1.0, &device).unwrap(), Some(5.0));
        close(&[parameters[0].tensor.as_vec()[0], parameters[1].tensor.as_vec()[0]], &[-0.6, -0.8]);
        let small = gradients(&device, &parameters, &[0.1]);
        optimizer.step(&mut parameters, small, 1.0, &device).unwrap();
        close(&[parameters[0].tensor.as_vec()[0]], &[-0.7]);
        let infinite = gradients(&device, &parameters, &[f32::INFINITY]);
        let norm = optimizer.step(&mut parameters, infinite, 1.0, &device).unwrap();
        assert!(norm.is_some_and(|norm| !norm.is_finite()));
        close(&[parameters[0].tensor.as_vec()[0]], &[-0.7]);
    }

    #[test]
    fn what_it_remembers_can_be_kept() {
        let device = Cpu::default();
        for kind in [OptimizerKind::Adamw, OptimizerKind::Sgd] {
            let options = OptimizerConfig { momentum: 0.9, ..options(kind, 0.1, 0.01) };
            let mut whole = vec![parameter(&device, "x", Role::LinearWeight, HEAD, &START)];
            let mut optimizer = Optimizer::new(&options, None, &whole, &device).unwrap();
            let mut parts = Vec::new();
            for (index, values) in GRADIENTS.iter().enumerate() {
                if index == 2 {
                    parts = vec![parameter(
                        &device,
                        "x",
                        Role::LinearWeight,
                        HEAD,
                        &whole[0].tensor.as_vec(),
                    )];
                    let mut other = Optimizer::new(&options, None, &parts, &device).unwrap();
                    let kept = optimizer.save(&whole, &device).unwrap();
                    assert!(!other.restore(&parts, BTreeMap::new(), 2, &device).unwrap());
                    assert!(other.restore(&parts, kept, 2, &device).unwrap());
                    let gradients = gradients(&device, &parts, values);
                    other.step(&mut parts, gradients, 1.0, &device).unwrap();
                }
                let gradients = gradients(&device, &whole, values);
                optimizer.step(&mut whole, gradients, 1.0, &device).unwrap();
            }
            assert_eq!(parts[0].tensor.as_vec(), whole[0].tensor.as_vec());
        }
    }
}
